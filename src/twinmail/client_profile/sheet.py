"""The set-up sheet: one page of HTML to print or to send, for one address."""

import segno

from twinmail.client_profile.site import Site
from twinmail.client_profile.template import render
from twinmail.config import Config


def sheet(config: Config, site: Site, mailbox: str, address: str, smtp_user: str = "") -> bytes:
    """The sheet for *address* of *mailbox*; it holds no password.

    Args:
        smtp_user: user name for SES, if it is known.
    """
    url = f"{site.webmail}/mobileconfig/{address}.mobileconfig" if site.webmail else ""
    # Level M: a printed sheet may have a crease.
    code = segno.make(url, error="m", micro=False).svg_inline(scale=3, omitsize=False) if url else ""
    return render(
        "sheet.html.j2",
        address=address,
        mailbox=mailbox,
        name=config.mailboxes[mailbox].full_name or mailbox,
        domain=config.domains[0],
        site=site,
        smtp_user=smtp_user,
        profile_url=url,
        qr_code=code,
    ).encode()
