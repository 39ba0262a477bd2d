"""A user's script acts on new mail: on both servers alike, and before any client sees the message."""

import imaplib
import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import SERVERS, Running
from tests.e2e.mail import Accepted, Client, stored
from tests.e2e.people import use_script, wait
from twinmail.local.state import LOOPBACK
from twinmail.sync.steps import STEPS

SCRIPT = """\
require ["fileinto", "mailbox", "imap4flags", "copy", "include", "envelope", "subaddress", "variables"];
if header :is "subject" "file" {
    addflag ["\\\\Flagged", "$label1", "wichtig"];
    fileinto :create "Vereine/B\u00fcro e.V.";
} elsif header :is "subject" "flags" {
    addflag ["\\\\Seen", "wichtig"];
    keep;
} elsif header :is "subject" "drop" {
    discard;
} elsif header :is "subject" "several" {
    fileinto :copy :create "A";
    fileinto :copy :create :flags "\\\\Answered" "B";
} elsif header :is "subject" "stop" {
    stop;
}
if header :is "subject" "stop" { discard; }
if envelope :matches :detail "to" "*" { set :lower "detail" "${1}"; }
if string :is "${detail}" "shop" { fileinto :create "Shop"; stop; }
include :global "lists";
"""


FILED = {"Vereine/B&APw-ro e.V.": {"\\Flagged", "$label1", "wichtig"}}
SEVERAL: dict[str, set[str]] = {"INBOX": set(), "A": set(), "B": {"\\Answered"}}


def message(subject: str, *extra: str) -> bytes:
    lines = ("From: sender@example.com", "To: u20@example.org", f"Subject: {subject}", *extra)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\nHello\r\n"


@pytest.fixture(scope="module")
def filtered(running: Running) -> Running:
    """The running system, where u20 has the script."""
    use_script(running, "primary", "u20", SCRIPT)
    return running


def send(running: Running, subject: str, *extra: str, to: str = "u20@example.org") -> Accepted:
    return running.sender.send(message(subject, *extra), [to])


def copies(running: Running, server: str, accepted: Accepted, user: str = "u20") -> dict[str, set[str]]:
    """Flags and keywords of each copy, by folder, as IMAP shows them."""
    found = {}
    with running.client(server, user) as client:
        _, lines = client.imap.list()
        folders = [re.sub(rb'.*\) "/" ', b"", line).decode().strip('"') for line in lines if line]
        for folder in folders:
            if client.imap.select(f'"{folder}"', readonly=True)[0] != "OK":
                continue  # a level that only holds others
            _, fetched = client.imap.uid("FETCH", "1:*", "(FLAGS X-GUID)")
            for line in fetched:
                if line and accepted.name_part.encode() in line:
                    assert folder not in found, f"twice in {folder}"
                    found[folder] = {one.decode() for one in imaplib.ParseFlags(line) if one != b"\\Recent"}
    return found


def assert_copies(
    running: Running, accepted: Accepted, expected: dict[str, set[str]], user: str = "u20"
) -> None:
    """Both servers come to show *expected*, under the same base name."""
    for server in SERVERS:
        wait(lambda one=server: bool(stored(running.state.maildirs(one), user, accepted)), f"it on {server}")  # type: ignore[misc]
        wait(
            lambda one=server: copies(running, one, accepted, user) == expected, f"{expected} on {server}", 20
        )  # type: ignore[misc]
    names = [
        {path.name.partition(":")[0] for path in stored(running.state.maildirs(server), user, accepted)}
        for server in SERVERS
    ]
    assert names[0] == names[1] and len(names[0]) == 1


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("plain", {"INBOX": set[str]()}),
        ("file", {"Vereine/B&APw-ro e.V.": {"\\Flagged", "$label1", "wichtig"}}),
        ("flags", {"INBOX": {"\\Seen", "wichtig"}}),
        ("drop", {"Trash": set[str]()}),
        ("several", {"INBOX": set[str](), "A": set[str](), "B": {"\\Answered"}}),
        ("stop", {"INBOX": set[str]()}),
    ],
)
def test_both_servers_do_what_the_script_says(
    filtered: Running, subject: str, expected: dict[str, set[str]]
) -> None:
    assert_copies(filtered, send(filtered, subject), expected)


def test_clients_see_the_folders_that_a_script_makes(filtered: Running) -> None:
    """Thunderbird and Roundcube show subscribed folders alone."""
    assert_copies(filtered, send(filtered, "file"), FILED)
    for server in SERVERS:
        with filtered.client(server, "u20") as client:
            _, lines = client.imap.lsub()
            assert any(b"Vereine/B&APw-ro e.V." in (line or b"") for line in lines), lines


def test_the_envelope_decides_not_the_header(filtered: Running) -> None:
    assert_copies(filtered, send(filtered, "tagged", to="u20+Shop@example.org"), {"Shop": set()})


def test_global_rule_that_the_script_includes(filtered: Running) -> None:
    accepted = send(filtered, "news", "List-Id: News <news.example.com>")
    assert_copies(filtered, accepted, {"Lists/news.example.com": set()})


def test_junk_by_ses_goes_to_junk_whatever_the_script_says(filtered: Running) -> None:
    # GTUBE: what the edge, as SES, calls spam.
    gtube = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"
    accepted = filtered.sender.send(message("file") + gtube, ["u20@example.org"])
    assert_copies(filtered, accepted, {"Junk": set()})


def test_who_has_no_script_is_not_affected(filtered: Running) -> None:
    accepted = send(filtered, "file", to="u21@example.org")
    assert_copies(filtered, accepted, {"INBOX": set()}, "u21")


def test_no_client_sees_the_message_where_it_does_not_stay(filtered: Running) -> None:
    """A client that waits in INBOX hears nothing of what is filed elsewhere."""
    with filtered.client("primary", "u20") as client:
        client.imap.select("INBOX")
        before = client.imap.response("EXISTS")[1]
        accepted = send(filtered, "file")
        wait(lambda: bool(stored(filtered.state.maildirs("primary"), "u20", accepted)), "delivery")
        # What is announced in INBOX from now on comes after the filed message.
        witness = send(filtered, "plain")
        wait(lambda: bool(stored(filtered.state.maildirs("primary"), "u20", witness)), "delivery")
        wait(lambda: _announced(client.imap) is not None, "the witness in INBOX")
        assert _announced(client.imap) == int(before[0] or 0) + 1
        assert not client.find(accepted) and client.find(witness)


def _announced(imap: imaplib.IMAP4) -> int | None:
    """How many messages the server last said are in the selected folder."""
    imap.noop()
    told = imap.untagged_responses.get("EXISTS")
    return int(told[-1]) if told else None


def test_a_broken_script_withholds_nothing(running: Running) -> None:
    use_script(running, "primary", "u22", "keep;\r\n")
    for server in SERVERS:
        # ManageSieve takes no such script; a disk that was restored from somewhere may hold one.
        path = running.state.maildirs(server) / "u22" / "sieve" / "mine.sieve"
        path.write_text("this is no sieve\r\n")
    accepted = running.sender.send(message("whatever"), ["u22@example.org"])
    running.assert_once("u22", accepted)
    for server in SERVERS:
        assert "error" in status(running, server)["broken_scripts"]["u22"]
        with running.client(server, "u22") as client:
            wait(lambda one=client: bool(notices(one)), f"a notice on {server}")  # type: ignore[misc]
            assert len(notices(client)) == 1


def status(running: Running, server: str) -> dict[str, Any]:
    """What the syncer of *server* tells the operator."""
    address = f"http://{LOOPBACK}:{running.system.ports[f'{server}-health']}/status"
    with urllib.request.urlopen(address, timeout=30) as answer:
        return dict(json.load(answer))


def notices(client: Client) -> list[str]:
    """UIDs of what tells the user that the script is broken."""
    client.imap.select("INBOX", readonly=True)
    _, found = client.imap.uid("SEARCH", "SUBJECT", '"mail filter does not work"')
    return found[0].decode().split()


@pytest.fixture
def primary(filtered: Running) -> Iterator[Running]:
    """The running system, whose primary server the test may take apart; it is whole again afterwards."""
    system = filtered.system
    yield filtered
    system.stop_container("primary-syncer")
    system.stop_container("primary-dovecot")
    system.start_dovecot("primary")
    system.wait_for_dovecot("primary")
    system.start_syncer("primary")
    system.wait_for_syncer("primary")


@pytest.mark.parametrize(
    "step", ["staged", "decided", "linked:1", "linked:2", "linked:3", "settled", *STEPS[-3:]]
)
def test_killed_in_the_middle_of_a_delivery(primary: Running, step: str) -> None:
    system = primary.system
    system.stop_container("primary-syncer")
    system.start_syncer("primary", "--crash-at", step)
    accepted = send(primary, "several")
    assert system.containers["primary-syncer"].wait(120).code == 137
    system.stop_container("primary-syncer")
    system.start_syncer("primary")
    assert_copies(primary, accepted, SEVERAL)


def test_without_its_own_dovecot_a_server_does_what_the_other_decided(primary: Running) -> None:
    primary.system.stop_container("primary-dovecot")
    accepted = send(primary, "file")
    wait(lambda: bool(stored(primary.state.maildirs("primary"), "u20", accepted)), "delivery without Dovecot")
    primary.system.start_dovecot("primary")
    primary.system.wait_for_dovecot("primary")
    assert_copies(primary, accepted, FILED)


def test_a_lost_ledger_changes_nothing(primary: Running) -> None:
    accepted = send(primary, "several")
    assert_copies(primary, accepted, SEVERAL)
    primary.system.stop_container("primary-syncer")
    for path in primary.state.ledger("primary").glob("*.sqlite*"):
        path.unlink()
    (primary.state.maildirs("primary") / "u20" / "delivered.journal").unlink()
    primary.system.start_syncer("primary")
    primary.system.wait_for_syncer("primary")
    assert_copies(primary, send(primary, "file"), FILED)
    assert_copies(primary, accepted, SEVERAL)
