"""Header fields as octets: what SES puts before a message, and reading them back for events. Pure.

Nothing here parses a message beyond its header block, and nothing here fails on one: a header block is
whatever comes before the first empty line.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from twinmail_localstack.edge.reception import Reception
from twinmail_localstack.edge.verdict import FAIL, GRAY, PASS, Verdicts

CRLF = b"\r\n"

_END = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(rb"\r?\n")
_NAME = re.compile(rb"[!-9;-~]+")
_RESULT = {PASS: "pass", FAIL: "fail", GRAY: "none"}


@dataclass(frozen=True)
class Field:
    """One header field, unfolded and decoded (undecodable octets become U+FFFD)."""

    name: str
    value: str


def header_block(content: bytes) -> bytes:
    """The header block of *content*, without the empty line."""
    if content.startswith((b"\r\n", b"\n")):
        return b""
    end = _END.search(content)
    return content if end is None else content[: end.start()]


def fields(block: bytes, limit: int) -> tuple[tuple[Field, ...], bool]:
    """Read the fields of the first *limit* octets of *block*.

    Returns:
        The fields that are whole, and whether some were left out.
    """
    found = tuple(_raw_fields(block[:limit]))
    truncated = len(block) > limit
    if truncated:
        found = found[:-1]
    named = (raw.partition(b":") for raw in found)
    return tuple(Field(name.decode("ascii").rstrip(), _text(value)) for name, _, value in named), truncated


def _raw_fields(block: bytes) -> Iterator[bytes]:
    """Each field in one line; lines that are no field are passed over."""
    current: list[bytes] = []
    for line in _LINE.split(block):
        if line.startswith((b" ", b"\t")):
            if current:
                current.append(line[1:])
            continue
        if current:
            yield b" ".join(current)
        is_field = b":" in line and _NAME.fullmatch(line.partition(b":")[0].rstrip())
        current = [line] if is_field else []
    if current:
        yield b" ".join(current)


def _text(value: bytes) -> str:
    return value.strip(b" \t").decode("utf-8", "replace")


def trace(reception: Reception, verdicts: Verdicts, region: str) -> bytes:
    """The block that SES puts before a message, in SES's order and folding."""
    sender = _printable(reception.mail_from)
    helo = _printable(reception.helo)
    domain = sender.rpartition("@")[2] or helo
    arrived = format_datetime(reception.arrived.astimezone(UTC))
    only = reception.rcpt_to[0] if len(reception.rcpt_to) == 1 else ""
    reason = (
        f"domain of {domain} designates {reception.client} as permitted sender"
        if verdicts.spf == PASS
        else f"{reception.client} is neither permitted nor denied by domain of {domain}"
    )
    session = f"client-ip={reception.client}; envelope-from={sender}; helo={helo};"
    spf = f"{_RESULT[verdicts.spf]} (spfCheck: {reason}) {session}"
    lines = [
        f"Return-Path: <{sender}>",
        f"Received: from {helo} ({reception.host} [{reception.client}])",
        f" by inbound-smtp.{region}.amazonaws.com with SMTP id {reception.ses_id}{'' if only else ';'}",
        # With several recipients the clause would tell each of them about the others (RFC 5321, 7.2).
        *([f" for {_printable(only)};"] if only else []),
        f" {arrived.replace('+0000', '+0000 (UTC)')}",
        f"X-SES-Spam-Verdict: {verdicts.spam}",
        f"X-SES-Virus-Verdict: {verdicts.virus}",
        f"Received-SPF: {spf}",
        "Authentication-Results: amazonses.com;",
        f" spf={spf}",
        f" dkim={_RESULT[verdicts.dkim]} header.i=@{domain};",
        f" dmarc={_RESULT[verdicts.dmarc]} header.from={domain};",
        f"X-SES-RECEIPT: {_receipt(reception)}",
        f"X-SES-DKIM-SIGNATURE: {_signature(reception)}",
    ]
    return b"".join(line.encode("utf-8", "surrogateescape") + CRLF for line in lines)


def added(extra: Iterable[tuple[str, str]]) -> bytes:
    """The fields of AddHeader actions."""
    return b"".join(f"{name}: {_printable(value)}".encode() + CRLF for name, value in extra)


def _printable(text: str) -> str:
    """*text* without control characters: what a client says of itself must not start a new field."""
    return "".join(one if one.isprintable() or one == "\t" else "?" for one in text)


def _receipt(reception: Reception) -> str:
    """A receipt of SES's shape (base64 in base64); SES keeps its meaning to itself."""
    inner = base64.b64encode(bytes(8) + hashlib.sha512(reception.ses_id.encode()).digest() * 3)
    return base64.b64encode(b"\0" + inner).decode("ascii")


def _signature(reception: Reception) -> str:
    """A signature of SES's shape with the true body hash; it has no key, so it verifies nowhere."""
    block = header_block(reception.content)
    body = _END.sub(b"", reception.content[len(block) :], count=1) if block else reception.content
    digest = base64.b64encode(hashlib.sha256(body.rstrip(CRLF) + CRLF).digest()).decode("ascii")
    proof = base64.b64encode(hashlib.sha512(reception.ses_id.encode()).digest() * 2)
    return (
        f"a=rsa-sha256; q=dns/txt; b={proof.decode('ascii')}; c=relaxed/simple; "
        f"s=6gbrjpgwjskckoa6a5zn6fwqkn67xbtw; d=amazonses.com; t={int(reception.arrived.timestamp())}; v=1; "
        f"bh={digest}; h=From:To:Cc:Bcc:Subject:Date:Message-ID:MIME-Version:Content-Type:X-SES-RECEIPT;"
    )


def resent(content: bytes, message_id: str, region: str, moment: datetime) -> bytes:
    """*content* as SES sends it on: its own Message-ID and Date in place of the sender's, no Bcc.

    Source: SES Developer Guide, "Amazon SES header fields".
    """
    block = header_block(content)
    body = content[len(block) :]
    kept: list[bytes] = []
    dropping = False
    for line in _LINE.split(block):
        if not line.startswith((b" ", b"\t")):
            name = line.partition(b":")[0].strip().lower()
            dropping = name in (b"message-id", b"date", b"bcc", b"return-path")
        if line and not dropping:
            kept.append(line)
    kept += [
        f"Message-ID: <{message_id}@{region}.amazonses.com>".encode(),
        f"Date: {format_datetime(moment.astimezone(UTC))}".encode(),
        f"Feedback-ID: ::1.{region}.{message_id}:AmazonSES".encode(),
        f"X-SES-Outgoing: {moment:%Y.%m.%d}-127.0.0.1".encode(),
    ]
    if not body:
        body = CRLF * 2
    elif not block:
        # An empty header: its first line end is also the one that ends the header.
        body = CRLF + body
    return CRLF.join(kept) + body
