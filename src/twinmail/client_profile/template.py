"""The templates of what mail programs read: all of them are XML or HTML."""

from twinmail.template import Templates

render = Templates("twinmail.client_profile", escaped=True).render
