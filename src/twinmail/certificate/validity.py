"""How long a certificate is valid, read by the standard library alone: services have no library for it. Pure.

A certificate is DER (X.690): each element is a tag, a length and a content. Only the few on the way to the
dates are looked at (RFC 5280, section 4.1).
"""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from twinmail.errors import PermanentError

ALARM = timedelta(days=14)
"""A person is told when less is left."""
_ALARM_SHARE = 0.32
"""Of the lifetime of certificates that live so short that `ALARM` would be before they are renewed."""
_RENEWAL = 2 / 3
"""Share of the lifetime after which a new one is asked for, as authorities advise, however long it is."""

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


class Unreadable(PermanentError):
    """What is there is no certificate."""


@dataclass(frozen=True)
class Validity:
    """From when to when, aware; and whether nobody but itself vouches for it."""

    not_before: datetime
    not_after: datetime
    self_signed: bool

    @property
    def lifetime(self) -> timedelta:
        """From the first to the last moment."""
        return self.not_after - self.not_before

    @property
    def renewal(self) -> datetime:
        """When a new one should be asked for."""
        return self.not_before + self.lifetime * _RENEWAL

    @property
    def alarm(self) -> datetime:
        """When somebody should be told, because the new one should be there since some time."""
        return self.not_after - min(ALARM, self.lifetime * _ALARM_SHARE)


def leaf(pem: bytes) -> bytes:
    """The DER of the first certificate in *pem*.

    Raises:
        Unreadable: there is none.
    """
    start, end = pem.find(_BEGIN), pem.find(_END)
    if start < 0 or end < start:
        raise Unreadable("expected a certificate in PEM, got something else")
    try:
        return ssl.PEM_cert_to_DER_cert(pem[start : end + len(_END)].decode("ascii"))
    except ValueError as error:
        raise Unreadable(f"expected a certificate in PEM: {error}") from error


def read(pem: bytes) -> Validity:
    """The validity of the first certificate in *pem*.

    Raises:
        Unreadable: there is none, or it is damaged.
    """
    try:
        ((_, certificate),) = _elements(leaf(pem))
        (_, to_be_signed), *_ = _elements(certificate)
        fields = list(_elements(to_be_signed))
        if fields[0][0] == _VERSION:
            fields = fields[1:]
        # serialNumber, signature, issuer, validity, subject
        issuer, validity, subject = fields[2:5]
        first, last = (_time(tag, content) for tag, content in _elements(validity[1]))
    except (ValueError, IndexError) as error:
        raise Unreadable(f"expected a certificate (RFC 5280), got something damaged: {error}") from error
    return Validity(first, last, issuer == subject)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element in *data*."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            octets = length & 0x7F
            length = int.from_bytes(data[at : at + octets], "big")
            at += octets
        if at + length > len(data):
            raise ValueError("an element is longer than what is there")
        yield tag, data[at : at + length]
        at += length


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        # Two digits: 50 to 99 are of the last century (RFC 5280, section 4.1.2.5.1).
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"tag {tag:#x} is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
