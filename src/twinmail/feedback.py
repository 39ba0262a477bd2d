"""Bounces and complaints in words: the notice that the sender of a message reads, and what is counted of it.

A notice is a pure function of SES's event, to the octet: events repeat, and the same notice under the same id
changes nothing. It is a report of RFC 3464 (a bounce) or RFC 5965 (a complaint), which programs understand.
"""

import hashlib
import quopri
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime

from twinmail import layout, versioned_json
from twinmail.config import Config
from twinmail.errors import PermanentError
from twinmail.sending_event import Recipient, SendingEvent
from twinmail.sent import message_id

VERSION = 1

_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,900}>")
_ADDRESS = re.compile(r"[!-;=?-~]{1,64}@[A-Za-z0-9.-]{1,253}")
_SHOWN = 50


class FeedbackError(PermanentError):
    """The bytes are not a record that this version understands."""


@dataclass(frozen=True)
class Feedback:
    """What is kept of a bounce, a complaint or a rejected message.

    Attributes:
        id: the same for each repetition of the event; starts with `kind` and whether it is permanent.
        kind: ``bounce``, ``complaint`` or ``reject``.
        permanent: of a bounce, whether SES counts it against the sender.
        mailboxes: who was told.
    """

    id: str
    kind: str
    permanent: bool
    category: str
    ses_id: str
    source: str
    mailboxes: tuple[str, ...]
    recipients: tuple[Recipient, ...]
    subject: str
    at: datetime

    @property
    def key(self) -> str:
        """Object key."""
        return layout.feedback_key(self.id, self.at)

    def to_bytes(self) -> bytes:
        """Encode as canonical JSON."""
        at = self.at.astimezone(UTC).isoformat(timespec="microseconds")
        document = {**asdict(self), "version": VERSION, "at": at}
        return versioned_json.write(document)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Feedback":
        """Decode *data*.

        Raises:
            FeedbackError: it is damaged, or of another version.
        """
        try:
            document = versioned_json.read(data, VERSION)
            del document["version"]
            document["at"] = datetime.fromisoformat(document["at"])
            document["mailboxes"] = tuple(document["mailboxes"])
            document["recipients"] = tuple(Recipient(**one) for one in document["recipients"])
            return cls(**document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FeedbackError(f"record of feedback: {type(error).__name__}: {error}") from error


def feedback(event: SendingEvent, mailboxes: tuple[str, ...]) -> Feedback:
    """What to keep of *event*, which was told to *mailboxes*."""
    kind = event.kind.lower()
    named = event.recipients or tuple(Recipient(one) for one in event.destinations)
    grade = "" if kind != "bounce" else "permanent-" if event.permanent else "transient-"
    # SES gives every bounce and complaint an id; without one, it is known by whom it is about.
    known = event.feedback_id or ",".join(sorted(one.address for one in named))
    digest = hashlib.sha256(f"{kind}\0{event.ses_id}\0{known}".encode()).hexdigest()[:32]
    return Feedback(
        id=f"{kind}-{grade}{digest}",
        kind=kind,
        permanent=event.permanent,
        category=event.category,
        ses_id=event.ses_id,
        source=event.source,
        mailboxes=mailboxes,
        recipients=named[:_SHOWN],
        subject=event.subject,
        at=event.at,
    )


def notice(config: Config, event: SendingEvent, found: Feedback) -> bytes:
    """The message that tells the sender, with CRLF."""
    boundary = f"=_{found.id}"
    domain = found.source.rpartition("@")[2].lower()
    domain = domain if domain in config.domains else config.domains[0]
    kind = "feedback-report" if found.kind == "complaint" else "delivery-status"
    whose = message_id(event.ses_id, config.region)
    subject = f"{_headline(found)}: {event.subject or '(no subject)'}"
    original = event.message_id if _MESSAGE_ID.fullmatch(event.message_id) else whose
    head = [
        f"From: Mail delivery <MAILER-DAEMON@{domain}>",
        f"To: {found.source if _ADDRESS.fullmatch(found.source) else 'undisclosed-recipients:;'}",
        f"Subject: {_encoded('Subject', subject)}",
        f"Date: {format_datetime(event.at)}",
        f"Message-ID: <{found.id}@{domain}>",
        f"In-Reply-To: {original}",
        # The copy in the Sent folder may have either.
        f"References: {' '.join(dict.fromkeys((original, whose)))}",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type={kind};\r\n boundary="{boundary}"',
    ]
    report = _abuse_report(found) if found.kind == "complaint" else _status_report(config, event, found)
    parts = [
        _part("text/plain; charset=utf-8", _text(event, found), quoted=True),
        _part(f"message/{kind}", report),
        _part("text/rfc822-headers", _original(event, original)),
    ]
    body = "".join(f"--{boundary}\r\n{one}\r\n" for one in parts)
    return ("\r\n".join(head) + f"\r\n\r\n{body}--{boundary}--\r\n").encode("ascii")


def _headline(found: Feedback) -> str:
    if found.kind == "complaint":
        return "Marked as spam"
    if found.kind == "reject":
        return "Not sent"
    return "Not delivered" if found.permanent else "Maybe not delivered"


def _text(event: SendingEvent, found: Feedback) -> str:
    opening = {
        "bounce": "Your message was not delivered to:"
        if found.permanent
        else "Your message was perhaps not delivered to:",
        "complaint": "Your message was marked as spam by:",
        "reject": "Your message was not sent, to nobody of:",
    }[found.kind]
    why, remedy = _explained(found)
    said = [f"    {one.address}: {one.diagnostic}" for one in found.recipients if one.diagnostic]
    lines = [opening, "", *(f"    {one.address}" for one in found.recipients), ""]
    lines += [
        f"Subject:  {event.subject or '(none)'}",
        f"Sent:     {event.sent:%d %b %Y %H:%M} UTC, from {found.source}",
        "",
        why,
        *(["", "What the other side said:", "", *said] if said else []),
        "",
        remedy,
        "",
    ]
    return "\n".join(lines)


def _explained(found: Feedback) -> tuple[str, str]:
    """Why, and what to do."""
    if found.kind == "complaint":
        return (
            "The recipient's provider passed this on. It counts against the reputation of this domain.",
            "Do not write to this address again unless you are asked to.",
        )
    if found.kind == "reject":
        return (
            "A virus was found in it.",
            "Look at the attachments, and send it again without the infected one.",
        )
    statuses = {one.status for one in found.recipients}
    for pattern, words in _REASONS:
        if any(re.fullmatch(pattern, one) for one in (found.category, *statuses)):
            return words
    return (
        ("The recipient's server refused it.", "Read its answer, change what it asks for, and send it again.")
        if found.permanent
        else (
            "The recipient's server did not take it so far.",
            "Send it again later, or reach them otherwise.",
        )
    )


# By SES's type and subtype of a bounce, or by the status code (RFC 3463); the first that matches.
_REASONS: tuple[tuple[str, tuple[str, str]], ...] = (
    (
        "Permanent/(OnAccount)?Suppress(ed|ionList)",
        (
            "It was not even tried: earlier mail to this address came back, or was marked as spam.",
            "Check the address. If it is right, have it taken off the suppression list of Amazon SES.",
        ),
    ),
    (
        r".*/MailboxFull|[45]\.2\.2",
        ("The recipient's mailbox is full.", "Reach them otherwise, and send it again later."),
    ),
    (
        r".*/MessageTooLarge|[45]\.3\.4|[45]\.2\.3",
        ("The message is too large for the recipient.", "Send a link in place of the large attachment."),
    ),
    (
        ".*/(ContentRejected|AttachmentRejected)",
        (
            "The recipient's server does not accept what is in it.",
            "Change the text or the attachments, and send it again.",
        ),
    ),
    (
        r"Permanent/NoEmail|[45]\.1\.[0-36]|5\.1\.10",
        ("There is no such address.", "Check how it is written, correct it, and send the message again."),
    ),
    (
        r"5\.7\.\d+",
        (
            "The recipient's server refused it by its rules.",
            "Read its answer; the recipient may have to allow it.",
        ),
    ),
    (
        "Transient/General|Undetermined/.*",
        (
            "The recipient's server answered in a way that says no more. It may be an automatic answer, such "
            "as an out-of-office note; then the message has arrived.",
            "If you hear nothing, send it again later.",
        ),
    ),
)


def _status_report(config: Config, event: SendingEvent, found: Feedback) -> str:
    groups = [
        f"Reporting-MTA: dns; email-smtp.{config.region}.amazonaws.com\r\n"
        f"Arrival-Date: {format_datetime(event.sent)}\r\n"
    ]
    fallback = "5.7.0" if found.kind == "reject" else "5.0.0" if found.permanent else "4.0.0"
    for one in found.recipients:
        status = one.status if re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", one.status) else fallback
        group = f"Final-Recipient: rfc822; {_ascii(one.address)}\r\nAction: failed\r\nStatus: {status}\r\n"
        if one.diagnostic:
            group += f"Diagnostic-Code: smtp; {_ascii(one.diagnostic)[:900]}\r\n"
        groups.append(group)
    return "\r\n".join(groups)


def _abuse_report(found: Feedback) -> str:
    known = ("abuse", "fraud", "virus", "not-spam", "other")
    kind = found.category if found.category in known else "abuse"
    lines = [f"Feedback-Type: {kind}", "User-Agent: Amazon SES", "Version: 1"]
    lines += [f"Original-Mail-From: {_ascii(found.source)}"]
    lines += [f"Original-Rcpt-To: {_ascii(one.address)}" for one in found.recipients]
    return "".join(f"{one}\r\n" for one in lines)


def _original(event: SendingEvent, original: str) -> str:
    subject = [f"Subject: {_encoded('Subject', event.subject)}"] if event.subject else []
    lines = [f"From: {_ascii(event.source)}", f"Message-ID: {original}", *subject]
    return "".join(f"{one}\r\n" for one in [*lines, f"Date: {format_datetime(event.sent)}"])


def _part(kind: str, content: str, quoted: bool = False) -> str:
    if not quoted:
        return f"Content-Type: {kind}\r\n\r\n{content}"
    octets = quopri.encodestring(content.encode("utf-8")).decode("ascii").replace("\n", "\r\n")
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{octets}"


def _encoded(name: str, text: str) -> str:
    return Header(text, None if text.isascii() else "utf-8", header_name=name).encode(linesep="\r\n")


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")
