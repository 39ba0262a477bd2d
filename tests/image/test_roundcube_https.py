"""What the webmail serves over HTTPS, to whom and under which names."""

import http.client
import signal
import socket
import ssl
import time
from contextlib import closing, suppress

import pytest

from tests.image.roundcube import Roundcube, address
from tests.image.webmail_client import WebmailClient
from twinmail import webmail
from twinmail.local import pki
from twinmail.local.state import LOOPBACK


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

    def test_renewed_certificate_is_served_after_sighup(self, roundcube: Roundcube) -> None:
        with tls_connection(roundcube, roundcube.tls) as connection:
            before = connection.getpeercert(binary_form=True)
        pki.ensure(
            roundcube.dovecot.folder / "tls", roundcube.folder / "web-etc" / "tls", ("renewed.example.org",)
        )
        assert roundcube.web
        roundcube.web.kill(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), tls_connection(roundcube, roundcube.tls) as connection:
                if connection.getpeercert(binary_form=True) != before:
                    break
            assert time.monotonic() < deadline

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
