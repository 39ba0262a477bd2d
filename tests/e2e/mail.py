"""What the end-to-end tests do as people on the Internet and at a mail client do it: SMTP in, IMAPS out."""

import hashlib
import imaplib
import re
import smtplib
import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_STUFF = re.compile(rb"(^|\r\n)\.")
_SES_ID = re.compile(r"\b([a-z0-9]{30,64})\b")


@dataclass(frozen=True)
class Accepted:
    """A message the edge took responsibility for."""

    ses_id: str
    data: bytes

    @property
    def name_part(self) -> str:
        """What every Maildir name of this message contains."""
        return "." + hashlib.sha256(self.ses_id.encode()).hexdigest()[:32] + "."


class Sender:
    """A mail server somewhere on the Internet, which writes to the MX and alters nothing."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._address = (host, port)
        self._tls = tls

    def send(self, data: bytes, to: Sequence[str], mail_from: str = "sender@example.com") -> Accepted:
        """Send exactly *data* (smtplib would mend line endings) to all of *to* in one transaction."""
        return self.send_all([data], to, mail_from)[0]

    def send_all(
        self, messages: Iterable[bytes], to: Sequence[str], mail_from: str = "sender@example.com"
    ) -> list[Accepted]:
        """Send each of *messages* in a transaction of its own over one connection."""
        accepted = []
        with smtplib.SMTP(*self._address, timeout=120) as smtp:
            if self._tls:
                smtp.starttls(context=self._tls)
            smtp.ehlo("sender.example.com")
            for data in messages:
                _checked(smtp.mail(mail_from, ["BODY=8BITMIME"]))
                for recipient in to:
                    _checked(smtp.rcpt(recipient))
                _checked(smtp.docmd("DATA"), 354)
                end = b".\r\n" if data.endswith(b"\r\n") else b"\r\n.\r\n"
                smtp.send(_STUFF.sub(rb"\1..", data) + end)
                answer = _checked(smtp.getreply())
                match = _SES_ID.search(answer)
                assert match, f"no SES message id in {answer!r}"
                accepted.append(Accepted(match[1], data))
        return accepted


def _checked(reply: tuple[int, bytes], expected: int = 250) -> str:
    code, text = reply
    if code != expected:
        raise smtplib.SMTPResponseException(code, text)
    return text.decode("utf-8", "replace")


class Client:
    """A mail client at one mailbox of one server."""

    def __init__(self, host: str, port: int, user: str, password: str, tls: ssl.SSLContext) -> None:
        self.imap = imaplib.IMAP4_SSL(host, port, ssl_context=tls, timeout=120)
        self.imap.login(user, password)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.imap.logout()

    def guids(self, folder: str = "INBOX") -> dict[str, str]:
        """UID by GUID of all messages in *folder*; fails if two share a GUID."""
        status, _ = self.imap.select(folder, readonly=True)
        assert status == "OK", folder
        _, lines = self.imap.uid("FETCH", "1:*", "(X-GUID)")
        found: dict[str, str] = {}
        for line in lines:
            if not line:
                continue
            match = re.search(rb'X-GUID "?([^ )"]+)"?', line)
            uid = re.search(rb"UID (\d+)", line)
            assert match and uid, line
            guid = match[1].decode()
            assert guid not in found, f"two messages have GUID {guid}"
            found[guid] = uid[1].decode()
        return found

    def find(self, accepted: Accepted, folder: str = "INBOX") -> list[str]:
        """UIDs of *accepted* in *folder*."""
        return [uid for guid, uid in self.guids(folder).items() if accepted.name_part in guid]

    def wait_for(
        self, accepted: Iterable[Accepted], folder: str = "INBOX", timeout: float = 60
    ) -> dict[str, list[str]]:
        """Wait until all are there; UIDs by SES message id."""
        wanted = list(accepted)
        deadline = time.monotonic() + timeout
        while True:
            here = self.guids(folder)
            found = {
                one.ses_id: [uid for guid, uid in here.items() if one.name_part in guid] for one in wanted
            }
            missing = [ses_id for ses_id, uids in found.items() if not uids]
            if not missing:
                return found
            assert time.monotonic() < deadline, (
                f"{len(missing)} of {len(wanted)} messages not in {folder} after {timeout} s, first {missing[0]}"
            )
            time.sleep(0.1)

    def fetch(self, uid: str, folder: str = "INBOX") -> bytes:
        """The whole message, without setting \\Seen."""
        self.imap.select(folder, readonly=True)
        _, parts = self.imap.uid("FETCH", uid, "(BODY.PEEK[])")
        body = parts[0][1]
        assert isinstance(body, bytes)
        return body

    def delete(self, uid: str, folder: str = "INBOX") -> None:
        """Delete and expunge, as a person does."""
        self.imap.select(folder)
        self.imap.uid("STORE", uid, "+FLAGS.SILENT", "(\\Deleted)")
        self.imap.uid("EXPUNGE", uid)


def stored(maildirs: Path, user: str, accepted: Accepted) -> list[Path]:
    """Files of *accepted* that Dovecot shows, in any folder of *user*'s Maildir."""
    found = (maildirs / user / "Maildir").rglob(f"*{accepted.name_part}*")
    return [path for path in found if path.parent.name in ("new", "cur")]
