"""A client that knows nothing but an address and a password finds everything else over HTTPS."""

import http.client
import imaplib
import plistlib
import smtplib
import socket
import ssl
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from html import escape

import pytest
from cryptography.hazmat.primitives.serialization import pkcs7

from tests.e2e.conftest import SERVERS, Running
from twinmail.local.state import LOOPBACK

ADDRESS = "ann@example.org"
DOMAIN = "example.org"

QUESTION = """<?xml version="1.0" encoding="utf-8"?>
<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006">
  <Request>
    <EMailAddress>{}</EMailAddress>
    <AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a</AcceptableResponseSchema>
  </Request>
</Autodiscover>
"""
INNER = "{http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a}"


@dataclass
class Answer:
    status: int
    kind: str
    body: bytes


class Https(http.client.HTTPSConnection):
    """Connects to the local web server under the name that DNS would have led to it."""

    def __init__(self, running: Running, name: str) -> None:
        super().__init__(name, running.system.ports["backup-webmail"], timeout=20, context=running.tls)
        self._tls = running.tls

    def connect(self) -> None:
        plain = socket.create_connection((LOOPBACK, self.port), timeout=20)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def ask(running: Running, name: str, path: str, body: str | None = None) -> Answer:
    connection = Https(running, name)
    try:
        headers = {"Content-Type": "text/xml"} if body is not None else {}
        octets = None if body is None else body.encode()
        connection.request("GET" if body is None else "POST", path, octets, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers.get_content_type(), answer.read())
    finally:
        connection.close()


def log_in(host: str, port: int, tls: ssl.SSLContext, user: str, password: str) -> str:
    """Log in, and return what the server says of INBOX."""
    with imaplib.IMAP4_SSL(host, port, ssl_context=tls, timeout=20) as client:
        client.login(user, password)
        return client.select("INBOX", readonly=True)[0]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (f"autoconfig.{DOMAIN}", "/mail/config-v1.1.xml"),
        (f"autoconfig.{DOMAIN}", f"/mail/config-v1.1.xml?emailaddress={ADDRESS}"),
        ("backup.example.org", "/.well-known/autoconfig/mail/config-v1.1.xml"),
    ],
)
def test_autoconfig_leads_to_both_servers_and_to_sending(running: Running, name: str, path: str) -> None:
    answer = ask(running, name, path)
    assert (answer.status, answer.kind) == (200, "text/xml"), answer
    provider = ElementTree.fromstring(answer.body).find("emailProvider")
    assert provider is not None
    incoming = provider.findall("incomingServer")
    assert len(incoming) == len(SERVERS)
    for server in incoming:
        host, port = server.findtext("hostname", ""), int(server.findtext("port", ""))
        user = server.findtext("username", "").replace("%EMAILADDRESS%", ADDRESS)
        assert log_in(host, port, running.tls, user, running.passwords["ann"]) == "OK"
    outgoing = provider.findall("outgoingServer")
    assert len(outgoing) == len(SERVERS)
    for server in outgoing:
        host, port = server.findtext("hostname", ""), int(server.findtext("port", ""))
        user = server.findtext("username", "").replace("%EMAILADDRESS%", ADDRESS)
        with smtplib.SMTP_SSL(host, port, context=running.tls, timeout=20) as client:
            assert client.login(user, running.passwords["ann"])[0] == 235


@pytest.mark.parametrize("path", ["/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml"])
def test_autodiscover_tells_outlook_its_own_login_name(running: Running, path: str) -> None:
    answer = ask(running, f"autodiscover.{DOMAIN}", path, QUESTION.format(ADDRESS))
    assert (answer.status, answer.kind) == (200, "text/xml"), answer
    protocols = ElementTree.fromstring(answer.body).findall(f".//{INNER}Protocol")
    imap = [one for one in protocols if one.findtext(f"{INNER}Type") == "IMAP"]
    assert len(imap) == len(SERVERS)
    for one in imap:
        host, port = one.findtext(f"{INNER}Server", ""), int(one.findtext(f"{INNER}Port", ""))
        user = one.findtext(f"{INNER}LoginName", "")
        assert log_in(host, port, running.tls, user, running.passwords["ann"]) == "OK"


@pytest.mark.parametrize(
    "address",
    ["<script>@example.org", "a&b@example.org", "]]>", "", "x" * 5000 + "@example.org", "é@example.org"],
)
def test_autodiscover_answers_hostile_questions_with_xml_or_a_refusal(running: Running, address: str) -> None:
    answer = ask(
        running,
        f"autodiscover.{DOMAIN}",
        "/autodiscover/autodiscover.xml",
        QUESTION.format(escape(address)),
    )
    assert answer.status in (200, 400), answer
    if answer.status == 200:
        names = [one.text for one in ElementTree.fromstring(answer.body).iter(f"{INNER}LoginName")]
        assert set(names) == {address}
    assert b"<script>" not in answer.body


@pytest.mark.parametrize(
    "body", ["", "not xml", '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>']
)
def test_autodiscover_refuses_what_is_no_question(running: Running, body: str) -> None:
    answer = ask(running, f"autodiscover.{DOMAIN}", "/autodiscover/autodiscover.xml", body)
    assert answer.status == 400, answer
    assert b"root:" not in answer.body


def test_apple_profile_is_signed_by_the_web_server_and_its_accounts_work(running: Running) -> None:
    answer = ask(running, "backup.example.org", f"/mobileconfig/{ADDRESS}.mobileconfig")
    assert (answer.status, answer.kind) == (200, "application/x-apple-aspen-config"), answer
    (certificate,) = pkcs7.load_der_pkcs7_certificates(answer.body)
    assert "backup.example.org" in certificate.subject.rfc4514_string()
    start, end = answer.body.index(b"<?xml"), answer.body.rindex(b"</plist>") + len(b"</plist>")
    accounts = plistlib.loads(answer.body[start:end])["PayloadContent"]
    assert len(accounts) == len(SERVERS)
    for one in accounts:
        host, port = one["IncomingMailServerHostName"], one["IncomingMailServerPortNumber"]
        user = one["IncomingMailServerUsername"]
        assert log_in(host, port, running.tls, user, running.passwords["ann"]) == "OK"
        assert one["OutgoingMailServerPortNumber"] == running.system.ports["submissions"]


def test_nobody_elses_profile_is_there(running: Running) -> None:
    for path in ("nobody@example.org.mobileconfig", "team@example.org.mobileconfig", "", "../mail/"):
        assert ask(running, "backup.example.org", f"/mobileconfig/{path}").status in (400, 403, 404), path


def test_mta_sts_policy_is_where_rfc_8461_wants_it(running: Running) -> None:
    answer = ask(running, f"mta-sts.{DOMAIN}", "/.well-known/mta-sts.txt")
    assert (answer.status, answer.kind) == (200, "text/plain"), answer
    assert answer.body.startswith(b"version: STSv1\r\n")
