"""What the operator asks when somebody says that mail did not arrive."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import SERVERS, Running
from tests.e2e.mail import Accepted
from tests.e2e.test_sending import Commands, letter, poll
from twinmail.layout import incoming_key
from twinmail.local.state import Claim


@pytest.fixture(scope="module")
def commands(running: Running) -> Iterator[Commands]:
    claim = Claim(running.state)
    assert claim.take()
    yield Commands(running)
    claim.release()


@pytest.fixture(scope="module")
def word() -> str:
    return f"w{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="module")
def accepted(running: Running, word: str) -> Accepted:
    """A letter with a file, for two mailboxes, which both servers have delivered."""
    message = letter("Jörg <joerg@example.com>", "team@example.org", f"Grüße {word}")
    message.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="Vertrag.pdf")
    sent = running.sender.send(message.as_bytes(), ["team@example.org"])
    running.assert_once("ann", sent)
    running.assert_once("bob", sent)
    return sent


def lines(commands: Commands, *words: str) -> list[dict[str, Any]]:
    done = commands.run("search", *words, "--json")
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(one) for one in done.stdout.splitlines()]


def test_a_message_is_found_by_what_a_person_remembers(
    commands: Commands, accepted: Accepted, word: str
) -> None:
    (found,) = lines(
        commands,
        "--from",
        "jörg",
        "--to",
        "TEAM@",
        "--subject",
        f"grüsse {word}",
        "--since",
        "1h",
        "--has-attachment",
    )
    assert found["ses_id"] == accepted.ses_id and found["attachments"] == ["Vertrag.pdf"]
    assert found["mailboxes"] == {"ann": "INBOX", "bob": "INBOX"}
    assert [one["ses_id"] for one in lines(commands, "--mailbox", "bob", "--limit", "1")] == [accepted.ses_id]
    assert not lines(commands, "--subject", word, "--until", "1h")
    assert not lines(commands, "--subject", word, "--mailbox", "carol")
    shown = commands.run("search", "--subject", word)
    assert shown.returncode == 0 and accepted.ses_id in shown.stdout and word in shown.stdout


def test_nothing_found_and_bad_dates_are_said_in_one_line(commands: Commands) -> None:
    for words, said in (
        (("--subject", uuid.uuid4().hex), "no message is like that"),
        (("--since", "yesterday"), "--since yesterday: expected a day"),
        (("--limit", "-1"), "--limit -1"),
    ):
        done = commands.run("search", *words)
        assert done.returncode == 1 and done.stderr.startswith(said) and done.stderr.count("\n") == 1


def test_everything_that_happened_to_a_message_is_shown_with_its_time(
    commands: Commands, accepted: Accepted
) -> None:
    told = commands.json("show", accepted.ses_id)
    who = [one["who"] for one in told["events"]]
    assert who[0] == "SES" and {"S3", "function", "log", "index", *SERVERS} <= set(who)
    assert all(one["at"] for one in told["events"] if one["who"] != "index")
    for server in SERVERS:
        own = [one["what"] for one in told["events"] if one["who"] == server]
        assert {one.split(";")[0] for one in own} == {"delivered to ann/INBOX", "delivered to bob/INBOX"}
        assert all("now in INBOX" in one for one in own)
    assert told["conclusion"] == "primary has it; backup has it" and not told["trouble"]
    text = commands.run("show", accepted.ses_id)
    assert text.returncode == 0 and text.stdout.endswith("primary has it; backup has it\n")


def test_the_raw_message_is_what_ses_received(
    running: Running, commands: Commands, accepted: Accepted
) -> None:
    config, s3 = running.system.config, running.system.session().client("s3")
    stored = s3.get_object(Bucket=config.bucket, Key=incoming_key(accepted.ses_id))["Body"].read()
    # As text, since the letter is ASCII; the command writes octets.
    assert commands.run("show", accepted.ses_id, "--raw").stdout == stored.decode().replace("\r\n", "\n")


def test_what_a_user_deleted_is_told_apart_from_what_never_came(running: Running, commands: Commands) -> None:
    sent = running.sender.send(b"Subject: short\r\n\r\nlife\r\n", ["bob@example.org"])
    running.assert_once("bob", sent)
    with running.client("primary", "bob") as client:
        (uid,) = client.wait_for([sent], "INBOX", 60)[sent.ses_id]
        client.imap.select("INBOX")
        client.imap.uid("STORE", uid, "+FLAGS", r"(\Deleted)")
        client.imap.expunge()
    told = commands.json("show", sent.ses_id)
    assert told["conclusion"].startswith("primary had it, and a user deleted it")


def test_a_message_that_was_moved_is_found_where_it_is(running: Running, commands: Commands) -> None:
    sent = running.sender.send(b"Subject: filed\r\n\r\naway\r\n", ["bob@example.org"])
    running.assert_once("bob", sent)
    with running.client("backup", "bob") as client:
        (uid,) = client.wait_for([sent], "INBOX", 60)[sent.ses_id]
        client.imap.select("INBOX")
        client.imap.uid("MOVE", uid, "Archive")
    told = commands.json("show", sent.ses_id)
    (own,) = [one["what"] for one in told["events"] if one["who"] == "backup"]
    assert own == "delivered to bob/INBOX; now in Archive"


def test_a_message_that_the_function_never_saw_is_said_to_wait(running: Running, commands: Commands) -> None:
    config, s3 = running.system.config, running.system.session().client("s3")
    ses_id = f"lost{uuid.uuid4().hex}"
    s3.put_object(Bucket=config.bucket, Key=incoming_key(ses_id), Body=b"Subject: lost\r\n\r\n")
    told = commands.json("show", ses_id)
    assert told["conclusion"].startswith("SES has stored it, but it is not in the log")
    s3.delete_object(Bucket=config.bucket, Key=incoming_key(ses_id))


def test_an_id_that_nobody_knows_is_an_error_with_the_next_step(commands: Commands) -> None:
    done = commands.run("show", uuid.uuid4().hex)
    assert done.returncode == 1 and "no part of the system knows it" in done.stderr
    assert commands.run("show", "../etc/passwd").stderr.startswith("SES message id '../etc/passwd'")


def test_a_server_that_is_down_does_not_hide_what_the_others_know(
    running: Running, commands: Commands, accepted: Accepted
) -> None:
    running.system.stop_container("backup-syncer")
    try:
        told = commands.json("show", accepted.ses_id)
    finally:
        running.system.start_syncer("backup")
        running.system.wait_for_syncer("backup")
    assert told["conclusion"] == "primary has it; backup does not answer"
    assert any(one.startswith("backup: ") for one in told["trouble"])


def test_what_became_of_a_sent_message_is_shown(running: Running, commands: Commands) -> None:
    ses = running.system.session().client("ses")
    text = letter("ann@example.org", "bounce@simulator.amazonses.com")
    sent = ses.send_raw_email(
        Source="ann@example.org",
        Destinations=["bounce@simulator.amazonses.com"],
        RawMessage={"Data": text.as_bytes()},
        ConfigurationSetName=running.system.config.stack,
    )["MessageId"]

    def bounced() -> dict[str, Any] | None:
        done = commands.run("show", sent, "--json")
        told: dict[str, Any] = json.loads(done.stdout)
        return told if "bounce" in told["conclusion"] and "no bounce" not in told["conclusion"] else None

    told = poll(bounced, "the bounce")
    assert told["sent"] and told["events"][0]["what"].startswith("sent from <ann@example.org>")
