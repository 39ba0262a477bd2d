"""The templates of what is deployed: shell, YAML and the like."""

from twinmail.template import Templates

render = Templates("twinmail.deploy", escaped=False).render
