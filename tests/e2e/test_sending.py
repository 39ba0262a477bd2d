"""Sending: with the credentials that the command prints, from one's own addresses, and what becomes of it."""

import email
import email.policy
import imaplib
import json
import smtplib
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any, TypeVar

import pytest

from tests.e2e.conftest import SERVERS, Running
from twinmail.local.state import LOOPBACK, Claim
from twinmail.sent_record import SentRecord
from twinmail.tasks.config import PROJECT

SECONDS = 60.0
Found = TypeVar("Found")


def poll(attempt: Callable[[], Found | None], what: str) -> Found:
    deadline = time.monotonic() + SECONDS
    while True:
        result = attempt()
        if result is not None:
            return result
        assert time.monotonic() < deadline, f"{what}: not within {SECONDS} s"
        time.sleep(0.2)


@dataclass
class Commands:
    """``./inv`` for the system under test."""

    running: Running

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        system = self.running.system
        where = ["--config", str(system.config_file), "--state", str(system.state.root)]
        command = [sys.executable, str(PROJECT / "tasks.py"), *words, *where]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def json(self, *words: str) -> dict[str, Any]:
        result = self.run(*words, "--json")
        assert result.returncode == 0, result.stderr
        found: dict[str, Any] = json.loads(result.stdout)
        return found


@pytest.fixture(scope="module")
def commands(running: Running) -> Iterator[Commands]:
    claim = Claim(running.state)
    assert claim.take()
    yield Commands(running)
    claim.release()


@pytest.fixture(scope="module")
def ann(commands: Commands) -> Iterator[dict[str, Any]]:
    """Ann's credential."""
    yield commands.json("smtp-credentials", "ann")
    commands.json("smtp-credentials", "ann", "--revoke")


def connect(running: Running, credential: dict[str, Any], port: str = "port") -> smtplib.SMTP:
    """A session of a mail client, logged in."""
    where = (credential["host"], credential[port])
    if port == "port":
        client: smtplib.SMTP = smtplib.SMTP_SSL(*where, context=running.tls, timeout=30)
    else:
        client = smtplib.SMTP(*where, timeout=30)
        client.starttls(context=running.tls)
    client.login(credential["user"], credential["password"])
    return client


def letter(from_: str, to: str, subject: str = "") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = from_, to
    message["Subject"] = subject or f"letter {uuid.uuid4().hex[:8]}"
    message["Message-ID"] = f"<{uuid.uuid4().hex}@client.example.org>"
    message.set_content("Grüße\n")
    return message


def find(running: Running, server: str, user: str, criterion: str, value: str) -> list[EmailMessage]:
    """The messages in the INBOX of *user* with *value* in the field *criterion*."""
    with running.client(server, user) as client:
        imap: imaplib.IMAP4 = client.imap
        imap.select("INBOX", readonly=True)
        _, (numbers,) = imap.uid("SEARCH", "HEADER", criterion, f'"{value}"')
        found = []
        for uid in numbers.split():
            parsed = email.message_from_bytes(client.fetch(uid.decode()), policy=email.policy.default)
            assert isinstance(parsed, EmailMessage)
            found.append(parsed)
        return found


def wait_for(running: Running, server: str, user: str, field: str, value: str) -> list[EmailMessage]:
    """As `find`, once there is one."""
    return poll(lambda: find(running, server, user, field, value) or None, f"{field}: {value} on {server}")


def ses_id(answer: tuple[int, bytes]) -> str:
    assert answer[0] == 250, answer
    return answer[1].split()[1].decode()


def send(client: smtplib.SMTP, message: EmailMessage, sender: str, *recipients: str) -> str:
    """Send *message*; SES's id of it."""
    assert client.mail(sender)[0] == 250
    for one in recipients:
        assert client.rcpt(one)[0] == 250
    return ses_id(client.data(message.as_bytes(policy=email.policy.SMTP)))


@pytest.mark.parametrize("port", ["port", "starttls_port"])
def test_credentials_that_the_command_prints_send_by_both_ports(
    running: Running, ann: dict[str, Any], port: str
) -> None:
    message = letter("Ann <ann@example.org>", "bob@example.org")
    with connect(running, ann, port) as client:
        sent = send(client, message, "ann@example.org", "bob@example.org")
    for server in SERVERS:
        (got,) = wait_for(running, server, "bob", "Subject", message["Subject"])
        assert got["Message-ID"] == f"<{sent}@eu-central-1.amazonses.com>"
        assert got.get_content().split() == ["Grüße"]


def test_command_says_everything_that_a_client_asks_for_and_the_password_once(
    running: Running, commands: Commands
) -> None:
    result = commands.run("smtp-credentials", "u03")
    assert result.returncode == 0, result.stderr
    system = running.system
    words = dict(line.split(maxsplit=1) for line in result.stdout.splitlines()[:4])
    assert words["host"] == LOOPBACK
    assert (
        words["port"]
        == f"{system.ports['submissions']} (SSL/TLS), or {system.ports['submission']} (STARTTLS)"
    )
    listed = commands.run("smtp-credentials", "u03", "--list").stdout
    assert words["user"] in listed and words["password"] not in listed
    for path in system.state.root.rglob("*"):
        if path.is_file() and "localstack" not in path.parts and path.stat().st_size < 10_000_000:
            assert words["password"].encode() not in path.read_bytes(), path
    commands.json("smtp-credentials", "u03", "--revoke")


@pytest.mark.parametrize(
    ("field", "envelope"),
    [
        pytest.param("ann@example.com", "ann@example.org", id="foreign field"),
        pytest.param("ann@example.org", "ann@example.com", id="foreign envelope"),
        pytest.param("bob@example.org", "ann@example.org", id="another mailbox's address in the field"),
        pytest.param("ann@example.org", "bob@example.org", id="another mailbox's address in the envelope"),
        pytest.param(
            "carol@example.net", "carol@example.net", id="another mailbox in another domain of ours"
        ),
    ],
)
def test_only_the_own_addresses_may_be_used(
    running: Running, ann: dict[str, Any], field: str, envelope: str
) -> None:
    with connect(running, ann) as client, pytest.raises(smtplib.SMTPResponseException) as refused:
        client.send_message(letter(field, "bob@example.org"), envelope, ["bob@example.org"])
    assert refused.value.smtp_code == 554
    assert str(refused.value.smtp_error).startswith('b"Access denied: User `arn:aws:iam::000000000000:user/')
    assert b"is not authorized to perform `ses:SendRawEmail'" in bytes(refused.value.smtp_error)


@pytest.mark.parametrize("address", ["ann@example.net", "team@example.org", "ann+shop@example.org"])
def test_all_own_addresses_may_be_used(running: Running, ann: dict[str, Any], address: str) -> None:
    with connect(running, ann) as client:
        send(client, letter(address, "far@example.com"), address, "far@example.com")


def test_catch_all_sends_from_any_address_but_those_of_others(running: Running, commands: Commands) -> None:
    carol = commands.json("smtp-credentials", "carol")
    with connect(running, carol) as client:
        send(
            client, letter("any.thing@example.net", "x@example.com"), "any.thing@example.net", "x@example.com"
        )
        with pytest.raises(smtplib.SMTPDataError):
            client.send_message(letter("ann@example.net", "x@example.com"), "any.thing@example.net")
        client.rset()
        with pytest.raises(smtplib.SMTPDataError):
            client.send_message(letter("any.thing@example.net", "x@example.com"), "ann@example.net")
    commands.json("smtp-credentials", "carol", "--revoke")


def test_two_credentials_at_most_then_rotation_and_revocation(running: Running, commands: Commands) -> None:
    made = [commands.json("smtp-credentials", "u01") for _ in range(2)]
    third = commands.run("smtp-credentials", "u01")
    assert third.returncode == 1
    assert "IAM allows 2" in third.stderr and "--rotate" in third.stderr
    new = commands.json("smtp-credentials", "u01", "--rotate")
    assert set(new["removed"]) == {one["user"] for one in made}
    for old in made:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            connect(running, old)
    connect(running, new).quit()
    assert commands.json("smtp-credentials", "u01", "--revoke")["removed"] == [new["user"]]
    with pytest.raises(smtplib.SMTPAuthenticationError):
        connect(running, new)
    unknown = commands.run("smtp-credentials", "nobody")
    assert unknown.returncode == 1 and "unknown mailbox 'nobody'" in unknown.stderr


def test_what_was_sent_is_recorded_with_both_ids(running: Running, ann: dict[str, Any]) -> None:
    message = letter("ann@example.org", "far@example.com")
    with connect(running, ann) as client:
        sent = send(client, message, "ann@example.org", "far@example.com")
    s3 = running.system.session().client("s3")

    def attempt() -> SentRecord | None:
        listed = s3.list_objects_v2(Bucket="example-mail", Prefix="state/sent/").get("Contents", ())
        key = next((one["Key"] for one in listed if one["Key"].endswith(f"/{sent}.json")), None)
        return (
            SentRecord.from_bytes(s3.get_object(Bucket="example-mail", Key=key)["Body"].read())
            if key
            else None
        )

    record = poll(attempt, "record")
    assert record.message_id == message["Message-ID"]
    assert (record.mailbox, record.source) == ("ann", "ann@example.org")
    assert record.recipients == ("far@example.com",)


NOTICES = [
    pytest.param("bounce@simulator.amazonses.com", "Not delivered", "550 5.1.1 user unknown", id="bounce"),
    pytest.param("suppressionlist@simulator.amazonses.com", "Not delivered", "suppressed", id="suppressed"),
    pytest.param("ooto@simulator.amazonses.com", "Maybe not delivered", "automatic answer", id="away"),
    pytest.param("complaint@simulator.amazonses.com", "Marked as spam", "reputation", id="complaint"),
    pytest.param("nobody.here@example.org", "Not delivered", "mailbox unavailable", id="unknown here"),
]


@pytest.mark.parametrize(("recipient", "headline", "words"), NOTICES)
def test_what_went_wrong_is_told_to_the_sender_once_on_both_servers(
    running: Running, ann: dict[str, Any], commands: Commands, recipient: str, headline: str, words: str
) -> None:
    message = letter("ann@example.org", recipient, f"Straße {uuid.uuid4().hex[:8]}")
    with connect(running, ann) as client:
        send(client, message, "ann@example.org", recipient)
    for server in SERVERS:
        (notice,) = wait_for(running, server, "ann", "In-Reply-To", message["Message-ID"])
        assert notice["Subject"] == f"{headline}: {message['Subject']}"
        assert notice["From"].addresses[0].username == "MAILER-DAEMON"
        assert notice["Auto-Submitted"] == "auto-replied"
        text = notice.get_body(("plain",)).get_content()
        assert recipient in text and words in text and message["Subject"] in text
    kinds = {"Marked as spam": "complaint"}
    latest = poll(
        lambda: next(
            (one for one in status(commands)["sending"]["latest"] if one["to"] == [recipient]), None
        ),
        "status",
    )
    assert latest["kind"] == kinds.get(headline, "bounce") and latest["from"] == "ann@example.org"
    # Nobody was told twice, and nobody else at all.
    for server in SERVERS:
        assert len(find(running, server, "ann", "In-Reply-To", message["Message-ID"])) == 1
        assert not find(running, server, "bob", "In-Reply-To", message["Message-ID"])


def test_delivered_mail_causes_no_notice(running: Running, ann: dict[str, Any]) -> None:
    good = letter("ann@example.org", "success@simulator.amazonses.com")
    bad = letter("ann@example.org", "bounce@simulator.amazonses.com")
    with connect(running, ann) as client:
        send(client, good, "ann@example.org", "success@simulator.amazonses.com")
        send(client, bad, "ann@example.org", "bounce@simulator.amazonses.com")
    wait_for(running, "primary", "ann", "In-Reply-To", bad["Message-ID"])
    assert not find(running, "primary", "ann", "In-Reply-To", good["Message-ID"])


def test_mail_that_was_taken_is_delivered_once_after_the_edge_is_back(running: Running) -> None:
    system = running.system
    message = letter("ann@example.org", "bob@example.org")
    system.stop_container("edge")
    try:
        system.session().client("ses").send_raw_email(
            Source="ann@example.org",
            Destinations=["bob@example.org"],
            RawMessage={"Data": message.as_bytes(policy=email.policy.SMTP)},
        )
    finally:
        system.start_edge()
        system.wait_for_edge()
    for server in SERVERS:
        assert len(wait_for(running, server, "bob", "Subject", message["Subject"])) == 1


def test_credentials_and_taken_mail_outlive_a_crash_of_the_cloud(
    running: Running, ann: dict[str, Any]
) -> None:
    system = running.system
    before, after = letter("ann@example.org", "bob@example.org"), letter("ann@example.org", "bob@example.org")
    system.stop_container("edge")
    system.session().client("ses").send_raw_email(
        RawMessage={"Data": before.as_bytes(policy=email.policy.SMTP)}
    )
    system.containers["localstack"].kill()
    system.containers["localstack"].wait(SECONDS)
    system.restart("localstack")
    system.start_edge()
    system.wait_for_edge()
    with connect(running, ann) as client:
        send(client, after, "ann@example.org", "bob@example.org")
    for message in (before, after):
        for server in SERVERS:
            assert len(wait_for(running, server, "bob", "Subject", message["Subject"])) == 1


def test_virus_is_not_sent_and_its_sender_is_told(running: Running, ann: dict[str, Any]) -> None:
    # The EICAR test file, in two parts so that a scanner does not stop this source file.
    eicar = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR" + "-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
    message = letter("ann@example.org", "bob@example.org")
    message.set_content(f"{eicar}\n")
    with connect(running, ann) as client:
        send(client, message, "ann@example.org", "bob@example.org")
    (notice,) = wait_for(running, "primary", "ann", "In-Reply-To", message["Message-ID"])
    assert notice["Subject"].startswith("Not sent: ")
    assert not find(running, "primary", "bob", "Subject", message["Subject"])


def status(commands: Commands) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(commands.run("status", "--json").stdout)
    return found


def test_status_shows_every_part_and_works_while_one_is_down(
    running: Running, commands: Commands, ann: dict[str, Any]
) -> None:
    with connect(running, ann) as client:
        nowhere = "bounce@simulator.amazonses.com"
        send(client, letter("ann@example.org", nowhere), "ann@example.org", nowhere)
    poll(lambda: status(commands)["sending"]["bounces"] or None, "bounce in the status")

    def caught_up() -> bool | None:
        return all(one["lag_seconds"] == 0 for one in status(commands)["servers"]) or None

    poll(caught_up, "servers that have looked at the whole log")
    assert all(one["days"] > 0 for one in status(commands)["certificates"])
    result = commands.run("status")
    for part in (*SERVERS, "twinmail-primary", "twinmail-dead-letters", running.system.endpoint):
        assert part in result.stdout, result.stdout + result.stderr
    found = status(commands)
    assert found["sending"]["sent"] > 0 and found["sending"]["bounces"] > 0
    assert all(one["said"]["ready"] for one in found["servers"])
    running.system.stop_container("backup-syncer")
    try:
        result = commands.run("status", "--json")
        assert result.returncode == 1
        problems = json.loads(result.stdout)["problems"]
        assert any(one.startswith("backup: its syncer does not answer") for one in problems), problems
    finally:
        running.system.start_syncer("backup")
        running.system.wait_for_syncer("backup")
