"""Profiles say what clients understand, and nothing that only looks like it."""

import datetime
import plistlib
import re
import uuid
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Any, ClassVar

import jinja2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from tests.golden.test_client_profile import CONFIG
from twinmail.client_profile import apple, discovery, records, web
from twinmail.client_profile.sheet import sheet
from twinmail.client_profile.site import Endpoint, site, web_names
from twinmail.client_profile.template import render
from twinmail.config import Config
from twinmail.errors import PermanentError
from twinmail.routing import identify

SITE = site(CONFIG)
WITHOUT_EXTRAS = replace(SITE, relays=(), webmail="")


def tree(data: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(data)


class TestAutoconfig:
    """Element names, their order and values are those of draft-ietf-mailmaint-autoconfig."""

    SERVER = ("hostname", "port", "socketType", "authentication", "username")

    def provider(self, data: bytes) -> ElementTree.Element:
        root = tree(data)
        assert (root.tag, root.attrib) == ("clientConfig", {"version": "1.1"})
        provider = root.find("emailProvider")
        assert provider is not None
        assert provider.get("id") == "example.org"
        return provider

    def test_it_is_for_every_domain(self) -> None:
        provider = self.provider(discovery.autoconfig(CONFIG, SITE))
        assert [one.text for one in provider.findall("domain")] == ["example.org", "example.net"]

    @pytest.mark.parametrize("where", [SITE, WITHOUT_EXTRAS])
    def test_every_server_is_complete_and_inside_tls(self, where: Any) -> None:
        provider = self.provider(discovery.autoconfig(CONFIG, where))
        servers = [*provider.findall("incomingServer"), *provider.findall("outgoingServer")]
        assert len(servers) == 3
        for server in servers:
            assert tuple(one.tag for one in server) == self.SERVER
            assert server.findtext("socketType") == "SSL"
            assert server.findtext("authentication") == "password-cleartext"
            assert server.get("type") == ("imap" if server.tag == "incomingServer" else "smtp")

    def test_the_preferred_server_comes_first(self) -> None:
        provider = self.provider(discovery.autoconfig(CONFIG, SITE))
        hosts = [one.findtext("hostname") for one in provider.findall("incomingServer")]
        assert hosts == ["primary.example.org", "backup.example.org"]
        assert {one.findtext("username") for one in provider.findall("incomingServer")} == {"%EMAILADDRESS%"}

    def test_mail_goes_out_where_the_same_password_does(self) -> None:
        sent = self.provider(discovery.autoconfig(CONFIG, SITE)).findall("outgoingServer")
        assert [(one.findtext("hostname"), one.findtext("port")) for one in sent] == [
            ("backup.example.org", "465")
        ]
        assert sent[0].findtext("username") == "%EMAILADDRESS%"

    def test_without_a_relay_it_is_ses_whose_user_name_an_address_does_not_tell(self) -> None:
        (sent,) = self.provider(discovery.autoconfig(CONFIG, WITHOUT_EXTRAS)).findall("outgoingServer")
        assert sent.findtext("hostname") == "email-smtp.eu-central-1.amazonaws.com"
        assert sent.findtext("username") == ""


class TestAutodiscover:
    OUTER = "{http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006}"
    INNER = "{http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a}"

    def protocols(self, data: bytes) -> list[dict[str, str]]:
        root = tree(data)
        assert root.tag == f"{self.OUTER}Autodiscover"
        account = root.find(f"{self.INNER}Response/{self.INNER}Account")
        assert account is not None
        assert account.findtext(f"{self.INNER}AccountType") == "email"
        assert account.findtext(f"{self.INNER}Action") == "settings"
        found = account.findall(f"{self.INNER}Protocol")
        return [{one.tag.removeprefix(self.INNER): one.text or "" for one in each} for each in found]

    def test_both_servers_then_the_relay(self) -> None:
        found = self.protocols(discovery.autodiscover(SITE))
        assert [(one["Type"], one["Server"], one["Port"]) for one in found] == [
            ("IMAP", "primary.example.org", "993"),
            ("IMAP", "backup.example.org", "993"),
            ("SMTP", "backup.example.org", "465"),
        ]
        assert {(one["SSL"], one["AuthRequired"], one["SPA"]) for one in found} == {("on", "on", "off")}
        assert {one["LoginName"] for one in found} == {discovery.ADDRESS}

    def test_without_a_relay_it_is_ses_with_a_user_of_its_own(self) -> None:
        *_, sent = self.protocols(discovery.autodiscover(WITHOUT_EXTRAS))
        assert (sent["Type"], sent["UsePOPAuth"]) == ("SMTP", "off")
        assert "LoginName" not in sent


class TestApple:
    # Apple, Device Management: TopLevel and com.apple.mail.managed, what is required and its types.
    TOP: ClassVar = {
        "PayloadType": str,
        "PayloadVersion": int,
        "PayloadIdentifier": str,
        "PayloadUUID": str,
        "PayloadContent": list,
    }
    ACCOUNT: ClassVar = {
        "PayloadType": str,
        "PayloadVersion": int,
        "PayloadIdentifier": str,
        "PayloadUUID": str,
        "EmailAccountType": str,
        "EmailAddress": str,
        "IncomingMailServerAuthentication": str,
        "IncomingMailServerHostName": str,
        "IncomingMailServerPortNumber": int,
        "IncomingMailServerUseSSL": bool,
        "IncomingMailServerUsername": str,
        "OutgoingMailServerAuthentication": str,
        "OutgoingMailServerHostName": str,
        "OutgoingMailServerPortNumber": int,
        "OutgoingMailServerUseSSL": bool,
        "OutgoingPasswordSameAsIncomingPassword": bool,
    }

    def test_it_holds_both_accounts_with_ses_to_send(self) -> None:
        document = plistlib.loads(apple.profile(CONFIG, SITE, "ann", "ann@example.org"))
        accounts = document["PayloadContent"]
        for where, required in ((document, self.TOP), *((one, self.ACCOUNT) for one in accounts)):
            for key, kind in required.items():
                assert type(where[key]) is kind, key
        assert [one["IncomingMailServerHostName"] for one in accounts] == [
            "primary.example.org",
            "backup.example.org",
        ]
        assert {one["OutgoingMailServerHostName"] for one in accounts} == {
            "email-smtp.eu-central-1.amazonaws.com"
        }
        assert {one["EmailAccountName"] for one in accounts} == {"Ann <O'Hara> & Söhne"}

    def test_every_payload_has_a_uuid_of_its_own_that_stays(self) -> None:
        first, again = (plistlib.loads(apple.profile(CONFIG, SITE, "ann", "ann@example.org")) for _ in "12")
        other = plistlib.loads(apple.profile(CONFIG, SITE, "bob", "bob@example.org"))
        assert first == again
        found = [one["PayloadUUID"] for each in (first, other) for one in (each, *each["PayloadContent"])]
        assert len(set(found)) == len(found) == 6
        assert all(str(uuid.UUID(one)).upper() == one for one in found)

    def test_no_password_and_only_a_known_user_for_ses(self) -> None:
        unknown = apple.profile(CONFIG, SITE, "ann", "ann@example.org")
        known = apple.profile(CONFIG, SITE, "ann", "ann@example.org", "AKIAEXAMPLE")
        assert b"OutgoingMailServerUsername" not in unknown
        assert known.count(b"<string>AKIAEXAMPLE</string>") == 2
        for data in (unknown, known):
            assert not {"IncomingPassword", "OutgoingPassword"} & {
                key for one in plistlib.loads(data)["PayloadContent"] for key in one
            }

    def test_a_signed_profile_holds_the_plain_one_and_who_signed_it(self) -> None:
        key, certificate = authority()
        signer = apple.Signer.from_pem(pem(certificate), private(key))
        plain = apple.profile(CONFIG, SITE, "ann", "ann@example.org")
        signed = apple.profile(CONFIG, SITE, "ann", "ann@example.org", "", signer)
        assert plain in signed
        assert pkcs7.load_der_pkcs7_certificates(signed) == [certificate]

    def test_a_key_of_another_certificate_does_not_sign(self) -> None:
        (_, certificate), (other, _) = authority(), authority()
        with pytest.raises(apple.SigningError, match="not that of the first certificate"):
            apple.Signer.from_pem(pem(certificate), private(other))
        with pytest.raises(apple.SigningError, match="expected PEM"):
            apple.Signer.from_pem(b"nothing", b"nothing")


class TestRecords:
    def test_every_domain_has_the_names_of_rfc_6186_and_8314(self) -> None:
        found = {(one.name, one.value) for one in records.records(CONFIG, SITE) if one.type == "SRV"}
        for domain in CONFIG.domains:
            assert (f"_imaps._tcp.{domain}", "0 1 993 primary.example.org.") in found
            assert (f"_imaps._tcp.{domain}", "10 1 993 backup.example.org.") in found
            assert (f"_submissions._tcp.{domain}", "0 1 465 backup.example.org.") in found
            assert (f"_imap._tcp.{domain}", "0 0 0 .") in found

    def test_without_a_relay_ses_takes_submissions(self) -> None:
        values = [
            one.value
            for one in records.records(CONFIG, WITHOUT_EXTRAS)
            if one.name == "_submissions._tcp.example.org"
        ]
        assert values == ["0 1 465 email-smtp.eu-central-1.amazonaws.com."]

    def test_names_of_the_web_server_are_those_its_certificate_holds(self) -> None:
        aliases = {one.name for one in records.records(CONFIG, SITE) if one.type == "CNAME"}
        assert aliases | {"backup.example.org"} == set(web_names(CONFIG))

    def test_a_changed_policy_changes_the_id(self) -> None:
        ids = [
            one.value
            for config in (CONFIG, replace(CONFIG, region="eu-west-1"))
            for one in records.records(config, SITE)
            if one.name == "_mta-sts.example.org"
        ]
        assert len(set(ids)) == 2
        # RFC 8461, 3.1: 1 to 32 letters and digits.
        assert all(re.fullmatch(r"v=STSv1; id=[A-Za-z0-9]{1,32};", one) for one in ids)

    def test_policy_is_that_of_rfc_8461(self) -> None:
        lines = records.mta_sts_policy(CONFIG).decode("ascii").split("\r\n")
        assert lines[-1] == ""
        fields = dict(line.split(": ") for line in lines[:-1])
        assert fields["version"] == "STSv1"
        assert fields["mode"] == "enforce"
        assert fields["mx"] == "inbound-smtp.eu-central-1.amazonaws.com"
        assert 86400 <= int(fields["max_age"]) <= 31557600


class TestFiles:
    def test_an_alias_of_several_has_no_profile(self) -> None:
        found = web.files(CONFIG, SITE, {})
        assert {one for one in found if one.startswith("mobileconfig/")} == {
            f"mobileconfig/{address}.mobileconfig"
            for address in ("ann@example.org", "ann@example.net", "bob@example.org", "info@example.org")
        }

    def test_what_comes_from_the_configuration_is_escaped(self) -> None:
        page = sheet(CONFIG, SITE, "ann", "ann@example.org").decode()
        assert "Ann &lt;O&#39;Hara&gt; &amp; Söhne" in page
        assert "<O'Hara>" not in page

    def test_the_sheet_shows_the_way_to_the_profile_as_text_and_code(self) -> None:
        page = sheet(CONFIG, SITE, "ann", "ann@example.org").decode()
        assert "https://backup.example.org/mobileconfig/ann@example.org.mobileconfig" in page
        assert "<svg" in page
        alone = sheet(CONFIG, WITHOUT_EXTRAS, "ann", "ann@example.org").decode()
        assert "<svg" not in alone
        assert "https://" not in alone

    def test_a_missing_variable_is_an_error(self) -> None:
        with pytest.raises(jinja2.UndefinedError, match="site"):
            render("autodiscover.xml.j2", address="x")

    def test_no_web_server_no_names(self) -> None:
        servers = {name: replace(one, webmail=False) for name, one in CONFIG.servers.items()}
        config = replace(CONFIG, servers=servers)
        assert web_names(config) == ()
        assert site(config).webmail == ""
        assert site(config).ses == Endpoint("ses", "email-smtp.eu-central-1.amazonaws.com", 465)


class TestIdentify:
    @pytest.mark.parametrize(
        ("user", "expected"),
        [
            ("ann", ("ann", "ann@example.org")),
            ("Ann@Example.net", ("ann", "ann@example.net")),
            ("anything@example.net", ("ann", "anything@example.net")),
            ("info@example.org", ("bob", "info@example.org")),
        ],
    )
    def test_a_mailbox_or_an_address_of_it(self, user: str, expected: tuple[str, str]) -> None:
        assert identify(CONFIG, user) == expected

    @pytest.mark.parametrize("user", ["", "eve", "eve@example.org", "@", "ann@"])
    def test_anybody_else_is_one_line(self, user: str) -> None:
        with pytest.raises(PermanentError, match="mailboxes: ann, bob"):
            identify(CONFIG, user)

    def test_a_mailbox_with_only_a_catch_all_has_no_address_to_write_from(self) -> None:
        boxes = {**CONFIG.mailboxes, "bob": replace(CONFIG.mailboxes["bob"], addresses=("*@example.org",))}
        config: Config = replace(CONFIG, mailboxes=boxes, aliases={})
        with pytest.raises(PermanentError, match="only catch-alls"):
            identify(config, "bob")


def authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A key and a certificate that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "backup.example.org")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
