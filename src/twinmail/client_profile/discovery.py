"""The files that clients look for when all they have is an address.

Thunderbird, K-9 and FairEmail read autoconfig (draft-ietf-mailmaint-autoconfig), Outlook reads autodiscover
(MS-OXDSCLI, "plain old XML").
"""

from twinmail.client_profile.site import Site
from twinmail.client_profile.template import render
from twinmail.config import Config

ADDRESS = "%EMAILADDRESS%"
"""Stands for the address of the asking user: autoconfig's own place holder, and ours in autodiscover."""


def autoconfig(config: Config, site: Site) -> bytes:
    """``config-v1.1.xml`` for every domain.

    Mail goes out over our own servers where they take it, because there one password does; SES's endpoint
    wants credentials that an address does not tell.
    """
    return render("autoconfig.xml.j2", config=config, site=site, address=ADDRESS).encode()


def autodiscover(site: Site) -> bytes:
    """The answer to Outlook, with `ADDRESS` where the (escaped) address of the user belongs."""
    return render("autodiscover.xml.j2", site=site, address=ADDRESS).encode()
