"""Each break gives its own line, with what to do; what is well gives none."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from tests.cloud import CONFIG
from tests.name_server import HOST, serve
from tests.unit import dns_example
from twinmail.dns.resolver import Resolver
from twinmail.dns.zone import fragment
from twinmail.doctor import account, outside, own, receiving, servers
from twinmail.doctor.examination import CHECKS, Check, NoCheck, ask, chosen, examine
from twinmail.doctor.finding import Finding, State, worst
from twinmail.doctor.patient import Endpoint, Patient
from twinmail.layout import manifest_key
from twinmail.local import pki
from twinmail.production import Lightsail
from twinmail.secret_store import SecretStore

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def patient(**changes: Any) -> Patient:
    def client(service: str) -> Any:
        return boto3.client(service, region_name=CONFIG.region)

    return replace(Patient(CONFIG, client, False, {}, {}, now=lambda: NOW), **changes)


def bad(findings: Any) -> list[Finding]:
    """Those that are not well; each must say what to do."""
    found = [one for one in findings if one.state not in (State.OK, State.ELSEWHERE)]
    assert all(one.text for one in found)
    return found


ACCOUNT = {
    "ProductionAccessEnabled": True,
    "SendingEnabled": True,
    "EnforcementStatus": "HEALTHY",
    "SendQuota": {"Max24HourSend": 50_000.0, "SentLast24Hours": 12.0},
}


@pytest.mark.parametrize(
    ("changes", "state", "said"),
    [
        ({"ProductionAccessEnabled": False}, State.PROBLEM, "sandbox"),
        ({"SendingEnabled": False}, State.PROBLEM, "sending is off"),
        ({"EnforcementStatus": "SHUTDOWN"}, State.PROBLEM, "SHUTDOWN"),
        ({"EnforcementStatus": "PROBATION"}, State.WARNING, "PROBATION"),
        ({"SendQuota": {"Max24HourSend": 200.0, "SentLast24Hours": 190.0}}, State.WARNING, "190 of 200"),
    ],
)
def test_what_ses_says_of_the_account(changes: dict[str, Any], state: State, said: str) -> None:
    assert not bad(account.sending_findings(ACCOUNT))
    (found,) = bad(account.sending_findings({**ACCOUNT, **changes}))
    assert found.state is state and said in found.text and found.remedy


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ({"accountPlanType": "PAID"}, State.OK),
        ({"accountPlanType": "FREE", "accountPlanStatus": "ACTIVE"}, State.WARNING),
        ({"accountPlanType": "FREE", "accountPlanStatus": "EXPIRED"}, State.PROBLEM),
        (
            {
                "accountPlanType": "FREE",
                "accountPlanStatus": "ACTIVE",
                "accountPlanExpirationDate": NOW + timedelta(days=9),
            },
            State.PROBLEM,
        ),
    ],
)
def test_a_free_plan_ends_with_the_mail(told: dict[str, Any], state: State) -> None:
    assert account.plan_finding(told, NOW).state is state


IDENTITY = {
    "VerifiedForSendingStatus": True,
    "DkimAttributes": {"Status": "SUCCESS", "SigningEnabled": True},
    "MailFromAttributes": {"MailFromDomain": "bounce.example.org", "MailFromDomainStatus": "SUCCESS"},
    "ConfigurationSetName": CONFIG.configuration_set,
}


@pytest.mark.parametrize(
    ("changes", "state", "said"),
    [
        ({"VerifiedForSendingStatus": False}, State.PROBLEM, "not verified"),
        ({"DkimAttributes": {"Status": "PENDING"}}, State.WARNING, "DKIM PENDING"),
        ({"DkimAttributes": {"Status": "FAILED"}}, State.PROBLEM, "DKIM FAILED"),
        ({"DkimAttributes": {"Status": "SUCCESS"}}, State.PROBLEM, "does not sign"),
        ({"MailFromAttributes": {}}, State.WARNING, "expected bounce.example.org"),
        (
            {
                "MailFromAttributes": {
                    "MailFromDomain": "bounce.example.org",
                    "MailFromDomainStatus": "FAILED",
                }
            },
            State.WARNING,
            "FAILED",
        ),
        ({"ConfigurationSetName": "other"}, State.PROBLEM, "nobody hears of bounces"),
    ],
)
def test_what_ses_says_of_a_domain(changes: dict[str, Any], state: State, said: str) -> None:
    assert not bad(account.identity_findings(CONFIG, "example.org", IDENTITY))
    (found,) = bad(account.identity_findings(CONFIG, "example.org", {**IDENTITY, **changes}))
    assert found.state is state and said in found.text and found.remedy


ARN = "arn:aws:{}:eu-central-1:000000000000:{}"
STORE = {
    "BucketName": CONFIG.bucket,
    "ObjectKeyPrefix": "incoming/",
    "TopicArn": ARN.format("sns", f"{CONFIG.stack}-arrivals"),
}
INVOKE = {
    "FunctionArn": ARN.format("lambda", f"function:{CONFIG.stack}-processor"),
    "InvocationType": "Event",
}


def acting(**changes: str) -> dict[str, Any]:
    """The active rule set, with other values in the actions of its rule."""
    store = {name: changes.get(name, value) for name, value in STORE.items()}
    invoke = {name: changes.get(name, value) for name, value in INVOKE.items()}
    return {**ACTIVE, "Rules": [{**RULE, "Actions": [{"S3Action": store}, {"LambdaAction": invoke}]}]}


RULE = {
    "Name": CONFIG.rule,
    "Enabled": True,
    "ScanEnabled": True,
    "Recipients": list(CONFIG.receipt_recipients),
    "Actions": [{"S3Action": STORE}, {"LambdaAction": INVOKE}],
}
ACTIVE = {"Metadata": {"Name": CONFIG.rule_set}, "Rules": [RULE]}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, "no rule set is active"),
        ({"Metadata": {"Name": "other"}}, "other is active"),
        ({**ACTIVE, "Rules": []}, "is not in it"),
        ({**ACTIVE, "Rules": [{**RULE, "Enabled": False}]}, "is off"),
        ({**ACTIVE, "Rules": [{**RULE, "ScanEnabled": False}]}, "scanned"),
        ({**ACTIVE, "Rules": [{**RULE, "Recipients": ["example.net"]}]}, "missing ann@example.org"),
        ({**ACTIVE, "Rules": [{**RULE, "Actions": [{"LambdaAction": INVOKE}]}]}, "expected to store"),
        (acting(BucketName="another"), "stores mail in the bucket another; expected"),
        (acting(ObjectKeyPrefix=""), "under the prefix (none); expected incoming/"),
        (acting(TopicArn=ARN.format("sns", "another")), "tells the topic another; expected"),
        (acting(FunctionArn=ARN.format("lambda", "function:old")), "invokes the function old; expected"),
    ],
)
def test_the_active_rule_set(told: dict[str, Any], said: str) -> None:
    assert not bad(receiving.rule_findings(CONFIG, ACTIVE))
    (found,) = bad(receiving.rule_findings(CONFIG, told))
    assert (
        found.state is State.PROBLEM and said in found.text and found.remedy.startswith("./inv deploy cloud")
    )


@pytest.mark.parametrize(
    ("seconds", "state"),
    [(2, State.OK), (-2, State.OK), (40, State.WARNING), (-40, State.WARNING), (400, State.PROBLEM)],
)
def test_clocks(seconds: int, state: State) -> None:
    assert account.clock_finding("here", timedelta(seconds=seconds), "AWS").state is state


SAID = {
    "ready": True,
    "delivered": 3,
    "backlog": 0,
    "cursor": manifest_key("a", NOW - timedelta(hours=1)),
    "last": {"ses_id": "a", "mailbox": "ann", "at": "2026-11-23T11:00:00.000+00:00"},
    "disk": {"free": 50, "total": 100},
    "now": NOW.isoformat(),
}
NEWEST = manifest_key("a", NOW - timedelta(hours=1))


@pytest.mark.parametrize(
    ("changes", "newest", "state", "said"),
    [
        ({"ready": False}, NEWEST, State.PROBLEM, "has not looked at the log"),
        ({"parked": {"k": "bad"}}, NEWEST, State.PROBLEM, "put aside"),
        ({"cursor": None}, NEWEST, State.PROBLEM, "has not looked at 1 entries since 2026-11-23 11:00"),
        (
            {},
            manifest_key("b", NOW - timedelta(minutes=9)),
            State.PROBLEM,
            "has not looked at 1 entries since 2026-11-23 11:51 UTC; 0 entries wait",
        ),
        ({"disk": {"free": 5, "total": 100}}, NEWEST, State.WARNING, "GB free"),
        ({"disk": {"free": 1, "total": 100}}, NEWEST, State.PROBLEM, "GB free"),
        ({"now": (NOW + timedelta(minutes=9)).isoformat()}, NEWEST, State.PROBLEM, "540 s ahead"),
    ],
)
def test_what_a_server_says(changes: dict[str, Any], newest: str, state: State, said: str) -> None:
    assert not bad(servers.server_findings("primary", SAID, [NEWEST], NOW))
    assert not bad(servers.server_findings("primary", {**SAID, "last": None}, [], NOW))
    (found,) = bad(servers.server_findings("primary", {**SAID, **changes}, [newest], NOW))
    assert found.state is state and said in found.text and found.remedy


def test_last_message_of_a_server() -> None:
    def told(said: dict[str, Any]) -> list[str]:
        found = servers.server_findings("primary", said, [NEWEST], NOW)
        return [one.text for one in found if one.subject == "primary, last message"]

    assert told(SAID) == ["a for ann, 2026-11-23T11:00:00.000+00:00"]
    assert told({**SAID, "last": None}) == ["none since it started"]


def test_servers_are_asked_although_the_log_is_not_known() -> None:
    found = list(servers.server_findings("primary", SAID, None, NOW))
    assert {"primary", "primary, last message", "primary, disk"} <= {one.subject for one in found}
    assert "primary, behind the log" not in {one.subject for one in found}


def test_a_new_entry_is_no_lag() -> None:
    newest = manifest_key("b", NOW - timedelta(seconds=30))
    assert not bad(servers.server_findings("primary", SAID, [NEWEST, newest], NOW))


def test_where_mail_comes_all_the_time_an_old_entry_is_lag_all_the_same() -> None:
    log = [manifest_key("b", NOW - timedelta(minutes=minutes)) for minutes in (50, 20, 2, 0)]
    (found,) = bad(servers.server_findings("primary", SAID, [NEWEST, *log], NOW))
    assert "has not looked at 4 entries since 2026-11-23 11:10 UTC" in found.text


def test_secrets_that_are_missing_or_open(tmp_path: Path) -> None:
    store = SecretStore(tmp_path / "secrets")
    names = {one.subject for one in bad(own.secrets(patient(store=store)))}
    assert {"syncer/primary/credentials", "syncer/backup/credentials"} <= names
    for name in names:
        store.put(name, b"x")
    assert not bad(own.secrets(patient(store=store)))
    store.path("syncer/primary/credentials").chmod(0o644)
    (found,) = bad(own.secrets(patient(store=store)))
    assert "lets others read" in found.text and found.remedy.startswith("chmod 0600")


def test_a_configuration_that_tells_nobody() -> None:
    silent = replace(CONFIG, operator=None)
    assert "operator" in bad(own.configuration(patient(config=silent)))[0].text
    told = replace(CONFIG, operator="me@elsewhere.example")
    assert not bad(own.configuration(patient(config=told)))
    open_ = replace(CONFIG.servers["backup"], lightsail=Lightsail(ssh_from=("203.0.113.7/32", "0.0.0.0/0")))
    wide = replace(told, servers={**CONFIG.servers, "backup": open_})
    assert "0.0.0.0/0 is everybody" in bad(own.configuration(patient(config=wide)))[0].text


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Any]:
    """Serves a certificate for a name that was made at a time; gives the port and whom to trust."""
    stops = []

    def serve(name: str, made: datetime) -> tuple[int, str]:
        target = tmp_path / "server"
        pki.ensure(tmp_path / "ca", target, (name,), made)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(target / pki.CERTIFICATE, target / pki.KEY)
        listener = socket.create_server(("127.0.0.1", 0))
        stops.append(listener)

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                    context.wrap_socket(connection, server_side=True).close()
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        threading.Thread(target=run, daemon=True).start()
        return listener.getsockname()[1], str(tmp_path / "ca" / pki.CA)

    yield serve
    for one in stops:
        one.close()


@pytest.mark.parametrize(
    ("name", "left", "state", "said"),
    [
        ("mail.example.org", 200, State.OK, "valid for"),
        ("mail.example.org", 9, State.WARNING, "not renewed"),
        ("mail.example.org", -1, State.PROBLEM, "expired"),
        ("other.example.org", 200, State.PROBLEM, "not valid for 'mail.example.org'"),
    ],
)
def test_certificates(shown: Any, name: str, left: int, state: State, said: str) -> None:
    now = datetime.now(UTC)
    port, authority = shown(name, now - pki.LIFE + timedelta(days=left, hours=1))
    endpoint = Endpoint("127.0.0.1", "mail.example.org", {"IMAP": port}, frozenset({"IMAP"}))
    looked = patient(endpoints={"primary": endpoint}, authority=authority, now=lambda: now)
    (found,) = outside.certificates(looked)
    assert found.state is state and said in found.text


def test_a_certificate_of_an_unknown_authority(shown: Any) -> None:
    port, _ = shown("mail.example.org", datetime.now(UTC))
    endpoint = Endpoint("127.0.0.1", "mail.example.org", {"IMAP": port}, frozenset({"IMAP"}))
    (found,) = outside.certificates(patient(endpoints={"primary": endpoint}))
    assert found.state is State.PROBLEM and found.remedy


def test_a_record_that_is_wrong_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinmail.dns.known.read", lambda config, session: dns_example.KNOWN)
    with serve("example.org", "example.net") as server:
        resolver = Resolver([(HOST, server.port)], authoritative=False, seconds=0.3)
        looked = patient(config=dns_example.CONFIG, resolver=lambda: resolver)
        zone = fragment(dns_example.WANTED, dns_example.CONFIG.domains)
        server.load(f"{zone}home.example.com. 60 IN A 192.0.2.4\n")
        assert not bad(outside.dns(looked))
        lines = [one for one in zone.splitlines() if "inbound-smtp" not in one or "example.net" not in one]
        server.load("\n".join(lines) + "\nhome.example.com. 60 IN A 192.0.2.4\n")
        found = bad(outside.dns(looked))
    assert {one.subject for one in found} <= {"example.net MX", "example.org MX"} and found
    assert all(one.state is State.PROBLEM and one.remedy and "missing" in one.text for one in found)


def test_a_name_server_that_is_silent_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinmail.dns.known.read", lambda config, session: dns_example.KNOWN)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        resolver = Resolver([("127.0.0.1", silent.getsockname()[1])], authoritative=False, seconds=0.1)
        found = bad(outside.dns(patient(config=dns_example.CONFIG, resolver=lambda: resolver)))
    assert found and {one.state for one in found} == {State.UNKNOWN}


def test_a_port_that_is_shut() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        endpoint = Endpoint("127.0.0.1", "mail.example.org", {"IMAP": port}, frozenset())
        assert not bad(outside.ports(patient(endpoints={"primary": endpoint})))
    (found,) = bad(outside.ports(patient(endpoints={"primary": endpoint})))
    assert found.state is State.PROBLEM and "refused" in found.text and "firewall" in found.remedy


def test_denied_questions_name_the_permission() -> None:
    def denied(patient: Patient) -> list[Finding]:
        text = "User: arn:aws:iam::1:user/x is not authorized to perform: ses:DescribeActiveReceiptRuleSet"
        raise ClientError(
            {"Error": {"Code": "AccessDenied", "Message": text}}, "DescribeActiveReceiptRuleSet"
        )

    (found,) = ask(patient(), Check("rules", "", denied))
    assert found.state is State.UNKNOWN
    assert found.remedy.startswith("let this user ses:DescribeActiveReceiptRuleSet: ./inv deploy policy")


def test_a_check_that_hangs_keeps_nobody_waiting() -> None:
    release = threading.Event()
    begun = time.monotonic()
    checks = (
        Check("slow", "", lambda patient: [] * release.wait(60)),
        Check("fast", "", lambda patient: [Finding("fast", "fast", State.OK, "well")]),
    )
    slow, fast = examine(patient(), checks, seconds=0.2)
    release.set()
    assert slow.state is State.UNKNOWN and "no answer" in slow.text and fast.state is State.OK
    assert time.monotonic() - begun < 30


def test_checks_are_chosen_by_name() -> None:
    assert chosen([]) == CHECKS
    assert [one.name for one in chosen(["dns", "dead-letters"])] == ["dns", "dead letters"]
    with pytest.raises(NoCheck, match="--only nothing: expected one of configuration, secrets"):
        chosen(["nothing"])


def test_what_does_not_apply_here_is_said() -> None:
    (found,) = ask(patient(local=True), next(one for one in CHECKS if one.name == "dns"))
    assert found.state is State.ELSEWHERE and "no names" in found.text


def test_the_worst_counts() -> None:
    def one(state: State) -> Finding:
        return Finding("a", "a", state, "text")

    assert worst([]) is worst([one(State.OK), one(State.ELSEWHERE)]) is State.OK
    assert worst([one(State.WARNING), one(State.UNKNOWN)]) is State.UNKNOWN
    assert worst([one(State.PROBLEM), one(State.UNKNOWN)]) is State.PROBLEM


def test_access_keys_of_users() -> None:
    with mock_aws():
        iam = boto3.client("iam", region_name=CONFIG.region)
        found = bad(account.keys(patient()))
        assert {one.text for one in found} == {"there is no such user"} and len(found) == 2
        for name in CONFIG.servers:
            iam.create_user(UserName=CONFIG.syncer_user(name))
        assert {one.text for one in bad(account.keys(patient()))} == {"has no active access key"}
        for name in CONFIG.servers:
            iam.create_access_key(UserName=CONFIG.syncer_user(name))
        now = datetime.now(UTC)
        assert not bad(account.keys(patient(now=lambda: now)))
        old = patient(now=lambda: now + timedelta(days=400))
        assert {one.remedy for one in bad(account.keys(old))} == {"./inv secrets rotate syncer"}
        iam.create_access_key(UserName=CONFIG.syncer_user("primary"))
        (two,) = bad(account.keys(patient(now=lambda: now)))
        assert "two active" in two.text


def test_documentation_has_every_check() -> None:
    text = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    expected = [f"| `{one.name.replace(' ', '-')}` | {one.about} |" for one in CHECKS]
    assert [row[: len(line)] for row, line in zip(rows, expected, strict=True)] == expected
