"""Sending message files by SMTP as a mail server on the Internet would: octets unchanged, an answer each."""

import re
import smtplib
import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from email.utils import getaddresses
from pathlib import Path

from twinmail.config import Config
from twinmail.errors import PermanentError, TransientError
from twinmail.routing import route

TIMEOUT_SECONDS = 120.0

_CRLF = b"\r\n"
_MBOX_SEPARATOR = b"From "
_MBOX_QUOTED = re.compile(rb">+From ")
_HEADER_END = re.compile(rb"\r?\n\r?\n")
# What may stand between < and > in a command; the server judges the rest.
_ADDRESS = re.compile(r"[!-;=?-~]{1,998}")
_SES_ID = re.compile(r"\b[a-z0-9]{20,64}\b")


class EnvelopeError(PermanentError):
    """It cannot be told from whom or to whom a message goes."""


@dataclass(frozen=True)
class Outgoing:
    """One message to send, and where it was read: a path, or ``path#number`` in an mbox."""

    source: str
    content: bytes


@dataclass(frozen=True)
class Envelope:
    """RFC 5321 envelope; an empty sender is the null sender."""

    mail_from: str
    rcpt_to: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """What the server said to one message.

    Attributes:
        code: SMTP reply code of the whole message, 0 if it was not offered at all.
        answer: text of that reply, or the reason.
        ses_id: SES message id, if the message was accepted.
        refused: answers by recipient, of recipients that were refused.
    """

    source: str
    envelope: Envelope | None
    code: int
    answer: str
    ses_id: str | None = None
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """The message was accepted for all recipients."""
        return self.code == 250 and not self.refused


def read(paths: Iterable[Path]) -> Iterator[Outgoing]:
    """Read messages: files, folders (recursively, without hidden files) and mboxes.

    A file is an mbox if it begins with ``From `` and is not called ``.eml``.

    Raises:
        PermanentError: a path does not exist or cannot be read.
    """
    for path in paths:
        try:
            for file in _files(path):
                yield from _messages(file)
        except OSError as error:
            raise PermanentError(f"{error.filename or path}: cannot be read: {error.strerror}") from error


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = (one for one in path.rglob("*") if one.is_file())
    return sorted(
        one for one in found if not any(part.startswith(".") for part in one.relative_to(path).parts)
    )


def _messages(file: Path) -> Iterator[Outgoing]:
    with file.open("rb") as stream:
        is_mbox = file.suffix != ".eml" and stream.read(len(_MBOX_SEPARATOR)) == _MBOX_SEPARATOR
        stream.seek(0)
        if not is_mbox:
            yield Outgoing(str(file), stream.read())
            return
        for number, content in enumerate(split_mbox(stream), 1):
            yield Outgoing(f"{file}#{number}", content)


def split_mbox(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The messages of an mbox (mboxrd: one ``>`` is taken off quoted ``From`` lines)."""
    current: list[bytes] | None = None
    after_empty = True
    for line in lines:
        if after_empty and line.startswith(_MBOX_SEPARATOR):
            if current is not None:
                yield b"".join(_without_last_empty(current))
            current = []
        elif current is not None:
            current.append(line[1:] if _MBOX_QUOTED.match(line) else line)
        after_empty = line.rstrip(b"\r\n") == b""
    if current is not None:
        yield b"".join(_without_last_empty(current))


def _without_last_empty(lines: list[bytes]) -> list[bytes]:
    """The empty line before a separator belongs to the mbox, unless it is the one that ends the header."""
    has_body = any(line in (b"\n", b"\r\n") for line in lines[:-1])
    return lines[:-1] if has_body and lines[-1] in (b"\n", b"\r\n") else lines


def envelope(
    content: bytes, config: Config, mail_from: str | None = None, rcpt_to: Sequence[str] = ()
) -> Envelope:
    """The envelope of *content*: what is given, else the address in From and our own ones in To, Cc and Bcc.

    Raises:
        EnvelopeError: there is no recipient of ours, or an address is none.
    """
    end = _HEADER_END.search(content)
    header = BytesHeaderParser().parsebytes(content[: end.end()] if end else content)
    if mail_from is None:
        senders = [address for _, address in getaddresses([str(header.get("from", ""))]) if "@" in address]
        mail_from = senders[0] if senders and _ADDRESS.fullmatch(senders[0]) else ""
    recipients = list(rcpt_to)
    if not recipients:
        texts = [str(text) for name in ("to", "cc", "bcc") for text in header.get_all(name, [])]
        named = [
            address for _, address in getaddresses(texts) if "@" in address and _ADDRESS.fullmatch(address)
        ]
        recipients = [address for address in named if route(config, [address]).mailboxes]
    if not recipients:
        raise EnvelopeError("no address of ours in To, Cc or Bcc; name a recipient with --to")
    for address in (mail_from, *recipients):
        if address and not _ADDRESS.fullmatch(address):
            raise EnvelopeError(f"{address!r} is not an address; expected user@domain in ASCII")
    return Envelope(mail_from, tuple(dict.fromkeys(recipients)))


def with_line_ends(content: bytes) -> bytes:
    """*content* as a mailer sends it: a file with LF line ends gets CRLF, and the last line is ended.

    A file with any CRLF in it is left as it is: its bare LFs are part of the message.
    """
    if _CRLF not in content:
        content = content.replace(b"\n", _CRLF)
    return content if content.endswith(_CRLF) or not content else content + _CRLF


def on_the_wire(content: bytes) -> bytes:
    """*content*, whose last line is ended, as DATA carries it: dots doubled at line starts, the final dot.

    Lines end with CRLF only: a server that looks for dots after bare LF as well would be wrong.
    """
    stuffed = (_CRLF + content).replace(b"\r\n.", b"\r\n..")[len(_CRLF) :]
    return stuffed + b".\r\n"


class Mailer:
    """Sends messages over one connection, which is made when it is first needed and again when it broke."""

    def __init__(self, host: str, port: int, name: str = "localhost") -> None:
        self._address = (host, port)
        self._name = name
        self._connection: smtplib.SMTP | None = None

    def __enter__(self) -> "Mailer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            try:
                self._connection.quit()
            except (smtplib.SMTPException, OSError):
                self._connection.close()

    def send(self, message: Outgoing, to: Envelope) -> Result:
        """Offer *message*; a refusal is a result.

        Raises:
            TransientError: nothing answers at the address.
        """
        connection = self._connection or self._connect()
        self._connection = connection
        try:
            return _transaction(connection, message, to)
        except (smtplib.SMTPException, OSError) as error:
            # Whether the server has the message is unknown, so it is not sent a second time.
            connection.close()
            self._connection = None
            return Result(message.source, to, 0, f"the connection broke: {error}")

    def _connect(self) -> smtplib.SMTP:
        try:
            connection = smtplib.SMTP(*self._address, local_hostname=self._name, timeout=TIMEOUT_SECONDS)
            connection.ehlo()
            if connection.has_extn("starttls"):
                connection.starttls(context=_opportunistic())
                connection.ehlo()
        except (smtplib.SMTPException, OSError) as error:
            host, port = self._address
            raise TransientError(f"{host}:{port} does not answer as a mail server: {error}") from error
        return connection


def _opportunistic() -> ssl.SSLContext:
    """Encryption without proof of who the server is: what mail servers do with each other (RFC 7435)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _transaction(connection: smtplib.SMTP, message: Outgoing, to: Envelope) -> Result:
    content = with_line_ends(message.content)
    parameters = f" SIZE={len(content)}" if connection.has_extn("size") else ""
    if not message.content.isascii() and connection.has_extn("8bitmime"):
        parameters += " BODY=8BITMIME"
    code, answer = connection.docmd("MAIL", f"FROM:<{to.mail_from}>{parameters}")
    if code != 250:
        connection.rset()
        return Result(message.source, to, code, _text(answer))
    refused = {}
    for recipient in to.rcpt_to:
        code, answer = connection.docmd("RCPT", f"TO:<{recipient}>")
        if code not in (250, 251):
            refused[recipient] = f"{code} {_text(answer)}"
    if len(refused) == len(to.rcpt_to):
        connection.rset()
        return Result(message.source, to, code, _text(answer), refused=refused)
    code, answer = connection.docmd("DATA")
    if code == 354:
        connection.send(on_the_wire(content))
        code, answer = connection.getreply()
    text = _text(answer)
    found = _SES_ID.search(text) if code == 250 else None
    return Result(message.source, to, code, text, found[0] if found else None, refused)


def _text(answer: bytes) -> str:
    return " ".join(answer.decode("utf-8", "replace").split())


def send_all(
    mailer: Mailer,
    messages: Iterable[Outgoing],
    config: Config,
    mail_from: str | None = None,
    rcpt_to: Sequence[str] = (),
) -> Iterator[Result]:
    """Send every message, whatever became of those before it.

    Raises:
        TransientError: nothing answers at the address.
    """
    for message in messages:
        try:
            to = envelope(message.content, config, mail_from, rcpt_to)
        except EnvelopeError as error:
            yield Result(message.source, None, 0, str(error))
        else:
            yield mailer.send(message, to)
