"""Redirected messages (RFC 5228, 4.2) as SES takes them; pure.

SES sends only what is from a verified address, so the user's own stands in From, and the sender's in
Reply-To: an answer goes to who wrote. The signature of the sender's domain would not hold over a changed
From, and is left out; SES signs for the user's domain.
"""

from collections.abc import Callable
from email.utils import formataddr

from twinmail.header_fields import Field, body, fields, join
from twinmail.message import read_metadata
from twinmail.outgoing import MESSAGE_BYTES
from twinmail.vacation import Answer, Silence

MARKER = "x-twinmail-redirected"
"""The field that names who redirected a message: how one that comes back is known."""

_HOPS = 4
_LEFT_OUT = frozenset(
    (
        *("return-path", "from", "sender", "reply-to", "bcc", "message-id", "dkim-signature"),
        *("authentication-results", "received-spf", "disposition-notification-to", "return-receipt-to"),
    )
)
_LEFT_OUT_BEGINNINGS = ("x-ses-", "arc-", "x-twinmail-verdicts")
_NAME_CHARACTERS = 100


def redirected(original: bytes, to: str, own: Callable[[str], bool], primary: str) -> Answer | Silence:
    """The message *original*, as the log has it, for *to*, or why it is not sent on.

    *own* says whether an address is the user's, *primary* is the one that it is sent from.
    """
    before = fields(original)
    passed = [one.text.lower() for one in before if one.name == MARKER]
    if any(own(one) for one in passed) or len(passed) >= _HOPS:
        return Silence("it was redirected here before")
    told = next((one.text for one in before if one.name == "x-twinmail-verdicts"), "").lower()
    for name in ("spam", "virus"):
        if f"{name}=fail" in told.split():
            return Silence(f"the {name} verdict is FAIL")
    if len(original) > MESSAGE_BYTES:
        return Silence(f"SES sends at most {MESSAGE_BYTES} octets, it has {len(original)}")
    sender = next((one for one in before if one.name == "from"), None)
    reply_to = next((one for one in before if one.name == "reply-to"), sender)
    name = read_metadata(original).sender[:_NAME_CHARACTERS].replace("<", "").replace(">", "")
    header = [
        Field(MARKER, primary.encode()),
        Field("from", formataddr((f"{name} via {primary}".strip(), primary)).encode("ascii", "replace")),
        *([Field("reply-to", reply_to.value)] if reply_to else []),
        *([Field("x-original-from", sender.value)] if sender else []),
        *(Field("x-original-message-id", one.value) for one in before if one.name == "message-id"),
        *(
            one
            for one in before
            if one.name not in _LEFT_OUT and not one.name.startswith(_LEFT_OUT_BEGINNINGS)
        ),
    ]
    return Answer(primary, to, join(header, body(original)))
