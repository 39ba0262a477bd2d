"""IMAP QUOTA (RFC 9208): what clients see, what they may not store, and where the limit comes from."""

import imaplib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.conftest import IMAGES
from tests.image.dovecot import Dovecot
from twinmail import quota
from twinmail.basename import base_name
from twinmail.imap import session
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.interface import Runtime
from twinmail.sync.log import utc_now
from twinmail.sync.quota import Quotas

MB = 1 << 20
REFUSED = rb"[OVERQUOTA] Your mailbox is full: delete messages, then empty the Trash"


@pytest.fixture(scope="module")
def server(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    folder = tmp_path_factory.mktemp("quota")
    users = ("ann", "bob", "carol", "dave")
    quotas = {"ann": 5 * MB, "bob": 3 * MB, "dave": MB}
    server = Dovecot(runtime, IMAGES / "dovecot", host_platform(), folder, users, quotas=quotas)
    try:
        yield server.start("quota")
    finally:
        server.stop()


def message(name: str, octets: int) -> bytes:
    head = f"Message-ID: <{name}@tests.example.com>\r\n\r\n".encode()
    return head + b"x" * (octets - len(head) - 2) + b"\r\n"


def storage(client: imaplib.IMAP4) -> tuple[int, int]:
    """Used and limit, KB, as a client shows them."""
    status, (roots, lines) = client.getquotaroot("INBOX")
    assert status == "OK" and roots
    match = re.fullmatch(rb'"User quota" \(STORAGE (\d+) (\d+)\)', lines[0])
    assert match, lines
    return int(match[1]), int(match[2])


def test_is_announced_and_each_user_has_their_own(server: Dovecot) -> None:
    for user, limit in (("ann", 5 * MB), ("bob", 3 * MB), ("carol", 10 << 30)):
        with session(server.account(user)) as client:
            assert b"QUOTA" in client.capability()[1][0].split()
            assert storage(client)[1] == limit // 1024


def test_usage_is_the_same_for_the_syncer(server: Dovecot) -> None:
    bare_lf = b"Message-ID: <lf@tests.example.com>\n\n" + b"a line\n" * 20_000
    virtual = len(bare_lf) + bare_lf.count(b"\n")
    for name, data, vsize, folder in (
        ("one", message("one", 500_000), 500_000, ""),
        ("two", message("two", 400_000), 400_000, "Junk"),
        ("lf", bare_lf, virtual, "Archive.2026"),
    ):
        server.store("ann", base_name(utc_now(), name, len(data), vsize), data, folder)
    expected = 900_000 + virtual
    with session(server.account("ann")) as client:
        assert client.append("Sent", None, None, message("three", 100_000))[0] == "OK"  # type: ignore[arg-type]
        expected += 100_000
        client.select("INBOX")
        client.uid("MOVE", "1", "Trash")
        used, _ = storage(client)
    assert used == -(-expected // 1024) or used == expected // 1024
    assert Quotas(server.folder / "mail", lambda mailbox: 0).used("ann") == expected


def test_over_quota_is_refused_in_words_and_cleaning_up_works(server: Dovecot) -> None:
    with session(server.account("bob")) as client:
        for number in range(2):
            name = base_name(utc_now(), f"bob{number}", 1_400_000, 1_400_000)
            server.store("bob", name, message(f"bob{number}", 1_400_000))
        client.select("INBOX")
        status, answer = client.append("Drafts", None, None, message("more", 500_000))  # type: ignore[arg-type]
        assert status == "NO" and REFUSED in answer[0]
        # What fits is stored.
        assert client.append("Drafts", None, None, message("little", 1000))[0] == "OK"  # type: ignore[arg-type]
        # A client that copies to Trash and expunges must be able to, and one that moves anyway.
        assert client.copy("1", "Trash")[0] == "OK"
        assert client.copy("1", "Archive")[0] == "NO"
        assert client.uid("MOVE", "1:*", "Trash")[0] == "OK"
        client.select("Trash")
        client.store("1:*", "+FLAGS.SILENT", "(\\Deleted)")
        client.expunge()
        assert client.append("Drafts", None, None, message("more", 500_000))[0] == "OK"  # type: ignore[arg-type]


def test_mail_that_the_syncer_puts_there_is_shown_beyond_the_quota(server: Dovecot) -> None:
    data = message("beyond", 2 * MB)
    server.store("dave", base_name(utc_now(), "beyond", len(data), len(data)), data)
    with session(server.account("dave")) as client:
        assert client.select("INBOX") == ("OK", [b"1"])
        used, limit = storage(client)
        assert used > limit


def test_changed_quota_counts_without_a_restart(server: Dovecot) -> None:
    path = server.folder / "mail" / quota.PLACE
    before = path.read_bytes()
    deadline = time.monotonic() + 60
    path.write_bytes(quota.user_database({"carol": 7 * MB}) + before)
    while True:
        with session(server.account("carol")) as client:
            if storage(client)[1] == 7 * MB // 1024:
                break
        assert time.monotonic() < deadline


def test_single_message_may_not_be_larger_than_the_limit_for_messages(server: Dovecot) -> None:
    result = server.container.exec(["/usr/bin/doveconf", "-h", "quota_mail_size", "quota_mailbox_count"])
    assert result.output.split(b"\n")[:2] == [b"100 M", b"2000"]


def test_without_the_file_everybody_has_the_common_quota(runtime: Runtime, tmp_path: Path) -> None:
    server = Dovecot(runtime, IMAGES / "dovecot", host_platform(), tmp_path, quotas={"ann": MB})
    try:
        server.start("quota-none")
        (server.folder / "mail" / quota.PLACE).unlink()
        deadline = time.monotonic() + 60
        while True:
            with session(server.account("ann")) as client:
                if storage(client)[1] == (10 << 30) // 1024:
                    break
            assert time.monotonic() < deadline
    finally:
        server.stop()
