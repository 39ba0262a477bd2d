"""Asks Pigeonhole what the active script of a mailbox does with a message."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from twinmail.durable_file import NotWritten
from twinmail.filter.capture import Capture, Submission
from twinmail.filter.decision import OTHER, REDIRECT, VACATION, Outgoing, Placement
from twinmail.filter.lmtp import LmtpAway, hand_over
from twinmail.filter.shadow import Left, Shadow

SOCKET = ".server/lmtp"
TRASH = "Trash"
# The first line of the copy that scripts see: where the message goes unless the script says otherwise.
# Dovecot's own copy of the rules (images/dovecot, sieve/global/junk.sieve) reads it.
FIELD = "X-Twinmail-Folder"
# What a script may take (`sieve_max_cpu_time`), several times over.
_SECONDS = 30.0
_CHUNK = 1 << 20
# Two processors answer no more; Dovecot's `process_limit` for LMTP is above.
_AT_ONCE = 4


@dataclass(frozen=True)
class Question:
    """One message for one mailbox.

    Attributes:
        folder: where it goes unless the script says otherwise.
        mail_from: envelope sender, empty for a bounce.
        recipient: the envelope recipient that is this mailbox.
        message: file with the message.
    """

    mailbox: str
    folder: str
    mail_from: str
    recipient: str
    message: Path


@dataclass(frozen=True)
class Answer:
    """What the script does.

    Attributes:
        placements: at least one.
        complaints: what is wrong with the script; the placements are then not what its author meant.
    """

    placements: tuple[Placement, ...]
    outgoing: tuple[Outgoing, ...]
    complaints: tuple[str, ...]


@dataclass(frozen=True)
class Pigeonhole:
    """The Pigeonhole of the Dovecot that shares the volume *mail*."""

    mail: Path
    seconds: float = _SECONDS
    _free: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_AT_ONCE), repr=False)

    def ask(self, question: Question) -> Answer:
        """Ask, and wait for the answer.

        Raises:
            LmtpAway: nobody answers, or not now; transient.
            LmtpRefused: this message will never be answered about.
            NotWritten: the volume is full or failing; transient.
        """
        with self._free:
            return self._ask(question)

    def _ask(self, question: Question) -> Answer:
        shadow = Shadow(self.mail)
        try:
            try:
                capture = Capture()
            except OSError as error:
                raise LmtpAway(f"loopback: no port to listen on: {error.strerror}") from error
            try:
                # Not a domain that mail comes for. The port is where Dovecot hands over what is sent.
                user = f"{question.mailbox}@{shadow.token}.{capture.port}.decide"
                hand_over(
                    self.mail / SOCKET,
                    self.seconds,
                    question.mail_from,
                    user,
                    question.recipient,
                    _copy(question),
                )
            finally:
                taken = capture.close()
            left = shadow.read()
        finally:
            shadow.remove()
        return answer(question, left, taken)


def answer(question: Question, left: Left, taken: tuple[Submission, ...]) -> Answer:
    """What *left* in the shadow and *taken* down mean. Pure.

    No copy at all is a discard (or a redirect without a copy): the message goes to Trash, from where its user
    can still take it. With a broken script Pigeonhole keeps the message in INBOX; it goes where it would go
    without the script.
    """
    outgoing = tuple(_outgoing(one, left) for one in taken)
    if left.complaints:
        kept = tuple(one for one in left.placements if one != Placement("INBOX"))
        return Answer(kept or (Placement(question.folder),), outgoing, left.complaints)
    return Answer(left.placements or (Placement(TRASH),), outgoing, ())


def _outgoing(one: Submission, left: Left) -> Outgoing:
    head = one.message.partition(b"\r\n\r\n")[0].lower()
    if b"x-sieve-redirected-from:" in head:
        return Outgoing(REDIRECT, one.mail_from, one.rcpt_to)
    if b"auto-submitted: auto-replied (vacation)" not in head or not one.whole:
        return Outgoing(OTHER, one.mail_from, one.rcpt_to)
    memory, until = left.answered[0] if left.answered else ("", None)
    return Outgoing(VACATION, one.mail_from, one.rcpt_to, one.message, memory, until)


def _copy(question: Question) -> Iterator[bytes]:
    try:
        with question.message.open("rb") as file:
            yield f"{FIELD}: {question.folder}\r\n".encode() + file.read(_CHUNK)
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise NotWritten(f"{question.message}: cannot be read: {error.strerror}; check the disk") from error
