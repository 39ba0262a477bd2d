"""An older account on another server, imported: both servers show it as it was, whatever is done twice."""

import hashlib
import itertools
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from imapclient import IMAPClient

from tests.e2e.conftest import SERVERS, Running
from tests.e2e.mail import Accepted
from tests.image.dovecot import PASSWORD, Dovecot
from twinmail.importing.account import ImapAccount, Login
from twinmail.importing.source import Mail, Passed, SourceAway, Trouble
from twinmail.local.state import LOOPBACK, Claim
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.select import choose
from twinmail.tasks.config import PROJECT

USER = "imported"
CORPUS = sorted((PROJECT / "tests" / "messages").glob("*.eml"))
MINUTES = 180.0
CROWD = 300
ZONE = timezone(timedelta(hours=-7))

Message = tuple[datetime, tuple[str, ...], str, int]
"""When it came, its flags and keywords, the digest of its octets, and their count."""


def message(subject: str) -> bytes:
    return (
        f"From: friend@example.com\r\nMessage-ID: <{subject}@example.com>\r\nSubject: {subject}\r\n\r\n"
        f"From here\r\n>From there\r\n{subject}\r\n"
    ).encode()


# fmt: off
OLD: list[tuple[str, bytes, tuple[bytes, ...], datetime]] = [
    ("INBOX", message("unread"), (), datetime(2019, 3, 31, 1, 30, tzinfo=UTC)),
    ("INBOX", message("answered"), (b"\\Seen", b"\\Answered", b"$Forwarded"), datetime(2001, 2, 3, 4, 5, 6, tzinfo=ZONE)),
    ("INBOX", message("to be moved"), (b"\\Seen",), datetime(2020, 1, 1, tzinfo=UTC)),
    ("INBOX", message("to be deleted"), (b"\\Seen",), datetime(2020, 1, 2, tzinfo=UTC)),
    ("Sent", message("sent"), (b"\\Seen",), datetime(2020, 2, 29, tzinfo=UTC)),
    ("Drafts", message("draft"), (b"\\Draft", b"\\Seen"), datetime(2020, 3, 1, tzinfo=UTC)),
    ("Junk", message("junk"), (b"$Junk",), datetime(2020, 3, 2, tzinfo=UTC)),
    ("Archive/2008", message("archived"), (b"\\Flagged", b"\\Seen"), datetime(2008, 8, 8, 8, 8, 8, tzinfo=UTC)),
    ("Projekte/Übersicht e.V. 100%", message("nested"), (b"\\Seen", b"$label1", b"wichtig"), datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ("日本語", message("far"), (), datetime(2011, 3, 11, 14, 46, tzinfo=timezone(timedelta(hours=9)))),
    # In two folders there, so in two folders here.
    ("日本語", message("sent"), (b"\\Seen",), datetime(2020, 2, 29, tzinfo=UTC)),
]
# fmt: on


class Cutter:
    """A way to the *port*; each connection breaks after so many octets from there as *limits* gives next."""

    def __init__(self, port: int, limits: Iterator[int]) -> None:
        self.port = port
        self._limits = limits
        self._listener = socket.create_server((LOOPBACK, 0))
        self.own = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((LOOPBACK, self.port))
                threading.Thread(target=self._carry, args=(client, server, None), daemon=True).start()
                allowed = next(self._limits, None)
                threading.Thread(target=self._carry, args=(server, client, allowed), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, target: socket.socket, allowed: int | None) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                if allowed is not None and (allowed := allowed - len(data)) < 0:
                    break
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@dataclass
class Import:
    """The command line, on the machine that runs *running*."""

    running: Running
    old: Dovecot

    def run(self, *words: str, expected: int = 0) -> dict[str, Any]:
        command = self.command(*words, "--json")
        done = subprocess.run(
            command, input=PASSWORD, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == expected, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def command(self, *words: str, mailbox: str = USER) -> list[str]:
        where = ["--mailbox", mailbox, "--state", str(self.running.state.root)]
        return [sys.executable, str(PROJECT / "tasks.py"), "import", *words, *where]

    def server(self, user: str = "ann") -> list[str]:
        authority = str(self.old.folder / "tls" / "ca.pem")
        where = ["--imap", f"{LOOPBACK}:{self.old.port}", "--ca", authority]
        return [*where, "--user", user, "--password-fd", "0"]

    def account(self, *words: str) -> dict[str, Any]:
        return self.run(*self.server(), *words)


@pytest.fixture(scope="module")
def old(runtime_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    """The older server: another Dovecot, with an account that was used for years."""
    folder = tmp_path_factory.mktemp(f"old-{runtime_name}")
    runtime = choose(runtime_name, folder / "runtime")
    images = PROJECT / ".twinmail" / "images"
    users = ("ann", "large", "odd")
    server = Dovecot(runtime, images / "dovecot", host_platform(), folder / "server", users)
    server.folder.mkdir()
    try:
        server.start("old")
        with session(server.port, "ann", PASSWORD, server) as client:
            for name in dict.fromkeys(one for one, *_ in OLD):
                if not client.folder_exists(name):
                    client.create_folder(name)
            for name, content, flags, arrived in OLD:
                client.append(name, content, flags, arrived)
            client.append("INBOX", message("deleted there"), (b"\\Deleted",))
            for path in CORPUS:
                if path.stat().st_size:
                    client.append("Archive/2008", path.read_bytes(), (b"\\Seen",), OLD[0][3])
        for number in range(CROWD):
            server.store("large", f"{1_500_000_000 + number}.{number}.host", message(f"number {number}"))
        yield server
    finally:
        server.stop()
        assert not runtime.remove_leftovers()


@pytest.fixture(scope="module")
def imports(running: Running, old: Dovecot) -> Iterator[Import]:
    claim = Claim(running.state)  # as ./inv up holds it, by which the tasks know that a system runs
    assert claim.take()
    running.system.describe().save(running.state)
    yield Import(running, old)
    claim.release()


@contextmanager
def session(
    port: int, user: str, password: str, old: Dovecot | None = None, tls: Any = None
) -> Iterator[IMAPClient]:
    with IMAPClient(LOOPBACK, port, ssl_context=tls or (old.tls if old else None), timeout=60) as client:
        client.normalise_times = False
        client.login(user, password)
        yield client


def shown(client: IMAPClient) -> dict[str, list[Message]]:
    """What a client sees, by folder; messages marked as deleted are left out."""
    found = {}
    for flags, _, name in client.list_folders():
        if b"\\Noselect" in flags:
            continue
        client.select_folder(name, readonly=True)
        answers = client.fetch(client.search(), ["FLAGS", "INTERNALDATE", "BODY.PEEK[]"])
        found[name] = sorted(
            (
                one[b"INTERNALDATE"].astimezone(UTC),
                tuple(sorted(flag.decode() for flag in one[b"FLAGS"] if flag != b"\\Recent")),
                hashlib.sha256(one[b"BODY[]"]).hexdigest(),
                len(one[b"BODY[]"]),
            )
            for one in answers.values()
            if b"\\Deleted" not in one[b"FLAGS"]
        )
    return {name: messages for name, messages in found.items() if messages}


def expected(old: Dovecot) -> dict[str, list[Message]]:
    with session(old.port, "ann", PASSWORD, old) as client:
        return shown(client)


def until_shown(running: Running, server: str, wanted: dict[str, list[Message]]) -> None:
    port, deadline = running.system.ports[f"{server}-imaps"], time.monotonic() + MINUTES
    with session(port, USER, running.passwords[USER], tls=running.tls) as client:
        while (found := shown(client)) != wanted:
            assert time.monotonic() < deadline, {
                name: (found.get(name), wanted.get(name))
                for name in found.keys() | wanted.keys()
                if found.get(name) != wanted.get(name)
            }
            time.sleep(0.5)


def mboxrd(path: Path, messages: list[tuple[bytes, datetime]]) -> Path:
    with path.open("wb") as file:
        for content, arrived in messages:
            file.write(f"From x@example.com {arrived.astimezone(UTC):%a %b %d %H:%M:%S %Y}\n".encode())
            text = (
                content.replace(b"\r\n", b"\n")
                .replace(b"\n>From", b"\n>>From")
                .replace(b"\nFrom h", b"\n>From h")
            )
            file.write(b"Status: RO\n" + text + b"\n")
    return path


def test_older_account_is_on_both_servers_as_it_was(
    running: Running, imports: Import, tmp_path: Path
) -> None:
    wanted = expected(imports.old)
    count = sum(map(len, wanted.values()))
    plan = imports.account("--plan")
    assert plan["imported"] == count and plan["plan"]
    done = imports.account()
    assert (done["imported"], done["deleted"], done["failed"], done["known"]) == (count, 1, 0, 0)
    for server in SERVERS:
        until_shown(running, server, wanted)
        port = running.system.ports[f"{server}-imaps"]
        with session(port, USER, running.passwords[USER], tls=running.tls) as client:
            subscribed = {name for _, _, name in client.list_sub_folders()}
            assert set(wanted) - {"INBOX"} <= subscribed

    # Again, and without what this machine remembers.
    again = imports.account()
    assert (again["imported"], again["known"]) == (0, count)
    shutil.rmtree(running.state.root / "import")
    assert imports.account()["imported"] == 0

    # The same mail in other forms: the older server's disk, an mbox, an archive.
    assert imports.run(str(imports.old.maildir("ann")))["imported"] == 0
    inbox = mboxrd(tmp_path / "Inbox", [(content, when) for name, content, _, when in OLD if name == "INBOX"])
    assert imports.run(str(inbox))["known"] == 4
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for number, (name, content, _, _) in enumerate(OLD):
            archive.writestr(f"export/{name.replace('Sent', 'Sent Items')}/{number}.eml", content)
    assert imports.run(str(tmp_path / "export.zip"))["known"] == len(OLD)

    # What its user does here counts.
    port = running.system.ports["primary-imaps"]
    with session(port, USER, running.passwords[USER], tls=running.tls) as client:
        client.select_folder("INBOX")
        (deleted,) = client.search(["SUBJECT", "to be deleted"])
        (moved,) = client.search(["SUBJECT", "to be moved"])
        client.delete_messages([deleted])
        client.expunge([deleted])
        client.move([moved], "Archive")
        changed = shown(client)
    assert imports.account()["imported"] == 0
    witness = running.sender.send(message("witness"), [f"{USER}@example.org"])
    uids = running.uids(USER, witness)
    with running.client("primary", USER) as client:
        client.delete(uids["primary"][0])
    with running.client("backup", USER) as client:
        client.delete(uids["backup"][0])
    until_shown(running, "primary", changed)

    # A server that lost everything has it back from S3, with folders and flags.
    for name in ("backup-syncer", "backup-dovecot"):
        running.system.stop_container(name)
    shutil.rmtree(running.state.maildirs("backup") / USER)
    for path in running.state.ledger("backup").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    running.system.start_dovecot("backup")
    running.system.wait_for_dovecot("backup")
    running.system.start_syncer("backup")
    running.system.wait_for_syncer("backup")
    with running.client("backup", USER) as client:
        client.wait_for([witness], timeout=MINUTES)
        client.delete(client.find(witness)[0])
    until_shown(running, "backup", wanted)


def test_received_mail_is_not_imported_again(running: Running, imports: Import, tmp_path: Path) -> None:
    content = message("received while both were in use")
    accepted: Accepted = running.sender.send(content, [f"{USER}@example.org"])
    running.assert_once(USER, accepted)
    path = tmp_path / "1.eml"
    path.write_bytes(b"Received: from elsewhere\r\n" + content)
    assert imports.run(str(path))["received"] == 1
    running.assert_once(USER, accepted)


def test_bad_message_is_named_and_the_rest_goes_on(imports: Import, tmp_path: Path) -> None:
    (tmp_path / "good.eml").write_bytes(message(f"good {tmp_path.name}"))
    (tmp_path / "bad.eml").write_bytes(b"")
    done = imports.run(str(tmp_path), "--into", "Other/Folder", expected=2)
    assert done["imported"] == 1 and done["failures"] == [
        {"place": str(tmp_path / "bad.eml"), "reason": "empty"}
    ]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ("--imap", "127.0.0.1:1", "--user", "ann", "--password-fd", "0"),
            "Connection refused; check host and port",
        ),
        (("--imap", "localhost", "--password-fd", "0"), "--user: expected who to log in as"),
        (("/nowhere",), "/nowhere: cannot be read: No such file or directory"),
        ((), "expected --imap HOST --user U, or files"),
        (("/nowhere", "--into", "a//b"), "--into 'a//b': not the name of a folder"),
    ],
)
def test_bad_command_is_one_line(imports: Import, words: tuple[str, ...], problem: str) -> None:
    done = refused(imports, *words)
    assert problem in done and len(done.splitlines()) == 1, done


def test_untrusted_certificate_and_wrong_password_are_refused(imports: Import) -> None:
    server = imports.server()
    assert "login refused" in refused(imports, *server)
    authority = server.index("--ca")
    del server[authority : authority + 2]
    assert "the certificate is not trusted" in refused(imports, *server)


def refused(imports: Import, *words: str) -> str:
    """What the command says that must end with 1; the password is wrong."""
    done = subprocess.run(
        imports.command(*words), input="wrong\n", capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_killed_and_interrupted_import_goes_on_and_adds_nothing_twice(
    running: Running, imports: Import
) -> None:
    count = CROWD
    command = imports.command(*imports.server("large"), mailbox="u39")
    s3 = running.system.session().client("s3")

    def logged() -> int:
        pages = s3.get_paginator("list_objects_v2").paginate(
            Bucket=running.system.config.bucket, Prefix="manifest/"
        )
        return sum("-import-" in one["Key"] for page in pages for one in page.get("Contents", ()))

    before = logged()
    for number, (kind, code) in enumerate(((signal.SIGINT, 130), (signal.SIGKILL, -9)), 1):
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        process.stdin.write(PASSWORD)
        process.stdin.close()
        deadline = time.monotonic() + MINUTES
        while logged() < before + 40 * number:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(kind)
        assert process.wait(60) == code
        assert process.stderr is not None
        if kind == signal.SIGINT:
            assert "the same command goes on from there" in process.stderr.read()
    done = subprocess.run(
        [*command, "--json"], input=PASSWORD, capture_output=True, text=True, check=False, timeout=300
    )
    document = json.loads(done.stdout)
    assert document["imported"] + document["known"] == count and document["known"] >= 80
    assert logged() == before + count
    for server in SERVERS:
        port, deadline = running.system.ports[f"{server}-imaps"], time.monotonic() + MINUTES
        with session(port, "u39", running.passwords["u39"], tls=running.tls) as client:
            while client.folder_status("INBOX", ["MESSAGES"])[b"MESSAGES"] < count:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            client.select_folder("INBOX", readonly=True)
            subjects = [
                one[b"ENVELOPE"].subject for one in client.fetch(client.search(), ["ENVELOPE"]).values()
            ]
            assert len(subjects) == len(set(subjects)) == count


def test_broken_connections_are_made_again_and_no_message_comes_twice(imports: Import) -> None:
    cutter = Cutter(imports.old.port, iter([50_000] * 2))
    waits: list[float] = []
    login = Login(LOOPBACK, cutter.own, "large", PASSWORD, imports.old.tls)
    account = ImapAccount(login, 1 << 20, wait=waits.append)
    folder = next(one for one in account.folders() if one.levels == ("INBOX",))
    items = list(account.read(folder, lambda one, mark: False))
    account.close()
    cutter.close()
    assert len(waits) == 2
    assert len(items) == len({one.place for one in items}) == folder.messages
    assert all(isinstance(one, Mail) for one in items)


def test_server_that_stays_away_is_said(imports: Import) -> None:
    # Enough to log in, too little for messages.
    cutter = Cutter(imports.old.port, itertools.chain([40_000], itertools.repeat(8_000)))
    login = Login(LOOPBACK, cutter.own, "large", PASSWORD, imports.old.tls)
    account = ImapAccount(login, 1 << 20, wait=lambda seconds: None)
    folder = next(one for one in account.folders() if one.levels == ("INBOX",))
    with pytest.raises(SourceAway, match=r"5 times in a row; .* run the same command again"):
        list(account.read(folder, lambda one, mark: False))
    cutter.close()


def test_messages_that_the_server_cannot_give_are_named(imports: Import) -> None:
    old = imports.old
    for number in range(5):
        old.store("odd", f"{1_500_000_000 + number}.{number}.host", message(f"odd {number}"))
    old.store("odd", "1500000009.9.host", message("large") + b"x" * 5000)
    login = Login(LOOPBACK, old.port, "odd", PASSWORD, old.tls)
    account = ImapAccount(login, 4000, wait=lambda seconds: None)
    (folder,) = account.folders()[:1]
    (path,) = (one for one in old.maildir("odd").rglob("1500000002.2.host*"))
    path.chmod(0)
    items = list(account.read(folder, lambda one, mark: mark.endswith(":1")))
    account.close()
    assert [type(one) for one in items] == [Passed, Mail, Trouble, Mail, Mail, Trouble]
    assert isinstance(items[2], Trouble) and items[2].place == "INBOX: UID 3"
    assert "the server ends the connection" in items[2].reason
    assert items[5] == Trouble(
        "INBOX: UID 6", f"expected at most 4000 octets, got {len(message('large')) + 5000}"
    )
    path.chmod(0o600)
