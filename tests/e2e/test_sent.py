"""Sent mail: one copy, with the id that recipients know, in one thread with the reply; by SES and by the relay."""

import email
import email.message
import email.policy
import email.utils
import imaplib
import re
import signal
import smtplib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.e2e.conftest import SERVERS, Running
from tests.e2e.people import stranger, wait
from tests.e2e.test_sending import Commands
from twinmail.local import services
from twinmail.local.state import LOOPBACK, Claim
from twinmail.smtp_credentials import smtp_password

ME, YOU, THIRD = "u12@example.org", "u13@example.org", "u14@example.org"


@dataclass
class Letter:
    """A message that a mail program made."""

    subject: str = field(default_factory=lambda: f"sent {uuid.uuid4().hex}")
    sender: str = ME
    to: str = YOU
    extra: str = ""
    body: bytes = b"Gr\xc3\xbc\xc3\x9fe\r\n"

    def __post_init__(self) -> None:
        self.message_id = f"<{uuid.uuid4().hex}@client.example>"

    def octets(self) -> bytes:
        date = email.utils.formatdate(localtime=False)
        head = (
            f"Date: {date}\r\nFrom: <{self.sender}>\r\nTo: <{self.to}>\r\nMessage-ID: {self.message_id}\r\n"
            f"{self.extra}Subject: {self.subject}\r\nMIME-Version: 1.0\r\n"
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        )
        return head.encode() + self.body


def by_relay(running: Running, server: str, user: str = "u12", password: str = "") -> smtplib.SMTP:
    """A session at Dovecot's submission service."""
    port = running.system.ports[f"{server}-submission"]
    client = smtplib.SMTP_SSL(LOOPBACK, port, context=running.tls, timeout=120)
    client.login(user, password or running.passwords[user.partition("@")[0]])
    return client


def by_ses(running: Running) -> smtplib.SMTP:
    """A session at SES's endpoint."""
    client = smtplib.SMTP_SSL(
        "localhost", running.system.ports["submissions"], context=running.tls, timeout=120
    )
    client.login(services.ACCESS_KEY, smtp_password(services.SECRET_KEY, running.system.config.region))
    return client


def imap(running: Running, server: str, user: str) -> imaplib.IMAP4_SSL:
    client = imaplib.IMAP4_SSL(
        LOOPBACK, running.system.ports[f"{server}-imaps"], ssl_context=running.tls, timeout=120
    )
    client.login(user, running.passwords[user])
    return client


def store(running: Running, server: str, data: bytes, user: str = "u12") -> None:
    """Store a copy in Sent, as mail programs do."""
    with imap(running, server, user) as client:
        assert client.append("Sent", "(\\Seen)", imaplib.Time2Internaldate(time.time()), data)[0] == "OK"


@dataclass(frozen=True)
class Found:
    """A message in a folder."""

    flags: str
    octets: bytes

    @property
    def message(self) -> email.message.EmailMessage:
        parsed = email.message_from_bytes(self.octets, policy=email.policy.default)
        assert isinstance(parsed, email.message.EmailMessage)
        return parsed

    def field(self, name: str) -> str:
        # Raw: the modern policy would mend what it shows.
        raw = email.message_from_bytes(self.octets, policy=email.policy.compat32)
        return " ".join(str(raw[name] or "").split())


def look(running: Running, server: str, user: str, folder: str, subject: str) -> list[Found]:
    with imap(running, server, user) as client:
        if client.select(folder, readonly=True)[0] != "OK":
            return []
        _, (uids,) = client.uid("SEARCH", None, "HEADER", "Subject", f'"{subject}"')
        found = []
        for uid in uids.split():
            _, parts = client.uid("FETCH", uid.decode(), "(FLAGS BODY.PEEK[])")
            if parts and isinstance(parts[0], tuple):
                flags = re.search(
                    rb"FLAGS \(([^)]*)\)",
                    b"".join(one if isinstance(one, bytes) else one[0] for one in parts),
                )
                found.append(Found(flags[1].decode() if flags else "", parts[0][1]))
        return found


def arrived(running: Running, letter: Letter, user: str = "u13") -> Found:
    """The message as its recipient has it."""
    found: list[Found] = []

    def there() -> bool:
        found[:] = look(running, "primary", user, "INBOX", letter.subject)
        return bool(found)

    wait(there, f"{letter.subject} at {user}")
    assert len(found) == 1
    return found[0]


def one_copy(running: Running, server: str, letter: Letter, user: str = "u12") -> Found:
    """The copy in Sent, once it has the id that recipients know."""
    known = arrived(running, letter).field("Message-ID")
    assert "amazonses.com" in known
    copies: list[Found] = []

    def settled() -> bool:
        copies[:] = look(running, server, user, "Sent", letter.subject)
        return [one.field("Message-ID") for one in copies] == [known]

    wait(settled, f"one copy of {letter.subject} with {known}")
    assert "\\Seen" in copies[0].flags
    assert copies[0].field("X-Original-Message-ID") == letter.message_id
    return copies[0]


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_client_of_ses_has_one_copy(running: Running, server: str, copies: int, when: str) -> None:
    letter = Letter()
    octets = letter.octets()
    if when == "before":
        for _ in range(copies):
            store(running, server, octets)
    with by_ses(running) as client:
        client.sendmail(ME, [YOU], octets)
    if when == "after":
        arrived(running, letter)
        for _ in range(copies):
            store(running, server, octets)
    copy = one_copy(running, server, letter)
    assert copy.octets.endswith(letter.body)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("stores", ["none", "before", "after", "twice"])
def test_a_client_of_the_relay_has_one_copy(running: Running, server: str, stores: str) -> None:
    letter = Letter()
    octets = letter.octets()
    if stores == "before":
        store(running, server, octets)
    with by_relay(running, server) as client:
        client.sendmail(ME, [YOU], octets)
    if stores == "none":
        # Durable before the 250: there is nothing to wait for.
        assert len(look(running, server, "u12", "Sent", letter.subject)) == 1
    for _ in range({"after": 1, "twice": 2}.get(stores, 0)):
        store(running, server, octets)
    copy = one_copy(running, server, letter)
    assert copy.octets.endswith(letter.body)


def test_the_reply_is_in_one_thread_with_the_copy(running: Running) -> None:
    letter = Letter()
    with by_relay(running, "primary") as client:
        client.sendmail(ME, [YOU], letter.octets())
    known = arrived(running, letter).field("Message-ID")
    reply = Letter(
        subject=f"Re: {letter.subject}",
        sender=YOU,
        to=ME,
        extra=f"In-Reply-To: {known}\r\nReferences: {known}\r\n",
    )
    with by_relay(running, "primary", "u13") as client:
        client.sendmail(YOU, [ME], reply.octets())
    answered: list[Found] = []

    def there() -> bool:
        answered[:] = look(running, "primary", "u12", "INBOX", reply.subject)
        return bool(answered)

    wait(there, "the reply")
    copy = one_copy(running, "primary", letter)
    # As a client that shows conversations does: both in one view, threaded by References alone.
    folder = f"Thread{uuid.uuid4().hex[:8]}"
    with imap(running, "primary", "u12") as client:
        client.create(folder)
        for one in (copy, answered[0]):
            octets = re.sub(
                rb"(?im)^subject:[^\n]*", b"Subject: unlike " + uuid.uuid4().hex.encode(), one.octets, count=1
            )
            client.append(folder, "", imaplib.Time2Internaldate(time.time()), octets)
        client.select(folder, readonly=True)
        _, (threads,) = client.uid("THREAD", "REFERENCES", "UTF-8", "ALL")
    assert threads == b"(1 2)"


@pytest.mark.parametrize(
    ("mail_from", "sender"),
    [("u13@example.org", ME), (ME, "u13@example.org"), (ME, "president@example.com"), (ME, f"{ME}>, <{YOU}")],
)
def test_nobody_writes_as_somebody_else(running: Running, mail_from: str, sender: str) -> None:
    letter = Letter(sender=sender)
    with by_relay(running, "primary") as client, pytest.raises(smtplib.SMTPException) as refused:
        client.sendmail(mail_from, [YOU], letter.octets())
    assert "550" in str(refused.value)
    assert "is not an address of u12, which may send from u12@example.org" in str(refused.value)
    assert look(running, "primary", "u12", "Sent", letter.subject) == []


@pytest.mark.parametrize("user", ["u12", "u12@example.org"])
def test_a_wrong_password_is_refused(running: Running, user: str) -> None:
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        by_relay(running, "primary", user, "wrong")
    assert refused.value.smtp_code == 535


def test_login_by_address_and_a_tagged_sender(running: Running) -> None:
    letter = Letter(sender="u12+shop@example.org")
    with by_relay(running, "backup", "u12@example.org") as client:
        client.sendmail("u12+shop@example.org", [YOU], letter.octets())
    one_copy(running, "backup", letter)


def test_an_app_password_sends_until_it_is_revoked(running: Running) -> None:
    claim = Claim(running.state)
    assert claim.take()
    try:
        commands = Commands(running)
        password = str(commands.json("app-password", "add", "u12", "--label", "phone")["password"])

        def taken() -> bool:
            try:
                by_relay(running, "primary", "u12", password).quit()
            except smtplib.SMTPException:
                return False
            return True

        wait(taken, "login with the app password")
        letter = Letter()
        with by_relay(running, "primary", "u12", password) as client:
            client.sendmail(ME, [YOU], letter.octets())
        one_copy(running, "primary", letter)
        commands.json("app-password", "revoke", "u12", "phone")
        wait(lambda: not taken(), "the end of the app password")
    finally:
        claim.release()


def test_a_blind_recipient_is_seen_by_the_sender_alone(running: Running) -> None:
    letter = Letter(extra=f"Bcc: <{THIRD}>,\r\n <hidden@example.com>\r\n")
    with by_relay(running, "primary") as client:
        client.sendmail(ME, [YOU, THIRD], letter.octets())
    for user in ("u13", "u14"):
        got = arrived(running, letter, user)
        assert b"hidden@example.com" not in got.octets
        assert got.field("Bcc") == ""
    assert THIRD in one_copy(running, "primary", letter).field("Bcc")


def test_thirty_megabytes(running: Running) -> None:
    line = b"0123456789abcdef" * 4 + b"\r\n"
    letter = Letter(body=line * (30_000_000 // len(line)))
    with by_relay(running, "primary") as client:
        client.sendmail(ME, [YOU], letter.octets())
    assert arrived(running, letter).octets.endswith(letter.body)
    assert one_copy(running, "primary", letter).octets.endswith(letter.body)


def test_while_ses_is_away_the_client_is_told_to_try_again(running: Running) -> None:
    letter = Letter()
    running.system.stop_container("edge")
    try:
        with by_relay(running, "primary") as client, pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail(ME, [YOU], letter.octets())
        assert refused.value.smtp_code == 451
    finally:
        running.system.restart("edge")
    assert look(running, "primary", "u12", "Sent", letter.subject) == []
    with by_relay(running, "primary") as client:
        client.sendmail(ME, [YOU], letter.octets())
    one_copy(running, "primary", letter)


def test_more_recipients_than_ses_takes_are_for_a_second_message(running: Running) -> None:
    with by_relay(running, "primary") as client:
        refused = client.sendmail(ME, [stranger() for _ in range(60)], Letter().octets())
    assert len(refused) == 10
    assert {code for code, _ in refused.values()} <= {451, 452}


def test_a_relay_that_is_killed_comes_back_and_nothing_is_there_twice(running: Running) -> None:
    first, second = Letter(), Letter()
    with by_relay(running, "primary") as client:
        client.sendmail(ME, [YOU], first.octets())
    running.system.containers["primary-relay"].kill(signal.SIGKILL)
    retry: Callable[[], bool] = lambda: "primary-relay" in running.system.ended()  # noqa: E731
    wait(retry, "the end of the relay")
    with pytest.raises(smtplib.SMTPException), by_relay(running, "primary") as client:
        client.sendmail(ME, [YOU], second.octets())
    running.system.restart("primary-relay")
    with by_relay(running, "primary") as client:
        client.sendmail(ME, [YOU], second.octets())
    for letter in (first, second):
        one_copy(running, "primary", letter)
        assert len(look(running, "primary", "u13", "INBOX", letter.subject)) == 1
