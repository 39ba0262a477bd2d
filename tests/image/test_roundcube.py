"""The Roundcube image as it runs: what it serves and refuses, what it keeps, and what its processes may do."""

import http.client
import re
import socket
import sqlite3
import ssl
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.image.conftest import IMAGES, ExecBackend
from tests.image.dovecot import PASSWORD, Dovecot
from tests.image.roundcube import ADDRESSES, Roundcube
from tests.image.webmail_client import WebmailClient
from twinmail import webmail
from twinmail.local import webmail as local_webmail
from twinmail.local.state import LOOPBACK
from twinmail.oci.layout import DEBUG
from twinmail.oci.spec import PLATFORMS
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.image import Image
from twinmail.runtime.interface import ContainerError, ContainerSpec, Exited, Mount, Runtime

MEGABYTE = 1 << 20
_addresses = count(2)


def address() -> str:
    """A client's address that nobody had before, so that nobody's failures count against it."""
    number = next(_addresses)
    return f"127.0.{number // 250}.{number % 250 + 1}"


@pytest.fixture(scope="session")
def roundcube(
    runtime: Runtime, dovecot: Dovecot, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Roundcube]:
    """The webmail as it is shipped."""
    folder = tmp_path_factory.mktemp("roundcube")
    server = Roundcube(runtime, IMAGES / "roundcube", host_platform(), folder, dovecot)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def debug_roundcube(
    runtime: Runtime, dovecot: Dovecot, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Roundcube]:
    """The same with a shell, after somebody has read mail."""
    folder = tmp_path_factory.mktemp("debug-roundcube")
    server = Roundcube(runtime, IMAGES / "roundcube", host_platform(), folder, dovecot, reference=DEBUG)
    try:
        client(server.start("debug-roundcube")).log_in("ann", PASSWORD)
        yield server
    finally:
        server.stop()


def client(server: Roundcube, at: str | None = None) -> WebmailClient:
    return WebmailClient(server.port, server.dovecot.folder / "tls" / "ca.pem", at or address())


@pytest.fixture
def browser(roundcube: Roundcube) -> WebmailClient:
    return client(roundcube)


@pytest.fixture
def ann(browser: WebmailClient) -> WebmailClient:
    assert "task-mail" in browser.log_in("ann", PASSWORD).text
    return browser


def policy(response: object) -> dict[str, list[str]]:
    """The Content Security Policy: sources by directive."""
    headers = response.headers  # type: ignore[attr-defined]
    parts = [part.split() for part in headers["Content-Security-Policy"].split(";")]
    return {part[0]: part[1:] for part in parts}


def rows(server: Roundcube, sql: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(server.data / "roundcube.db")) as database:
        return database.execute(sql, values).fetchall()


class TestHttps:
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_current_versions_with_authenticated_ciphers(
        self, roundcube: Roundcube, version: ssl.TLSVersion
    ) -> None:
        context = roundcube.tls
        context.minimum_version = context.maximum_version = version
        with tls_connection(roundcube, context) as connection:
            cipher = connection.cipher()
        assert cipher
        assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
    def test_no_versions_of_the_past(self, roundcube: Roundcube, version: ssl.TLSVersion) -> None:
        context = roundcube.tls
        context.minimum_version = context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, OSError)):
            tls_connection(roundcube, context).close()

    def test_plain_http_gets_nothing(self, roundcube: Roundcube) -> None:
        with socket.create_connection((LOOPBACK, roundcube.port), timeout=30) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with suppress(ConnectionResetError):
                assert connection.recv(4096) == b""

    def test_headers_of_every_answer(self, browser: WebmailClient) -> None:
        for path in ("", "/skins/elastic/styles/styles.min.css", "/no-such-page", "/.well-known/mta-sts.txt"):
            headers = browser.get(path).headers
            assert int(headers["Strict-Transport-Security"].removeprefix("max-age=")) >= 31536000
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Server"] == "nginx"
            assert "X-Powered-By" not in headers
            assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
            assert "," not in headers["Content-Security-Policy"], "there is one policy"

    def test_cookies_are_for_this_site_over_tls_and_not_for_scripts(self, ann: WebmailClient) -> None:
        response = ann.session.get(f"https://127.0.0.1:{ann.port}/", allow_redirects=False, timeout=60)
        fresh = WebmailClient(ann.port, ann.ca, address()).get()
        for one in (response, fresh):
            for cookie in filter(None, one.headers.get("Set-Cookie", "").split(", ")):
                attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
                assert {"secure", "httponly", "samesite=lax"} <= attributes, cookie
        assert fresh.headers["Set-Cookie"]

    @pytest.mark.parametrize(
        "path",
        [
            "/index.php/x",
            "/config/config.inc.php",
            "/installer/",
            "/SQL/sqlite.initial.sql",
            "/bin/updatedb.sh",
            "/logs/",
            "/temp/",
            "/.htaccess",
            "/composer.json",
            "/plugins/managesieve/managesieve.php",
            "/plugins/managesieve/config.inc.php",
            "/plugins/twinmail/lib/policy.php",
            "/plugins/twinmail/localization/en_US.inc",
            "/program/include/iniset.php",
            "/skins/elastic/templates/login.html",
            "/skins/elastic/meta.json",
            "/plugins/../config/config.inc.php",
            "/plugins/%2e%2e/%2e%2e/%2e%2e/etc/twinmail/smtp.json",
            "/twinmail/start.php",
            "/twinmail/429.html",
        ],
    )
    def test_files_that_are_not_for_browsers(self, browser: WebmailClient, path: str) -> None:
        connection = http.client.HTTPSConnection(LOOPBACK, browser.port, timeout=30, context=context(browser))
        with closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status in (400, 404)
            assert b"<?php" not in response.read()

    def test_host_of_the_request_leads_nowhere(self, browser: WebmailClient) -> None:
        for path in ("/", "/index.php?x=1"):
            page = browser.get(path, headers={"Host": "evil.example"}, allow_redirects=False)
            assert "evil.example" not in page.text
            assert "evil.example" not in page.headers.get("Location", "")

    def test_files_for_browsers_are_there_and_may_be_kept(self, browser: WebmailClient) -> None:
        for path in (
            "/program/js/app.min.js",
            "/skins/elastic/styles/styles.min.css",
            "/plugins/twinmail/twinmail.js",
        ):
            response = browser.get(path)
            assert response.status_code == 200, path
            assert "max-age=2592000" in response.headers["Cache-Control"]

    def test_files_for_mail_programs(self, roundcube: Roundcube, browser: WebmailClient) -> None:
        files = roundcube.folder / "web-etc" / webmail.FILES
        for name, kind in {
            "mail/config-v1.1.xml": "text/xml",
            ".well-known/autoconfig/mail/config-v1.1.xml": "text/xml",
            ".well-known/mta-sts.txt": "text/plain",
            "mobileconfig/ann@example.org.mobileconfig": "application/x-apple-aspen-config",
        }.items():
            (files / name).parent.mkdir(parents=True, exist_ok=True)
            (files / name).write_text(f"this is {name}")
            response = browser.get(f"/{name}")
            assert response.text == f"this is {name}"
            assert response.headers["Content-Type"].startswith(kind)

    @pytest.mark.parametrize("path", ["/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml"])
    def test_autodiscover_answers_about_the_address_it_is_asked_about(
        self, roundcube: Roundcube, browser: WebmailClient, path: str
    ) -> None:
        file = roundcube.folder / "web-etc" / webmail.FILES / "autodiscover" / "autodiscover.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("<LoginName>%EMAILADDRESS%</LoginName>")
        url = f"https://127.0.0.1:{browser.port}{path}"
        question = "<Request><EMailAddress>{}</EMailAddress></Request>"
        for hostile in ("o'neil@example.org", "a&amp;b@example.org", "<x>@example.org", ""):
            assert browser.session.post(url, data=question.format(hostile), timeout=30).status_code == 400
        assert browser.get(path).status_code == 400
        answer = browser.session.post(url, data=question.format("ann@example.org"), timeout=30)
        assert answer.headers["Content-Type"] == "text/xml; charset=utf-8"
        assert answer.text == "<LoginName>ann@example.org</LoginName>"


def context(browser: WebmailClient) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(browser.ca))


def tls_connection(server: Roundcube, tls: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection((LOOPBACK, server.port), timeout=30)
    try:
        return tls.wrap_socket(plain, server_hostname="localhost")
    except BaseException:
        plain.close()
        raise


class TestLogin:
    @pytest.mark.parametrize("name", ["ann", "ANN", "ann@example.org", "Ann@Example.Net", " ann "])
    def test_name_and_addresses_are_one_user(self, roundcube: Roundcube, name: str) -> None:
        assert "task-mail" in client(roundcube).log_in(name, PASSWORD).text
        assert rows(roundcube, "SELECT count(*) FROM users WHERE username LIKE '%ann%'") == [(1,)]

    @pytest.mark.parametrize("user", ["ann", "nobody", "ann@example.org", "team@example.org", ""])
    def test_wrong_password(self, roundcube: Roundcube, user: str) -> None:
        response = client(roundcube).log_in(user, "wrong")
        assert response.status_code == 401
        assert "task-login" in response.text

    def test_form_without_its_token(self, browser: WebmailClient) -> None:
        browser.get()
        browser.token = "forged"
        response = browser.post(
            "?_task=login", {"_task": "login", "_action": "login", "_user": "ann", "_pass": PASSWORD}
        )
        assert "task-mail" not in response.text

    def test_one_who_guesses_is_stopped_and_told(self, roundcube: Roundcube) -> None:
        here, there = address(), address()
        for _ in range(5):
            text = client(roundcube, here).log_in("bob", "wrong").text
            assert "Login failed" in text
        refused = client(roundcube, here).log_in("bob", PASSWORD)
        assert "Too many failed attempts to log in. Try again in" in refused.text
        assert "task-mail" not in refused.text
        # Roundcube's own limit is by account and a minute long; ours leaves the user's other places alone.
        with closing(sqlite3.connect(roundcube.data / "roundcube.db")) as database, database:
            database.execute("UPDATE users SET failed_login = NULL, failed_login_counter = NULL")
        assert "task-mail" in client(roundcube, there).log_in("bob", PASSWORD).text
        assert "Too many" in client(roundcube, here).log_in("bob@example.org", PASSWORD).text

    def test_one_who_tries_many_accounts_is_stopped(self, roundcube: Roundcube) -> None:
        here = address()
        with ThreadPoolExecutor(2) as pool:
            for one in pool.map(
                lambda number: client(roundcube, here).log_in(f"u{number}", "wrong"), range(20)
            ):
                assert one.status_code == 401
        assert "Too many failed attempts" in client(roundcube, here).log_in("ann", PASSWORD).text

    def test_a_flood_is_stopped_before_php_and_told(self, browser: WebmailClient) -> None:
        answers = [browser.post("?_task=login", {"_action": "login"}) for _ in range(60)]
        limited = [answer for answer in answers if answer.status_code == 429]
        assert limited
        assert "Wait a minute" in limited[0].text
        assert browser.get("/program/js/app.min.js").status_code == 200

    def test_there_is_no_way_in_past_the_limit(self, browser: WebmailClient) -> None:
        browser.get()
        fields = {"_task": "login", "_action": "login", "_user": "ann", "_pass": PASSWORD}
        assert browser.post("?_task=mail", fields).status_code == 400
        cookies = {"_task": "login", "_action": "login"}
        assert browser.post("?_task=mail", fields, cookies=cookies).status_code == 400

    def test_password_is_not_in_the_log(self, roundcube: Roundcube) -> None:
        client(roundcube).log_in("ann", "do-not-log-me")
        assert "do-not-log-me" not in roundcube.logs()
        assert "Failed login for ann from 127." in roundcube.logs()


HOSTILE = b"""From: Mallory <mallory@example.com>\r
To: ann@example.org\r
Subject: hostile\r
Message-ID: <hostile@example.com>\r
Content-Type: text/html; charset=utf-8\r
\r
<html><head><base href="https://evil.example/"></head><body onload="window.hacked=1">
<script>window.hacked=1</script><p onclick="window.hacked=1">click</p>
<a href="mailto:x@example.com" onclick="window.hacked=1">write</a>
<img src="https://tracker.example/pixel.png" onerror="window.hacked=1"></body></html>\r
"""


class TestPolicy:
    @pytest.mark.parametrize(
        "query", ["?_task=mail", "?_task=settings", "?_task=addressbook", "?_task=login"]
    )
    def test_scripts_run_by_a_nonce_that_is_new_each_time(self, ann: WebmailClient, query: str) -> None:
        nonces = set()
        for _ in range(2):
            page = ann.get(query)
            found = policy(page)
            (nonce,) = found["script-src-elem"]
            nonces.add(nonce)
            assert found["script-src"] == [nonce, "'unsafe-eval'"]
            tags = re.findall(r"<script\b[^>]*>", page.text)
            assert tags
            assert all(f'nonce="{nonce[7:-1]}"' in tag for tag in tags)
            assert found["img-src"] == ["'self'", "data:", "blob:"]
            assert found["frame-ancestors"] == found["form-action"] == found["connect-src"] == ["'self'"]
            assert found["base-uri"] == ["'none'"]
        assert len(nonces) == 2

    @pytest.mark.parametrize("action", ["show", "preview", "print"])
    def test_nothing_of_a_message_may_run_or_load(
        self, roundcube: Roundcube, ann: WebmailClient, action: str
    ) -> None:
        roundcube.dovecot.store("ann", "1600000001.hostile.twinmail", HOSTILE)
        listed = ann.ajax("?_task=mail&_action=list&_mbox=INBOX")
        uid = max(int(one) for one in re.findall(r"add_message_row\((\d+)", listed["exec"]))
        query = f"?_task=mail&_action={action}&_uid={uid}&_mbox=INBOX"
        page = ann.get(query)
        found = policy(page)
        assert "hacked" not in page.text
        assert "'unsafe-inline'" not in found["script-src-attr"] + found["script-src-elem"]
        assert "https:" not in found["img-src"]
        assert "tracker.example" not in re.sub(r"<script.*?</script>", "", page.text, flags=re.S)
        allowed = ann.get(f"{query}&_safe=1")
        assert "https://tracker.example/pixel.png" in allowed.text
        assert "https:" in policy(allowed)["img-src"]

    def test_answers_that_are_no_pages(self, ann: WebmailClient) -> None:
        headers = {"X-Requested-With": "XMLHttpRequest"}
        answer = ann.get("?_task=mail&_action=list&_mbox=INBOX&_remote=1", headers=headers)
        found = policy(answer)
        assert answer.headers["Content-Type"].startswith("application/json")
        assert found["default-src"] == ["'none'"]
        assert "script-src" not in found


class TestNewMail:
    def test_first_message_of_an_empty_folder_is_shown_by_the_next_refresh(
        self, roundcube: Roundcube, ann: WebmailClient
    ) -> None:
        ann.get("?_task=mail&_mbox=Drafts")
        assert ann.ajax("?_task=mail&_action=list&_mbox=Drafts")["env"]["messagecount"] == 0
        data = b"From: a@example.com\r\nSubject: the first\r\n\r\nhello\r\n"
        roundcube.dovecot.store("ann", "1600000002.first.twinmail", data, "Drafts")
        headers = {"X-Requested-With": "XMLHttpRequest", "X-Roundcube-Request": ann.token}
        fields = {"_mbox": "Drafts", "_list": "1", "_last": "0"}
        deadline = time.monotonic() + 30
        while (
            "the first" not in ann.post("?_task=mail&_action=refresh&_remote=1", fields, headers=headers).text
        ):
            assert time.monotonic() < deadline

    def test_is_looked_for_every_ten_seconds(self, ann: WebmailClient) -> None:
        assert '"refresh_interval":10,' in ann.get("?_task=mail").text


class TestIdentities:
    def test_are_the_addresses_of_the_mailbox(self, ann: WebmailClient) -> None:
        assert list(ann.identities()) == ["Ann <ann@example.org>", "Ann <ann@example.net>"]

    def test_follow_the_file_at_the_next_login(self, roundcube: Roundcube) -> None:
        client(roundcube).log_in("bob", PASSWORD)
        try:
            roundcube.permit({**ADDRESSES, "bob": ("bob@example.org", "robert@example.org")})
            later = client(roundcube)
            later.log_in("bob", PASSWORD)
            assert list(later.identities()) == ["Bob <bob@example.org>", "Bob <robert@example.org>"]
            roundcube.permit({**ADDRESSES, "bob": ("robert@example.org",)})
            last = client(roundcube)
            last.log_in("robert@example.org", PASSWORD)
            assert list(last.identities()) == ["Bob <robert@example.org>"]
        finally:
            roundcube.permit(ADDRESSES)

    def test_no_other_address_can_be_given_to_one(self, roundcube: Roundcube, ann: WebmailClient) -> None:
        number = ann.identities()["Ann <ann@example.net>"]
        for which in (number, ""):
            fields = {"_iid": which, "_name": "Boss", "_email": "boss@example.org", "_standard": "0"}
            ann.post("?_task=settings&_action=save-identity", {"_task": "settings", **fields})
        emails = rows(roundcube, "SELECT DISTINCT email FROM identities WHERE del = 0 AND name != 'Bob'")
        assert set(emails) == {("ann@example.org",), ("ann@example.net",)}

    def test_the_last_of_an_address_stays(self, ann: WebmailClient) -> None:
        own = [one for one in ann.identities().items() if "ann@example.net" in one[0]]
        for _, number in own:
            ann.post("?_task=settings&_action=delete-identity&_remote=1", {"_iid": number})
        assert any("ann@example.net" in text for text in ann.identities())


class TestVolume:
    def test_holds_the_secrets_for_its_owner_only(self, roundcube: Roundcube) -> None:
        for name in ("des_key", "roundcube.db"):
            assert stat.S_IMODE((roundcube.data / name).stat().st_mode) == 0o600
        assert len((roundcube.data / "des_key").read_text()) == 32

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


class TestUploads:
    def test_message_of_forty_megabytes_can_be_imported(self, ann: WebmailClient) -> None:
        ann.get("?_task=mail&_mbox=INBOX")
        line = b"x" * 998 + b"\r\n"
        message = b"From: a@example.com\r\nSubject: large\r\n\r\n" + line * (39 * MEGABYTE // 1000)
        query = "?_task=mail&_action=import&_mbox=Archive"
        answer = ann.upload(query, "_file[]", "large.eml", message, "message/rfc822")
        assert answer.status_code == 200
        assert "Successfully imported 1 messages" in answer.text

    def test_larger_is_refused_in_words(self, ann: WebmailClient) -> None:
        ann.get("?_task=mail")
        body = b"x" * (43 * MEGABYTE)
        try:
            answer = ann.upload("?_task=mail&_action=import", "_file[]", "l.eml", body, "message/rfc822")
        except OSError:
            return  # it did not wait until we had sent everything, which is what the size said
        assert answer.status_code == 413
        assert "40 MB" in answer.text

    def test_attachment_waits_on_the_volume(self, roundcube: Roundcube, ann: WebmailClient) -> None:
        number = ann.compose_id()
        query = f"?_task=mail&_action=upload&_id={number}&_uploadid=1"
        data = b"x" * (25 * MEGABYTE)
        answer = ann.upload(query, "_attachments[]", "large.bin", data, "application/octet-stream")
        assert "large.bin" in answer.text
        kept = [path for path in (roundcube.data / "temp").iterdir() if path.stat().st_size == 25 * MEGABYTE]
        assert len(kept) == 1


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


class TestInside:
    def hosts(self, server: Roundcube) -> dict[str, Host]:
        assert server.web
        assert server.php
        return {"web": Host(ExecBackend(server.web)), "php": Host(ExecBackend(server.php))}

    def test_versions(self, inside: Callable[[str], Host]) -> None:
        host = inside("roundcube")
        assert "nginx/1.26." in host.run("/usr/sbin/nginx -v 2>&1").stdout
        assert host.check_output("/usr/bin/php8.4 -r 'echo PHP_VERSION;' 2>/dev/null").startswith("8.4.")
        text = host.file("/usr/share/roundcube/program/include/iniset.php").content_string
        assert re.search(r"RCMAIL_VERSION', '1\.6\.\d+'", text)

    def test_php_is_hardened(self, inside: Callable[[str], Host]) -> None:
        host = inside("roundcube")
        script = (
            'foreach (["expose_php","display_errors","allow_url_fopen","allow_url_include","enable_dl","file_uploads",'
            '"upload_max_filesize","post_max_size","cgi.fix_pathinfo","session.cookie_secure","open_basedir",'
            '"session.use_strict_mode","opcache.validate_timestamps"] as $one) echo "$one=", ini_get($one), "\\n";'
            'foreach (["exec","system","shell_exec","passthru","proc_open","popen","mail","putenv","symlink",'
            '"pcntl_exec","pcntl_fork","posix_kill","dl"] as $one) if (function_exists($one)) echo "has $one\\n";'
            'foreach (["ffi","phar","ftp","sockets","shmop","sysvshm","curl"] as $one)'
            ' if (extension_loaded($one)) echo "has $one\\n";'
        )
        output = host.check_output(f"/usr/bin/php8.4 -c /etc/php/8.4/fpm/php.ini -r '{script}'")
        assert "has " not in output
        found = dict(line.split("=", 1) for line in output.splitlines())
        off = ("expose_php", "display_errors", "allow_url_fopen", "allow_url_include", "enable_dl")
        assert all(
            found[name] in ("", "0") for name in (*off, "cgi.fix_pathinfo", "opcache.validate_timestamps")
        )
        assert (
            found["session.cookie_secure"] == found["session.use_strict_mode"] == found["file_uploads"] == "1"
        )
        assert (found["upload_max_filesize"], found["post_max_size"]) == ("40M", "42M")
        assert "/var/lib/twinmail" in found["open_basedir"].split(":")
        assert not {"/", "/tmp", "/proc", "/etc", "/usr"} & set(found["open_basedir"].split(":"))

    def test_listens_once_and_on_loopback_as_told(self, debug_roundcube: Roundcube) -> None:
        for name, host in self.hosts(debug_roundcube).items():
            ours = socket_inodes(host)
            listening = {
                fields[1]
                for path in ("/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6")
                for fields in map(
                    str.split, host.check_output(f"cat {path} 2>/dev/null || true").splitlines()[1:]
                )
                if fields[9] in ours and (fields[3] == "0A" or "udp" in path)
            }
            assert listening == ({f"0100007F:{debug_roundcube.port:04X}"} if name == "web" else set())

    def test_processes_are_one_user_without_capabilities(self, debug_roundcube: Roundcube) -> None:
        for name, host in self.hosts(debug_roundcube).items():
            lines = host.check_output("cat /proc/[0-9]*/status").splitlines()
            assert {line.split()[1] for line in lines if line.startswith("Uid:")} == {"1000"}
            assert {line.split()[1] for line in lines if line.startswith("CapEff:")} == {"0" * 16}
            names = {line.split()[1] for line in lines if line.startswith("Name:")}
            assert {"web": "nginx", "php": "php-fpm8.4"}[name] in names

    def test_each_container_sees_only_its_secrets(self, debug_roundcube: Roundcube) -> None:
        hosts = self.hosts(debug_roundcube)
        web = hosts["web"].check_output("find /etc/twinmail -type f").split()
        php = hosts["php"].check_output("find /etc/twinmail -type f").split()
        assert "/etc/twinmail/tls/key.pem" in web
        assert not any("smtp" in path for path in web)
        assert "/etc/twinmail/smtp.json" in php
        assert not any("key" in path for path in php)

    def test_memory_fits_a_small_machine(self, debug_roundcube: Roundcube) -> None:
        used = 0
        for host in self.hosts(debug_roundcube).values():
            lines = host.check_output("cat /proc/[0-9]*/status").splitlines()
            used += sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
        assert used < 64 * 1024, f"{used} KiB"

    def test_settings_are_data(self, inside: Callable[[str], Host]) -> None:
        """Nothing of a site is in the image, and no key that every copy would share."""
        host = inside("roundcube")
        text = host.file("/etc/roundcube/config.inc.php").content_string
        assert "file_get_contents('/var/lib/twinmail/des_key')" in text
        assert not host.file("/var/lib/twinmail/des_key").exists
        assert host.check_output("find /etc/twinmail /var/lib/twinmail -mindepth 1") == ""


def socket_inodes(host: Host) -> set[str]:
    """Inodes of the sockets of the container's processes; /proc/net shows the whole machine's."""
    links = host.check_output("for one in /proc/[0-9]*/fd/*; do readlink $one; done; true").split()
    return {match[1] for match in (re.fullmatch(r"socket:\[(\d+)\]", link) for link in links) if match}
