"""Which records a configuration needs, and which AWS must tell first."""

from dataclasses import replace

import boto3
import pytest
from botocore.exceptions import NoCredentialsError
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from tests.lightsail_simulator import LightsailSimulator
from tests.unit.dns_example import CONFIG, KNOWN, WANTED, at, identities, with_dns, with_server
from twinmail.client_profile import records as client_records
from twinmail.cost.quantities import month
from twinmail.deploy import lightsail
from twinmail.dns import known, record_set
from twinmail.dns.known import Known, NotAsked
from twinmail.dns.wanted import wanted


@pytest.mark.parametrize("domain", CONFIG.domains)
def test_mail_of_every_domain_comes_to_ses_and_is_sent_by_it(domain: str) -> None:
    expected = {
        (domain, "MX"): "10 inbound-smtp.eu-central-1.amazonaws.com.",
        (domain, "TXT"): "v=spf1 include:amazonses.com ~all",
        (f"bounce.{domain}", "MX"): "10 feedback-smtp.eu-central-1.amazonses.com.",
        (f"bounce.{domain}", "TXT"): "v=spf1 include:amazonses.com ~all",
        (f"{domain[-1]}1._domainkey.{domain}", "CNAME"): f"{domain[-1]}1.dkim.amazonses.com.",
        (f"{domain[-1]}2._domainkey.{domain}", "CNAME"): f"{domain[-1]}2.dkim.amazonses.com.",
        (f"_dmarc.{domain}", "TXT"): "v=DMARC1; p=quarantine; rua=mailto:ann+ops@example.org",
        (f"_smtp._tls.{domain}", "TXT"): "v=TLSRPTv1; rua=mailto:ann+ops@example.org",
        (f"mta-sts.{domain}", "CNAME"): "backup.example.org.",
        (f"autoconfig.{domain}", "CNAME"): "backup.example.org.",
        (f"autodiscover.{domain}", "CNAME"): "backup.example.org.",
        (f"_submissions._tcp.{domain}", "SRV"): "0 1 465 backup.example.org.",
        (domain, "CAA"): '0 issue "letsencrypt.org"',
    }
    for (name, kind), text in expected.items():
        found = at(name, kind)
        assert found is not None and found.values == (text,), (name, kind)
    imaps = at(f"_imaps._tcp.{domain}", "SRV")
    assert imaps and imaps.values == ("0 1 993 primary.example.org.", "10 1 993 backup.example.org.")


def test_the_label_of_the_envelope_sender_is_that_of_the_stack() -> None:
    config = with_dns(mail_from="returns")
    assert at(config.mail_from("example.org"), "MX", config)
    assert at("bounce.example.org", "MX", config) is None


def test_reports_on_another_domain_are_agreed_to() -> None:
    assert at("example.net._report._dmarc.example.org", "TXT").values == ("v=DMARC1",)  # type: ignore[union-attr]
    assert at("example.org._report._dmarc.example.org", "TXT") is None
    outside = wanted(replace(CONFIG, operator="ann@mail.example"), KNOWN)
    assert not [one for one in outside.sets if "_report" in one.name]
    assert [
        note for note in outside.notes if 'example.org._report._dmarc.mail.example TXT "v=DMARC1"' in note
    ]
    below = wanted(replace(CONFIG, operator="ann@sub.example.org", domains=("example.org",)), KNOWN)
    assert not below.notes


def test_without_an_operator_nobody_gets_reports() -> None:
    found = wanted(replace(CONFIG, operator=None), KNOWN)
    assert at("_dmarc.example.org", "TXT", replace(CONFIG, operator=None)).values == (  # type: ignore[union-attr]
        "v=DMARC1; p=quarantine",
    )
    assert not [one for one in found.sets if one.name.startswith("_smtp")]
    assert "name operator in the configuration" in found.notes[0]


def test_servers_have_their_addresses() -> None:
    assert at("primary.example.org", "CNAME").values == ("home.example.com.",)  # type: ignore[union-attr]
    assert at("backup.example.org", "A").values == ("198.51.100.7",)  # type: ignore[union-attr]
    both = with_server("backup", addresses=("192.0.2.1", "192.0.2.2", "2001:DB8::1"))
    assert at("backup.example.org", "A", both).values == ("192.0.2.1", "192.0.2.2")  # type: ignore[union-attr]
    assert at("backup.example.org", "AAAA", both).values == ("2001:db8::1",)  # type: ignore[union-attr]
    # Kept up to date by somebody else, under the very name.
    itself = with_server("primary", addresses=("primary.example.org",))
    assert at("primary.example.org", "CNAME", itself) is None
    assert not wanted(itself, KNOWN).gaps


@pytest.mark.parametrize(
    ("config", "answered", "gap"),
    [
        (
            CONFIG,
            replace(KNOWN, identities={}),
            "example.org: the DKIM records: SES does not know the domain yet; "
            "make it known with: ./inv deploy cloud",
        ),
        (
            CONFIG,
            replace(KNOWN, identities=identities(tokens=())),
            "example.org: the DKIM records: SES signs with a key that was brought to it",
        ),
        (
            CONFIG,
            replace(KNOWN, identities=identities(mail_from="old.example.org")),
            "example.org: SES has old.example.org as envelope sender, expected bounce.example.org; "
            "bring it to SES with: ./inv deploy cloud",
        ),
        (
            CONFIG,
            replace(KNOWN, static_ips={}),
            "backup.example.org: the address of server backup: it has no static IP yet; "
            "make it with: ./inv deploy backup",
        ),
        (
            CONFIG,
            Known(asked=False),
            "example.org: the DKIM records: AWS was not asked, for want of credentials",
        ),
        (
            with_server("primary", addresses=()),
            KNOWN,
            "primary.example.org: the address of server primary: "
            "say where it is reached: servers.primary.addresses",
        ),
        (
            with_dns(failover=True, route53=False),
            KNOWN,
            "imap.example.org: fail-over: it is a service of Route 53, and dns.route53 is off; "
            "or set dns.failover = false",
        ),
        (
            with_dns(with_server("backup", host="imap.example.net"), failover=True),
            KNOWN,
            "imap.example.org: fail-over: imap.example.net is the name of a server already",
        ),
        (
            with_dns(with_server("primary", addresses=("2001:db8::1",)), failover=True),
            KNOWN,
            "imap.example.org: fail-over: the health check asks primary.example.org by IPv4",
        ),
        (
            with_dns(replace(CONFIG, servers={"backup": CONFIG.servers["backup"]}), failover=True),
            KNOWN,
            "imap.example.org: fail-over: it takes two servers, there are 1",
        ),
    ],
)
def test_what_is_not_known_yet_says_what_it_takes(config: object, answered: Known, gap: str) -> None:
    found = wanted(config, answered).gaps  # type: ignore[arg-type]
    assert found and found[0].startswith(gap), found


def test_what_ses_has_not_seen_is_a_note() -> None:
    found = wanted(CONFIG, replace(KNOWN, identities=identities(dkim="PENDING", mail_from_status="FAILED")))
    assert found.sets == WANTED.sets and not found.gaps
    assert found.notes == (
        "example.org: SES has not seen the records of bounce.example.org (FAILED)",
        "example.org: SES has not seen the DKIM records (PENDING)",
    )


def test_the_id_of_the_tls_policy_changes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = at("_mta-sts.example.org", "TXT")
    assert before == at("_mta-sts.example.org", "TXT")
    monkeypatch.setattr(client_records, "_POLICY_SECONDS", 60)
    after = at("_mta-sts.example.org", "TXT")
    assert before and after and before.values != after.values


def test_failover_is_one_name_a_domain_and_the_health_check_that_the_bill_has() -> None:
    config = with_dns(failover=True)
    found = wanted(config, KNOWN)
    leading = [one for one in found.sets if one.any_one]
    assert [one.name for one in leading] == ["imap.example.org", "imap.example.net"]
    assert leading[0].values == ("primary.example.org.", "backup.example.org.")
    assert month(config, alarms=0).health_checks == 1
    assert wanted(CONFIG, KNOWN).failover is None and month(CONFIG, alarms=0).health_checks == 0


class Session:
    """boto3's, for two services: of SES it knows one domain, with a zone of keys of its own."""

    def __init__(self, lightsail: object) -> None:
        self.lightsail = lightsail

    def client(self, service: str) -> object:
        return {"lightsail": lambda: self.lightsail, "sesv2": self.ses}[service]()

    def ses(self) -> object:
        client = boto3.client(
            "sesv2", region_name="eu-central-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        stubber = Stubber(client)
        answer = {
            "DkimAttributes": {
                "Tokens": ["t1"],
                "Status": "PENDING",
                "SigningAttributesOrigin": "AWS_SES_EU_CENTRAL_1",
                "SigningHostedZone": "k.dkim.eu-central-1.amazonses.com",
            },
            "MailFromAttributes": {
                "MailFromDomain": "bounce.example.org",
                "MailFromDomainStatus": "PENDING",
                "BehaviorOnMxFailure": "USE_DEFAULT_VALUE",
            },
        }
        stubber.add_response("get_email_identity", answer, {"EmailIdentity": "example.org"})
        stubber.add_client_error("get_email_identity", "NotFoundException")
        stubber.activate()
        return client


def test_aws_is_asked_for_keys_and_addresses() -> None:
    simulator = LightsailSimulator()
    want = lightsail.wanted(CONFIG, "backup", "ssh-ed25519 AAAA ann")
    nothing = known.read(CONFIG, Session(simulator.client()))
    assert nothing.static_ips == {}
    simulator.static_ips[want.static_ip] = {"name": want.static_ip, "ipAddress": "198.51.100.7"}
    found = known.read(CONFIG, Session(simulator.client()))
    assert found.static_ips == {"backup": "198.51.100.7"}
    assert list(found.identities) == ["example.org"]
    assert found.identities["example.org"].mail_from_status == "PENDING"
    key = at("t1._domainkey.example.org", "CNAME", known=found)
    assert key and key.values == ("t1.k.dkim.eu-central-1.amazonses.com.",)


def test_a_refused_question_is_explained() -> None:
    class Refusing(Session):
        def client(self, service: str) -> object:
            raise NoCredentialsError

    with pytest.raises(NotAsked, match=r"^AWS, eu-central-1: .*; check the credentials and the region$"):
        known.read(CONFIG, Refusing(None))


@given(st.text(st.characters(max_codepoint=0xFF), min_size=1, max_size=700))
def test_every_text_is_the_same_after_a_zone_file(text: str) -> None:
    written = record_set.zone_value("TXT", text)
    assert record_set.canonical("TXT", written) == text
    assert written.isascii() and written.isprintable()
