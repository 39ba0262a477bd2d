"""Messages that the tests receive."""

import time
from collections.abc import Callable
from email import policy
from email.message import EmailMessage
from typing import TypeVar

from tests.browser.site import WEBMAIL, Site
from tests.e2e.mail import Accepted

T = TypeVar("T")
SECONDS = 60

# One red pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003"
    "010100c9fe92ef0000000049454e44ae426082"
)

# Mountains.
PICTURE = b"""<svg xmlns="http://www.w3.org/2000/svg" width="420" height="130"><rect width="420" height="130" fill="#cfe8f5"/>
<path d="M0 130 90 30 150 95 230 10 320 100 370 60 420 130z" fill="#61a5c2"/>
<path d="M0 130 60 90 140 130 250 70 330 130 400 100 420 130z" fill="#2a6f97"/></svg>
"""


def written(
    subject: str,
    to: str,
    text: str = "Hello\n",
    html: str = "",
    sender: str = "Zoë Example <zoe@example.com>",
) -> EmailMessage:
    """A message as mail programs write it, with an HTML part if there is *html*."""
    message = EmailMessage(policy=policy.SMTP)
    message["From"] = sender
    message["To"] = to
    message["Subject"] = subject
    message["Message-ID"] = f"<{subject.encode().hex()}@example.com>"
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    return message


def deliver(site: Site, user: str, message: EmailMessage | bytes, folder: str = "INBOX") -> Accepted:
    """Send it to *user* and wait until the webmail's server has it in *folder*."""
    data = message if isinstance(message, bytes) else bytes(message)
    accepted = site.sender.send(data, [f"{user}@example.org"])
    with site.client(user, WEBMAIL) as client:
        client.wait_for([accepted], folder)
    return accepted


def wait_until(look: Callable[[], T], good: Callable[[T], bool]) -> T:
    """Look until it is *good*."""
    deadline = time.monotonic() + SECONDS
    while not good(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found
