"""What the webmail keeps through restarts and upgrades, and how its containers end."""

import re
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.image.conftest import IMAGES
from tests.image.dovecot import PASSWORD, Dovecot
from tests.image.roundcube import Roundcube, client, rows
from tests.image.webmail_client import WebmailClient
from twinmail.local import webmail as local_webmail
from twinmail.local.state import LOOPBACK
from twinmail.oci.spec import PLATFORMS
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.image import Image
from twinmail.runtime.interface import ContainerError, ContainerSpec, Exited, Mount, Runtime


class TestVolume:
    def test_holds_the_secrets_for_its_owner_only(self, roundcube: Roundcube) -> None:
        for name in ("des_key", "roundcube.db"):
            assert stat.S_IMODE((roundcube.data / name).stat().st_mode) == 0o600
        assert len((roundcube.data / "des_key").read_text()) == 32

    def test_a_key_that_it_is_given_ends_the_sessions_of_its_own(
        self, runtime: Runtime, dovecot: Dovecot, tmp_path: Path
    ) -> None:
        server = Roundcube(runtime, IMAGES / "roundcube", host_platform(), tmp_path, dovecot)
        try:
            browser = client(server.start("roundcube-own"))
            browser.log_in("ann", PASSWORD)
            listing = "?_task=mail&_action=list&_mbox=INBOX"
            # What is in the mailbox is other tests' business.
            # With the wrong key it reads no password, or one that the server refuses: each has its own words.
            failed = ',"error",'
            assert failed not in browser.ajax(listing)["exec"]
            server.stop()
            (tmp_path / "php-etc" / "des_key").write_text("k" * 32)
            server.start("roundcube-given")
            # The password in the session cannot be read any more.
            assert failed in browser.ajax(listing)["exec"]
            # A new session has its own.
            again = client(server)
            again.log_in("ann", PASSWORD)
            assert failed not in again.ajax(listing)["exec"]
        finally:
            server.stop()

    def test_second_webmail_on_the_same_volume_does_not_start(self, roundcube: Roundcube) -> None:
        spec = ContainerSpec(
            name="roundcube-second",
            layout=roundcube.layout,
            platform=roundcube.platform,
            command=local_webmail.PHP,
            mounts=(
                Mount(roundcube.folder / "php-etc", "/etc/twinmail", read_only=True),
                Mount(roundcube.data, "/var/lib/twinmail"),
            ),
        )
        second = roundcube.runtime.start(spec)
        try:
            assert second.wait(60) == Exited(1)
            assert b"to one container only" in second.logs()
        finally:
            second.stop()

    def test_key_and_people_survive_a_restart_and_the_schema_is_upgraded(
        self, runtime: Runtime, dovecot: Dovecot, tmp_path: Path
    ) -> None:
        server = Roundcube(runtime, IMAGES / "roundcube", host_platform(), tmp_path, dovecot)
        try:
            client(server.start("roundcube-old")).log_in("ann", PASSWORD)
            key = (server.data / "des_key").read_text()
            current = schema(server)
            server.stop()
            age(server.data / "roundcube.db")
            assert schema(server) != current
            server.start("roundcube-new")
            assert schema(server) == current
            assert rows(server, "SELECT username FROM users") == [("ann",)]
            assert rows(server, "SELECT name, email FROM contacts") == [("Zoe", "zoe@example.com")]
            assert (server.data / "des_key").read_text() == key
            assert not list(server.data.glob("*.new*"))
            assert "task-mail" in client(server).log_in("ann", PASSWORD).text
            server.stop()
            # A later version than the image's is left alone.
            with closing(sqlite3.connect(server.data / "roundcube.db")) as database, database:
                database.execute("UPDATE system SET value = '2099010100' WHERE name = 'roundcube-version'")
            server.start("roundcube-again")
            assert schema(server)[1] == [("2099010100",)]
        finally:
            server.stop()

    def test_broken_database_is_said_and_left_as_it_is(
        self, runtime: Runtime, dovecot: Dovecot, tmp_path: Path
    ) -> None:
        server = Roundcube(runtime, IMAGES / "roundcube", host_platform(), tmp_path, dovecot)
        try:
            server.start("roundcube-broken")
            server.stop()
            (server.data / "roundcube.db").write_bytes(b"this is no database" * 1000)
            with pytest.raises(AssertionError, match="database"):
                server.start("roundcube-broken-again")
            assert (server.data / "roundcube.db").read_bytes() == b"this is no database" * 1000
        finally:
            server.stop()


def schema(server: Roundcube) -> tuple[set[tuple[object, ...]], list[tuple[object, ...]]]:
    """Columns by table, and the version."""
    columns = rows(
        server,
        "SELECT m.name, p.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS p WHERE m.type = 'table'",
    )
    return set(columns), rows(server, "SELECT value FROM system WHERE name = 'roundcube-version'")


def age(path: Path) -> None:
    """Make it what Roundcube 1.4 would have made: fewer tables, no foreign keys; with a contact in it."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode = DELETE")
        user = database.execute("SELECT user_id FROM users").fetchone()[0]
        database.execute(
            "INSERT INTO contacts (user_id, name, email) VALUES (?, 'Zoe', 'zoe@example.com')", (user,)
        )
        database.execute("DROP TABLE collected_addresses")
        database.execute("DROP TABLE responses")
        tables = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        indexes = database.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql NOT NULL"
        ).fetchall()
        for name, sql in tables:
            if "REFERENCES" in sql:
                database.execute(f"ALTER TABLE {name} RENAME TO before")
                plain = re.sub(r"\s+REFERENCES\s+\w+\s*\(\w+\)(\s+ON (DELETE|UPDATE) CASCADE)*", "", sql)
                database.execute(plain)
                database.execute(f"INSERT INTO {name} SELECT * FROM before")
                database.execute("DROP TABLE before")
        for (sql,) in indexes:
            with suppress(sqlite3.OperationalError):
                database.execute(sql)
        database.execute("UPDATE system SET value = '2020020101' WHERE name = 'roundcube-version'")


class TestService:
    def test_health_is_both_containers(self, runtime: Runtime, dovecot: Dovecot, tmp_path: Path) -> None:
        server = Roundcube(runtime, IMAGES / "roundcube", host_platform(), tmp_path, dovecot)
        try:
            server.start("roundcube-health")
            assert server.php
            assert server.php.stop().code in (0, 128 + 15)
            assert not local_webmail.answers(LOOPBACK, server.port, server.tls)
            page = client(server).get()
            assert page.status_code == 502
            assert "no mail is lost" in page.text
            assert server.web
            assert server.web.stop().code == 0
        finally:
            server.stop()

    def test_there_is_no_shell(self, roundcube: Roundcube) -> None:
        assert roundcube.php
        for path in ("/bin/sh", "/usr/bin/bash", "/usr/bin/busybox", "/usr/bin/perl"):
            with suppress(ContainerError):
                assert roundcube.php.exec([path, "-c", "true"]).code != 0

    def test_log_has_no_warnings_of_php(self, roundcube: Roundcube, ann: WebmailClient) -> None:
        for query in ("?_task=mail", "?_task=settings&_action=plugin.managesieve", "?_task=addressbook"):
            ann.get(query)
        bad = [line for line in roundcube.logs().splitlines() if "PHP " in line or "[emerg]" in line]
        assert not bad

    def test_filters_and_vacation_are_there(self, ann: WebmailClient) -> None:
        filters = ann.get("?_task=settings&_action=plugin.managesieve")
        assert "filterslist" in filters.text
        assert "Unable to connect" not in filters.text
        vacation = ann.get("?_task=settings&_action=plugin.managesieve-vacation")
        assert "vacation_reason" in vacation.text

    @pytest.mark.parametrize("platform", PLATFORMS)
    def test_size_of_the_image(self, platform: str) -> None:
        layers = Image.load(IMAGES / "roundcube", platform).layers
        assert sum(layer.blob.stat().st_size for layer in layers) <= 50_000_000
