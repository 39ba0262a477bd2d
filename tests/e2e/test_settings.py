"""Filters that were written on one server act on both, and survive the loss of a disk."""

import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import SERVERS, Running
from tests.e2e.people import filters, use_script, wait

LISTS = 'require ["fileinto", "mailbox"];\r\nif header :contains "subject" "[list]" { fileinto :create "Lists"; }\r\n'


def message(subject: str, sender: str = "sender@example.com", to: str = "u30@example.org") -> bytes:
    return f"From: {sender}\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nHello\r\n".encode()


@pytest.mark.parametrize(("server", "user"), [("backup", "u30"), ("primary", "u31")])
def test_script_of_one_server_acts_on_both(running: Running, server: str, user: str) -> None:
    use_script(running, server, user, LISTS)
    accepted = running.sender.send(message("[list] news", to=f"{user}@example.org"), [f"{user}@example.org"])
    for one in SERVERS:
        with running.client(one, user) as client:
            wait(lambda box=client: box.imap.select("Lists")[0] == "OK", f"Lists on {one}")  # type: ignore[misc]
    running.assert_once(user, accepted, "Lists")
    other = running.sender.send(message("plain", to=f"{user}@example.org"), [f"{user}@example.org"])
    running.assert_once(user, other)


def test_scripts_edited_on_both_servers_at_once_are_both_kept(running: Running) -> None:
    with filters(running, "primary", "u32") as primary, filters(running, "backup", "u32") as backup:
        primary.put("one", "keep;\r\n")
        backup.put("two", "stop;\r\n")
        for client in (primary, backup):
            wait(lambda one=client: set(one.scripts()) == {"one", "two"}, "both scripts")  # type: ignore[misc]
        backup.delete("one")
        wait(lambda: set(primary.scripts()) == {"two"}, "the deletion")


@pytest.fixture
def backup(running: Running) -> Iterator[Running]:
    """A running system whose backup syncer the test may replace; it is whole again afterwards."""
    yield running
    running.system.stop_container("backup-syncer")
    running.system.start_syncer("backup")
    running.system.wait_for_syncer("backup")


def test_script_reaches_a_server_by_poll_alone(backup: Running) -> None:
    backup.system.stop_container("backup-syncer")
    backup.system.start_syncer("backup", "--no-push")
    use_script(backup, "primary", "u27", LISTS)


def test_edits_while_a_syncer_is_down_are_merged_when_it_is_back(backup: Running) -> None:
    use_script(backup, "primary", "u28", LISTS)
    backup.system.stop_container("backup-syncer")
    with filters(backup, "backup", "u28") as there, filters(backup, "primary", "u28") as here:
        there.put("there", "keep;\r\n")
        there.activate("there")
        there.delete("mine")
        here.put("here", "stop;\r\n")
        backup.system.start_syncer("backup")
        for client in (there, here):
            wait(lambda one=client: one.scripts() == {"here": False, "there": True}, "both edits")  # type: ignore[misc]


def test_lost_disk_of_one_server_deletes_no_script(running: Running) -> None:
    use_script(running, "primary", "u33", LISTS)
    shutil.rmtree(running.state.maildirs("primary") / "u33" / "sieve")
    (running.state.maildirs("primary") / "u33" / ".dovecot.sieve").unlink()
    for server in SERVERS:
        with filters(running, server, "u33") as client:
            wait(lambda one=client: one.scripts() == {"mine": True}, f"the script on {server}")  # type: ignore[misc]
