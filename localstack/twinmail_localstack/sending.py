"""What SES checks before it sends: who may use which address, what is verified, and how large it is. Pure.

SES checks that the addresses in From, Source, Sender and Return-Path are verified (SES Developer Guide,
"Amazon SES SMTP issues", 554), and evaluates the policies of the caller with the From field as
``ses:FromAddress`` and the envelope sender as ``ses:FeedbackAddress``.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from email.utils import getaddresses

from twinmail_localstack.callers import Caller
from twinmail_localstack.edge.headers import fields, header_block
from twinmail_localstack.policy import allows

RECIPIENT_LIMIT = 50
SMTP_LIMIT = 40 * 1024 * 1024
API_LIMIT = 10 * 1024 * 1024
"""Octets of a message by SMTP and by version 1 of the API (Developer Guide, "Service quotas")."""

ACTION = "ses:SendRawEmail"

_HEADER_LIMIT = 1 << 20
_ADDRESS = re.compile(r"[^\s<>@]+@[^\s<>@]+")


class Refused(Exception):
    """SES does not send it.

    Attributes:
        code: the API's name of the error.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Request:
    """What a caller wants to be sent.

    Attributes:
        source: envelope sender, or empty to take the From field's.
        destinations: envelope recipients.
        data: the message.
    """

    source: str
    destinations: tuple[str, ...]
    data: bytes


@dataclass(frozen=True)
class Senders:
    """The addresses that a message claims to be from.

    Attributes:
        envelope: MAIL FROM, or Source.
        from_: of the From field; the envelope's if there is no such field.
        other: of Sender and Return-Path.
    """

    envelope: str
    from_: tuple[str, ...]
    other: tuple[str, ...]


def senders(request: Request) -> Senders:
    """Read the senders of *request*.

    Raises:
        Refused: an address cannot be read.
    """
    found: dict[str, list[str]] = {"from": [], "sender": [], "return-path": []}
    for one in fields(header_block(request.data), _HEADER_LIMIT)[0]:
        if one.name.lower() in found:
            found[one.name.lower()].append(one.value)
    from_ = _addresses(found["from"])
    other = _addresses([*found["sender"], *(one for one in found["return-path"] if one.strip("<> "))])
    (envelope, *_) = _addresses([request.source]) if request.source else (from_ or ("",))
    if not envelope:
        raise Refused("InvalidParameterValue", "Missing required header 'From'.")
    return Senders(envelope, from_ or (envelope,), other)


def recipients(data: bytes) -> tuple[str, ...]:
    """The addresses of To, Cc and Bcc, which SES sends to if the request names none."""
    wanted = ("to", "cc", "bcc")
    found = [one.value for one in fields(header_block(data), _HEADER_LIMIT)[0] if one.name.lower() in wanted]
    return tuple(dict.fromkeys(address for _, address in getaddresses(found) if address))


def _addresses(values: Sequence[str]) -> tuple[str, ...]:
    found = [address for _, address in getaddresses(list(values))]
    for one in found:
        if not _ADDRESS.fullmatch(one):
            raise Refused("InvalidParameterValue", "Missing final '@domain'")
    if values and not found:
        raise Refused("InvalidParameterValue", "Missing final '@domain'")
    return tuple(found)


def identity_of(address: str, identities: Collection[str]) -> str | None:
    """The verified identity that covers *address*: itself, its domain, or a domain above that."""
    if address in identities:
        return address
    labels = address.rpartition("@")[2].lower().split(".")
    above = (".".join(labels[start:]) for start in range(len(labels)))
    return next((one for one in above if one in identities), None)


def check(
    request: Request, caller: Caller | None, identities: Collection[str], arn: str, limit: int
) -> Senders:
    """Refuse what SES refuses; *arn* is that of an identity without its name.

    Raises:
        Refused: with SES's words.
    """
    if len(request.data) > limit:
        size = len(request.data)
        raise Refused("InvalidParameterValue", f"Message length is more than {limit} bytes long: '{size}'.")
    if len(request.destinations) > RECIPIENT_LIMIT:
        raise Refused("InvalidParameterValue", f"Recipient count exceeds {RECIPIENT_LIMIT}.")
    if not request.destinations:
        raise Refused("InvalidParameterValue", "Missing required header 'To'.")
    found = senders(request)
    if caller is not None:
        _authorize(request, caller, found, identities, arn)
    unverified = [
        one
        for one in dict.fromkeys((*found.from_, found.envelope, *found.other))
        if identity_of(one, identities) is None
    ]
    if unverified:
        region = arn.split(":")[3].upper()
        raise Refused(
            "MessageRejected",
            "Email address is not verified. The following identities failed the check in region "
            f"{region}: {', '.join(unverified)}",
        )
    return found


def _authorize(
    request: Request, caller: Caller, found: Senders, identities: Collection[str], arn: str
) -> None:
    for address in dict.fromkeys((*found.from_, found.envelope)):
        resource = f"{arn}{identity_of(address, identities) or address}"
        # Each address of the From field on its own: one that is permitted must not carry another.
        for from_ in found.from_:
            context = {
                "ses:FromAddress": (from_,),
                "ses:FeedbackAddress": (found.envelope,),
                "ses:Recipients": request.destinations,
            }
            if not allows(caller.policies, ACTION, resource, context):
                raise Refused(
                    "AccessDenied",
                    f"User `{caller.arn}' is not authorized to perform `{ACTION}' on resource `{resource}'",
                )
