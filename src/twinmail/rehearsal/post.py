"""Mail as people have it: letters from outside, letters to outside, and what a mailbox shows."""

import email
import json
import smtplib
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from imaplib import IMAP4

from twinmail import imap
from twinmail.errors import TransientError

SECONDS = 120.0
"""That anything may take to arrive: as long as the LIST that finds what no queue announced, twice."""
_POLL_SECONDS = 0.2
_SMTP_SECONDS = 60.0
_HEADER = "X-Rehearsal"


class NotAsExpected(TransientError):
    """Something is not where it should be, or not what it should be."""


@dataclass(frozen=True)
class Letter:
    """A message, and by which word in it it is found."""

    token: str
    octets: bytes


def letters(sender: str, recipient: str) -> tuple[Letter, ...]:
    """A plain letter, one that is not ASCII where it should be, and one with an attachment."""
    found = []
    attachment = b"".join(b"%07d: %s\r\n" % (number, b"=" * 60) for number in range(4000))
    kinds = (
        (b"plain", b"text/plain", b"Hello\r\n..and a line that starts with a dot\r\n"),
        # Octets of no character set: what counts is that nobody mends them.
        (b"Gr\xfc\xc3\x9fe", b"text/plain", b"\xff\xfe caf\xe9\r\n"),
        (b"attached", b"application/octet-stream", attachment),
    )
    for subject, kind, body in kinds:
        token = uuid.uuid4().hex
        head = (
            f"From: <{sender}>\r\nTo: <{recipient}>\r\nMessage-ID: <{token}@{sender.partition('@')[2]}>\r\n"
            f"{_HEADER}: {token}\r\n"
        ).encode()
        octets = head + b"Subject: " + subject + b"\r\nContent-Type: " + kind + b"\r\n\r\n" + body
        found.append(Letter(token, octets))
    return tuple(found)


def send_in(edge: tuple[str, int], sender: str, recipient: str, found: Iterable[Letter]) -> None:
    """Hand *found* to the edge, as a mail server on the Internet does.

    Raises:
        OSError: it did not take them (`smtplib.SMTPException` is one).
    """
    with smtplib.SMTP(*edge, timeout=_SMTP_SECONDS) as connection:
        for one in found:
            connection.sendmail(sender, [recipient], one.octets, mail_options=["BODY=8BITMIME"])


def send_out(account: imap.Account, port: int, sender: str, recipient: str) -> Letter:
    """Let the owner of *account* send a letter through the submission service at *port*.

    Raises:
        OSError: it was not taken.
    """
    letter = letters(sender, recipient)[0]
    with smtplib.SMTP_SSL(account.host, port, context=account.tls, timeout=_SMTP_SECONDS) as connection:
        connection.login(account.user, account.password)
        connection.sendmail(sender, [recipient], letter.octets)
    return letter


def outside(endpoint: str, letter: Letter) -> str:
    """The recipient's copy of *letter*, as SES sent it; empty if it has not."""
    with urllib.request.urlopen(f"{endpoint}/_aws/ses", timeout=30) as answer:
        messages = json.load(answer)["messages"]
    return next((one["RawData"] for one in messages if letter.token in one.get("RawData", "")), "")


def folder(account: imap.Account, name: str = "INBOX") -> dict[str, bytes]:
    """The whole messages of a folder by the word that letters are found by; none if it is not there.

    Raises:
        NotAsExpected: one is there twice.
        OSError, IMAP4.error, LoginRefused: see `imap.session`.
    """
    with imap.session(account) as client:
        if client.select(name, readonly=True)[0] != "OK":
            return {}
        _, parts = client.uid("FETCH", "1:*", "(BODY.PEEK[])")
    found: dict[str, bytes] = {}
    for part in parts:
        if isinstance(part, tuple):
            token = str(email.message_from_bytes(part[1]).get(_HEADER, "")).strip()
            if token in found:
                raise NotAsExpected(f"{account}: {name} has {token} twice")
            found[token] = part[1]
    return found


def wait(condition: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    """Return when *condition* is true; servers that start, or are away, are asked again.

    Raises:
        NotAsExpected: after *seconds*.
    """
    deadline = time.monotonic() + seconds
    problem = ""
    while True:
        try:
            if condition():
                return
            problem = ""
        except (OSError, IMAP4.abort, imap.LoginRefused) as error:
            problem = f" ({error})"
        if time.monotonic() > deadline:
            raise NotAsExpected(f"{what}: not within {seconds:.0f} s{problem}")
        time.sleep(_POLL_SECONDS)


def arrived(account: imap.Account, expected: Mapping[str, bytes], what: str) -> dict[str, bytes]:
    """The INBOX of *account* once it has all of *expected*, which each message there ends with.

    Raises:
        NotAsExpected: one does not come, is not as it was sent, or there is one too many.
    """
    found: dict[str, bytes] = {}

    def there() -> bool:
        found.clear()
        found.update(folder(account))
        return expected.keys() <= found.keys()

    wait(there, f"{what}: {len(expected)} messages of {account}")
    for token, octets in expected.items():
        if not found[token].endswith(octets):
            raise NotAsExpected(f"{what}: {account}: message {token} is not as it was sent")
    if others := found.keys() - expected.keys():
        raise NotAsExpected(f"{what}: {account}: {len(others)} messages that nobody sent")
    return found
