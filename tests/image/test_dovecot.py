"""The Dovecot image as it runs: who may log in and how, what clients find, and what the process may do."""

import imaplib
import os
import re
import signal
import socket
import ssl
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.image.dovecot import PASSWORD, Dovecot, accounts_of
from twinmail import imap, password
from twinmail.imap import LoginRefused, MessageNotFound, find_message, session
from twinmail.local import pki
from twinmail.local.state import LOOPBACK
from twinmail.runtime.interface import ContainerError, Running

HEALTH = ("/usr/bin/doveadm", "service", "status", "imap-login")
FOLDERS = {
    "Sent": "\\Sent",
    "Drafts": "\\Drafts",
    "Junk": "\\Junk",
    "Trash": "\\Trash",
    "Archive": "\\Archive",
}


def message(message_id: str) -> bytes:
    return f"From: a@example.com\r\nMessage-ID: <{message_id}>\r\n\r\nhello\r\n".encode()


def name(number: int, data: bytes) -> str:
    return f"{1_600_000_000 + number}.{os.urandom(8).hex()}.twinmail,S={len(data)},W={len(data)}"


def listed(lines: list[bytes]) -> dict[str, str]:
    """Attributes by folder, from LIST or LSUB."""
    found = {}
    for line in lines:
        match = re.fullmatch(rb'\(([^)]*)\) "/" "?([^"]+)"?', line)
        assert match, line
        found[match[2].decode()] = match[1].decode()
    return found


class TestTls:
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_current_versions_with_authenticated_ciphers(
        self, dovecot: Dovecot, version: ssl.TLSVersion
    ) -> None:
        context = dovecot.tls
        context.minimum_version = context.maximum_version = version
        with connected(dovecot, context) as connection:
            cipher = connection.cipher()
        assert cipher
        assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]
        assert version is ssl.TLSVersion.TLSv1_3 or cipher[0].startswith("ECDHE")

    @pytest.mark.parametrize(
        "ciphers", ["AES256-SHA256", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "PSK"]
    )
    def test_no_ciphers_of_the_past(self, dovecot: Dovecot, ciphers: str) -> None:
        context = dovecot.tls
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, OSError)):
            connected(dovecot, context).close()

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
    def test_no_versions_of_the_past(self, dovecot: Dovecot, version: ssl.TLSVersion) -> None:
        context = dovecot.tls
        context.minimum_version = context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, OSError)):
            connected(dovecot, context).close()

    def test_no_plain_text_on_the_port(self, dovecot: Dovecot) -> None:
        with socket.create_connection((LOOPBACK, dovecot.port), timeout=30) as connection:
            connection.sendall(b"a LOGIN ann " + PASSWORD.encode() + b"\r\n")
            received = b"".join(iter(lambda: connection.recv(4096), b""))
        # Nothing, or a TLS alert (RFC 8446 §6: content type 21).
        assert received[:1] in (b"", b"\x15")
        assert b"OK" not in received

    def test_renewed_certificate_is_served_after_sighup(self, dovecot: Dovecot) -> None:
        with connected(dovecot, dovecot.tls) as connection:
            before = connection.getpeercert(binary_form=True)
        with session(dovecot.account("ann")) as client:
            names = ("imap.example.org", "renewed.example.org")
            pki.ensure(dovecot.folder / "tls", dovecot.folder / "etc" / "tls", names)
            dovecot.container.kill(signal.SIGHUP)
            deadline = time.monotonic() + 60
            while True:
                with suppress(OSError), connected(dovecot, dovecot.tls) as connection:
                    if connection.getpeercert(binary_form=True) != before:
                        break
                assert time.monotonic() < deadline
            assert client.select("INBOX")[0] == "OK", "the session went on"

    def test_names_no_version(self, dovecot: Dovecot) -> None:
        with session(dovecot.account("ann")) as client:
            assert not re.search(rb"[0-9]\.[0-9]|Debian", client.welcome)
            assert b"STARTTLS" not in client.welcome


def connected(dovecot: Dovecot, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection((LOOPBACK, dovecot.port), timeout=30)
    try:
        return context.wrap_socket(plain, server_hostname="localhost")
    except BaseException:
        plain.close()
        raise


class TestLogin:
    @pytest.mark.parametrize("user", ["ann", "bob"])
    def test_each_user(self, dovecot: Dovecot, user: str) -> None:
        with session(dovecot.account(user)) as client:
            assert client.select("INBOX")[0] == "OK"

    @pytest.mark.parametrize(
        ("user", "password"),
        [("ann", "wrong"), ("ann", PASSWORD + " "), ("nobody", PASSWORD), ("../ann", PASSWORD)],
    )
    def test_refused(self, dovecot: Dovecot, user: str, password: str) -> None:
        with pytest.raises(LoginRefused, match="login refused"), session(dovecot.account(user, password)):
            pass

    def test_wrong_passwords_from_here_do_not_delay_others(self, dovecot: Dovecot) -> None:
        for _ in range(2):
            with pytest.raises(LoginRefused), session(dovecot.account("bob", "wrong")):
                pass
        # With penalties for the address on, this would come later than the client's patience.
        with session(dovecot.account("ann"), timeout=10):
            pass

    def test_password_is_not_in_the_log(self, dovecot: Dovecot) -> None:
        secret = "do-not-log-me"
        with pytest.raises(LoginRefused), session(dovecot.account("ann", secret)):
            pass
        log = dovecot.container.logs().decode()
        assert secret not in log
        assert "ann" in log

    def test_changed_password_counts_without_a_restart(self, dovecot: Dovecot) -> None:
        before = accounts_of(dovecot.users)
        dovecot.set_accounts(before.with_password("bob", password.digest("another-one"), datetime.now(UTC)))
        try:
            log_in(dovecot, "bob", "another-one")
            with pytest.raises(LoginRefused), session(dovecot.account("bob")):
                pass
        finally:
            dovecot.set_accounts(before)
        log_in(dovecot, "bob", PASSWORD)


def log_in(dovecot: Dovecot, user: str, password: str) -> None:
    """Try until Dovecot has read the new password file, which it looks at once a second."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with session(dovecot.account(user, password)):
                return
        except LoginRefused:
            assert time.monotonic() < deadline


class TestFolders:
    def test_special_use_folders_are_there_and_subscribed(self, dovecot: Dovecot) -> None:
        with session(dovecot.account("ann")) as client:
            for lines in (client.list()[1], client.lsub()[1]):
                found = listed([line for line in lines if isinstance(line, bytes)])
                for folder, use in FOLDERS.items():
                    assert use in found[folder].split()
            for folder in FOLDERS:
                assert client.select(folder)[0] == "OK"
                assert dovecot.maildir("ann", folder).is_dir()

    def test_junk_that_the_syncer_made_first(self, dovecot: Dovecot) -> None:
        users = (*dovecot.users, "early")
        dovecot.set_accounts(accounts_of(users))
        data = message("early-junk")
        dovecot.store("early", name(1, data), data, "Junk")
        log_in(dovecot, "early", PASSWORD)
        with session(dovecot.account("early")) as client:
            found = listed([line for line in client.lsub()[1] if isinstance(line, bytes)])
            assert found.keys() >= FOLDERS.keys()
            assert client.select("Junk") == ("OK", [b"1"])
            assert client.select("Sent") == ("OK", [b"0"])
        dovecot.set_accounts(accounts_of(dovecot.users))

    def test_names_with_dots_levels_and_umlauts(self, dovecot: Dovecot) -> None:
        with session(dovecot.account("bob")) as client:
            for folder in ("Archive/Verein e.V.", "2026/Q1", "100%", "Gr&APwA3w-e"):
                assert client.create(f'"{folder}"')[0] == "OK", folder
                assert client.select(f'"{folder}"')[0] == "OK", folder

    @pytest.mark.parametrize("folder", ["../ann", "a/../../ann", "/etc", "~ann", "~/x"])
    def test_names_do_not_lead_out_of_the_mailbox(self, dovecot: Dovecot, folder: str) -> None:
        before = {path.name for path in (dovecot.folder / "mail").iterdir()}
        with session(dovecot.account("bob")) as client:
            client.create(f'"{folder}"')
        assert {path.name for path in (dovecot.folder / "mail").iterdir()} == before


class TestMessages:
    def test_is_found_by_message_id(self, dovecot: Dovecot) -> None:
        data = message("found@example.com")
        dovecot.store("bob", name(2, data), data)
        uid = find_message(dovecot.account("bob"), "<found@example.com>", 30)
        with session(dovecot.account("bob")) as client:
            client.select("INBOX", readonly=True)
            assert client.uid("FETCH", uid, "(BODY.PEEK[])")[1][0][1] == data

    def test_missing_message_says_what_was_there(self, dovecot: Dovecot) -> None:
        account = dovecot.account("bob")
        with pytest.raises(
            MessageNotFound,
            match=r"^bob at 127\.0\.0\.1:\d+: <no@where> not there after 0 s; INBOX has \d+ other messages$",
        ):
            find_message(account, "<no@where>", 0)

    def test_idle_announces_a_file(self, dovecot: Dovecot) -> None:
        with session(dovecot.account("ann")) as client:
            (count,) = client.select("INBOX")[1]
            assert isinstance(count, bytes)
            before = int(count)
            client.send(b"i IDLE\r\n")
            assert client.readline().startswith(b"+")
            data = message("idle@example.com")
            dovecot.store("ann", name(3, data), data)
            # The client's time-out is the deadline; nothing is asked of the server meanwhile.
            while (line := client.readline()) != b"* %d EXISTS\r\n" % (before + 1):
                assert line.startswith(b"* OK"), line
            client.send(b"DONE\r\n")
            while not client.readline().startswith(b"i OK"):
                pass

    def test_idle_also_looks_by_itself_every_second(self, dovecot: Dovecot) -> None:
        found = dovecot.container.exec(["/usr/bin/doveconf", "-h", "mailbox_idle_check_interval"])
        assert found.output.strip() == b"1 secs"

    def test_guid_is_the_base_name_through_flags_copies_and_moves(self, dovecot: Dovecot) -> None:
        data = message("guid@example.com")
        base = name(4, data)
        dovecot.store("bob", base, data)
        uid = find_message(dovecot.account("bob"), "<guid@example.com>", 30)
        with session(dovecot.account("bob")) as client:
            client.select("INBOX")
            assert guid(client, uid) == base
            client.uid("STORE", uid, "+FLAGS", "(\\Flagged $Label1)")
            client.uid("COPY", uid, "Archive")
            client.uid("MOVE", uid, "Trash")
            for folder in ("Archive", "Trash"):
                client.select(folder)
                found = client.uid("SEARCH", "HEADER", "Message-ID", "<guid@example.com>")[1][0].split()
                assert len(found) == 1
                assert guid(client, found[0].decode()) == base
                assert base in {
                    path.name.partition(":")[0] for path in (dovecot.maildir("bob", folder) / "cur").iterdir()
                }

    def test_stored_over_imap(self, dovecot: Dovecot) -> None:
        data = message("sent@example.com")
        with session(dovecot.account("bob")) as client:
            assert client.append("Sent", "(\\Seen)", None, data)[0] == "OK"
        assert find_message(dovecot.account("bob"), "<sent@example.com>", 30, "Sent")
        assert any(path.read_bytes() == data for path in (dovecot.maildir("bob", "Sent") / "cur").iterdir())

    def test_uids_survive_a_restart(self, dovecot: Dovecot) -> None:
        data = message("restart@example.com")
        dovecot.store("bob", name(5, data), data)
        uid = find_message(dovecot.account("bob"), "<restart@example.com>", 30)
        validity = uid_validity(dovecot)
        dovecot.container.stop()
        dovecot.start("dovecot-again")
        assert find_message(dovecot.account("bob"), "<restart@example.com>", 30) == uid
        assert uid_validity(dovecot) == validity


def guid(client: imaplib.IMAP4, uid: str) -> str:
    line = client.uid("FETCH", uid, "(X-GUID)")[1][0]
    match = re.search(rb'X-GUID "?([^ )"]+)', line)
    assert match, line
    return match[1].decode()


def uid_validity(dovecot: Dovecot) -> bytes:
    with session(dovecot.account("bob")) as client:
        client.select("INBOX", readonly=True)
        return bytes(client.response("UIDVALIDITY")[1][0])


class TestService:
    def test_health_command_needs_no_shell(self, dovecot: Dovecot) -> None:
        result = dovecot.container.exec(HEALTH)
        assert result.code == 0, result.output
        assert b"name: imap-login" in result.output

    def test_greeting(self, dovecot: Dovecot) -> None:
        assert imap.greets(LOOPBACK, dovecot.port, dovecot.tls)
        assert not imap.greets(LOOPBACK, dovecot.port, ssl.create_default_context(cafile=None))

    def test_there_is_no_shell(self, dovecot: Dovecot) -> None:
        for path in ("/bin/sh", "/usr/bin/bash", "/usr/bin/busybox", "/usr/bin/perl"):
            with suppress(ContainerError):
                assert dovecot.container.exec([path, "-c", "true"]).code != 0

    def test_log_has_no_warnings(self, runtime_dovecot_log: str) -> None:
        bad = [
            line
            for line in runtime_dovecot_log.splitlines()
            if re.search(r"(Warning|Error|Fatal|Panic):", line)
        ]
        assert not bad

    def test_ends_by_itself_on_sigterm(self, dovecot: Dovecot, tmp_path: Path) -> None:
        other = Dovecot(dovecot.runtime, dovecot.layout, dovecot.platform, tmp_path)
        other.start("dovecot-other")  # beside the first one: its own port and its own sockets
        assert isinstance(dovecot.container.status(), Running)
        with session(other.account("ann")) as client:
            client.select("INBOX")
            began = time.monotonic()
            ended = other.container.stop(timeout=60)
        assert ended.code in (0, 143)
        assert time.monotonic() - began < 60, "it had to be killed"


@pytest.fixture
def runtime_dovecot_log(dovecot: Dovecot) -> str:
    with session(dovecot.account("ann")) as client:
        client.select("INBOX")
    return dovecot.container.logs().decode("utf-8", "replace")
