"""Route 53: which calls write the records, which none, and how a run that failed is continued."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.unit.dns_example import CONFIG, KNOWN, WANTED, with_dns, with_server
from twinmail.config import Config
from twinmail.dns import zone_change
from twinmail.dns.hosted_zone import ZoneError
from twinmail.dns.route53 import Change, Plan
from twinmail.dns.wanted import wanted
from twinmail.dns.zone_change import CHARACTERS, RECORDS, Route53Unavailable

READING = ("ListHostedZones", "ListResourceRecordSets", "ListHealthChecks", "GetChange")
FAILOVER = with_dns(failover=True)


class Account:
    """Route 53 of moto, with every call that boto3 makes written down.

    Attributes:
        every: the name of each call.
        calls: those that change something, with what was asked.
        fail: names of calls that fail, after so many that succeed.
        pending: how often a change is looked at before all name servers have it.
    """

    def __init__(self) -> None:
        self.client: Any = boto3.client(
            "route53", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )
        self.every: list[str] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.fail: dict[str, int] = {}
        self.pending = 0
        self.zones: dict[str, str] = {}
        events = self.client.meta.events
        events.register("provide-client-params.route53", self._note)
        events.register_first("before-call.route53", self._break)
        events.register("after-call.route53.GetChange", self._delay)

    def make_zone(self, name: str, private: bool = False) -> str:
        made = self.client.create_hosted_zone(
            Name=name,
            CallerReference=f"{name}{len(self.zones)}",
            HostedZoneConfig={"Comment": "", "PrivateZone": private},
        )
        self.zones[name] = made["HostedZone"]["Id"].rpartition("/")[2]
        return self.zones[name]

    def put(self, name: str, kind: str, *values: str, **more: Any) -> None:
        """What somebody else wrote."""
        zone = next(id_ for zone, id_ in self.zones.items() if name.endswith(zone))
        records = {"TTL": 60, "ResourceRecords": [{"Value": one} for one in values]} if values else {}
        document = {"Name": name, "Type": kind, **records, **more}
        self.client.change_resource_record_sets(
            HostedZoneId=zone,
            ChangeBatch={"Changes": [{"Action": "CREATE", "ResourceRecordSet": document}]},
        )
        self.calls.clear()

    def values(self, name: str, kind: str, identifier: str = "") -> list[str]:
        """What is there now."""
        zone = next(id_ for zone, id_ in self.zones.items() if name.endswith(zone))
        for page in self.client.get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone):
            for one in page["ResourceRecordSets"]:
                if (one["Name"], one["Type"], one.get("SetIdentifier", "")) == (f"{name}.", kind, identifier):
                    return [record["Value"] for record in one["ResourceRecords"]]
        return []

    def run(self, config: Config = CONFIG) -> tuple[Plan, list[str]]:
        """One run of the command: its plan, and what it said."""
        said: list[str] = []
        plan = zone_change.look(self.client, config, wanted(config, KNOWN))
        zone_change.apply(self.client, config, plan, said.append, pause=0.001)
        return plan, said

    def changed(self) -> list[str]:
        """Every record set that was written, in order."""
        return [
            f"{change['Action']} {change['ResourceRecordSet']['Type']} {change['ResourceRecordSet']['Name']}"
            for name, asked in self.calls
            if name == "ChangeResourceRecordSets"
            for change in asked["ChangeBatch"]["Changes"]
        ]

    def _note(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.every.append(model.name)
        if model.name not in READING:
            self.calls.append((model.name, params))

    def _break(self, model: Any, **_: Any) -> Any:
        left = self.fail.get(model.name)
        if left is None or left > 0:
            self.fail.update({model.name: left - 1} if left else {})
            return None
        if self.calls and model.name not in READING:
            self.calls.pop()
        error = {"Error": {"Code": "InternalError", "Message": "simulated"}, "ResponseMetadata": {}}
        return SimpleNamespace(status_code=400), error

    def _delay(self, parsed: dict[str, Any], **_: Any) -> None:
        if self.pending:
            self.pending -= 1
            parsed["ChangeInfo"]["Status"] = "PENDING"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """Both zones, with nothing in them."""
    with mock_aws():
        found = Account()
        for domain in CONFIG.domains:
            found.make_zone(domain)
        found.calls.clear()
        yield found


def test_every_call_of_a_first_run(account: Account) -> None:
    account.pending = 2
    account.every.clear()
    plan, said = account.run()
    assert account.every == [
        "ListHostedZones",
        *["ListResourceRecordSets"] * 2,
        "ListHealthChecks",
        *["ChangeResourceRecordSets"] * 2,
        # Twice on its way, then everywhere; and that of the other zone.
        *["GetChange"] * 4,
    ]
    # One request a zone; example.net's reports are agreed to in the zone of the operator.
    assert [name for name, _ in account.calls] == ["ChangeResourceRecordSets"] * 2
    assert [asked["HostedZoneId"] for _, asked in account.calls] == list(account.zones.values())
    written = [
        (change["Action"], record["Name"], record["Type"], record["TTL"], len(record))
        for _, asked in account.calls
        for change in asked["ChangeBatch"]["Changes"]
        for record in [change["ResourceRecordSet"]]
    ]
    assert sorted(written) == sorted(("UPSERT", f"{one.name}.", one.type, one.ttl, 4) for one in WANTED.sets)
    assert account.values("example.org", "TXT") == ['"v=spf1 include:amazonses.com ~all"']
    assert account.values("_imaps._tcp.example.org", "SRV") == [
        "0 1 993 primary.example.org.",
        "10 1 993 backup.example.org.",
    ]
    assert [one for one in said if "waiting" in one] == [
        "waiting until every name server has it: PENDING, 0 s"
    ] * 2
    assert said[-1] == "every name server has it"
    assert not plan.conflicts and not plan.homeless


def test_a_second_run_changes_nothing(account: Account) -> None:
    account.run()
    account.calls.clear()
    plan, said = account.run()
    assert (plan.lines(), said, account.calls) == ((), [], [])


def test_looking_changes_nothing(account: Account) -> None:
    assert len(zone_change.look(account.client, FAILOVER, wanted(FAILOVER, KNOWN)).lines()) > 40
    assert account.calls == []


def test_only_what_differs_is_written(account: Account) -> None:
    account.run()
    account.calls.clear()
    moved = with_server("backup", with_dns(dmarc="reject"), addresses=("192.0.2.9",))
    plan, _ = account.run(moved)
    assert account.changed() == [
        "UPSERT TXT _dmarc.example.org.",
        "UPSERT A backup.example.org.",
        "UPSERT TXT _dmarc.example.net.",
    ]
    assert "change A     backup.example.org: 198.51.100.7 becomes 192.0.2.9" in plan.lines()


def test_a_run_that_failed_at_the_second_zone_is_continued(account: Account) -> None:
    account.fail["ChangeResourceRecordSets"] = 1
    with pytest.raises(
        Route53Unavailable, match=r"simulated.*of 43 changes are written; run the same command"
    ):
        account.run()
    assert len(account.calls) == 1
    account.fail.clear()
    account.calls.clear()
    account.run()
    assert [asked["HostedZoneId"] for _, asked in account.calls] == [account.zones["example.net"]]
    account.calls.clear()
    account.run()
    assert account.calls == []


@pytest.mark.parametrize("call", ["ListHostedZones", "ListResourceRecordSets", "ListHealthChecks"])
def test_a_refused_question_changes_nothing(account: Account, call: str) -> None:
    account.fail[call] = 0
    with pytest.raises(Route53Unavailable, match=r"simulated.*run the same command again"):
        account.run()
    assert account.calls == []


def test_a_change_that_does_not_arrive(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zone_change, "INSYNC_SECONDS", 0.0)
    account.pending = 1
    with pytest.raises(Route53Unavailable, match=r"are written, and PENDING .* \./inv dns --check"):
        account.run()


@pytest.mark.parametrize(
    ("name", "kind", "value", "kept"),
    [
        ("example.org", "MX", "10 mail.other.example.", True),
        ("example.org", "TXT", '"v=spf1 include:_spf.other.example -all"', True),
        ("_dmarc.example.org", "TXT", '"v=DMARC1; p=none; rua=mailto:x@reports.example"', True),
        ("_dmarc.example.org", "TXT", '"v=DMARC1; p=none; adkim=s"', True),
        ("autoconfig.example.org", "CNAME", "autoconfig.other.example.", True),
        ("autoconfig.example.org", "A", "192.0.2.80", True),
        ("backup.example.org", "CNAME", "vps.other.example.", True),
        ("_imaps._tcp.example.org", "SRV", "0 1 993 mail.other.example.", True),
        # Ours, of an earlier configuration.
        ("example.org", "MX", "10 inbound-smtp.eu-west-1.amazonaws.com.", False),
        ("_dmarc.example.org", "TXT", '"v=DMARC1; p=none; rua=mailto:bob@example.net"', False),
        ("_mta-sts.example.org", "TXT", '"v=STSv1; id=1;"', False),
        ("autoconfig.example.org", "CNAME", "primary.example.org.", False),
        ("backup.example.org", "A", "192.0.2.80", False),
        ("example.org", "TXT", '"v=spf1 include:amazonses.com -all"', True),
    ],
)
def test_what_is_not_ours_stays(account: Account, name: str, kind: str, value: str, kept: bool) -> None:
    account.put(name, kind, value)
    plan, _ = account.run()
    assert (account.values(name, kind) == [value]) is kept
    fits = value == '"v=spf1 include:amazonses.com -all"'
    assert [one.name for one in plan.conflicts] == ([name] if kept and not fits else [])
    assert all(value in one.line and "remove it" in one.line for one in plan.conflicts)
    # Everything else is written all the same.
    assert len(account.changed()) == len(WANTED.sets) - (1 if kept else 0)


def test_sets_that_route_or_lead_to_aws_stay(account: Account) -> None:
    alias = {"HostedZoneId": "Z2", "DNSName": "d1.cloudfront.net.", "EvaluateTargetHealth": False}
    account.put("backup.example.org", "A", AliasTarget=alias)
    account.put("_smtp._tls.example.org", "TXT", '"v=TLSRPTv1"', SetIdentifier="x", Weight=1)
    plan, _ = account.run()
    assert [one.got for one in plan.conflicts] == [
        'TXT "v=TLSRPTv1" (set x) is there',
        "A an alias of AWS is there",
    ]


def test_texts_and_authorities_of_others_stay_beside_ours(account: Account) -> None:
    texts = ['"site-verification=1"', '"a\\303\\244" "long one"']
    account.put("example.org", "TXT", *texts)
    account.put("example.org", "CAA", '0 issue "other.example"', '0 iodef "mailto:ann@example.org"')
    plan, _ = account.run()
    assert not plan.conflicts
    assert account.values("example.org", "TXT") == [*texts, '"v=spf1 include:amazonses.com ~all"']
    assert account.values("example.org", "CAA") == [
        '0 issue "other.example"',
        '0 iodef "mailto:ann@example.org"',
        '0 issue "letsencrypt.org"',
    ]
    # Their time to live is theirs too.
    first = account.calls[0][1]["ChangeBatch"]["Changes"]
    shared = [one["ResourceRecordSet"] for one in first if one["ResourceRecordSet"]["Name"] == "example.org."]
    assert {one["Type"]: one["TTL"] for one in shared} == {"MX": 3600, "TXT": 60, "CAA": 60}
    account.calls.clear()
    account.run()
    assert account.calls == []


def test_a_domain_without_a_zone_does_not_stop_the_others() -> None:
    with mock_aws():
        account = Account()
        account.make_zone("example.org")
        account.make_zone("example.net", private=True)
        plan, _ = account.run()
        assert {one.name.endswith("example.net") for one in plan.homeless} == {True}
        assert account.values("example.org", "MX") and not account.values("example.net", "MX")


def test_the_smallest_zone_that_a_name_is_in_has_its_records(account: Account) -> None:
    account.make_zone("_tcp.example.org")
    account.run()
    assert account.values("_imaps._tcp.example.org", "SRV") == []
    assert [asked["HostedZoneId"] for name, asked in account.calls if name.startswith("Change")][1:] == [
        account.zones["_tcp.example.org"],
        account.zones["example.net"],
    ]


def test_two_zones_of_one_name_are_refused(account: Account) -> None:
    account.make_zone("example.org")
    with pytest.raises(ZoneError, match=r"Route 53 has 2 zones example\.org: .*, .*; delete those"):
        zone_change.look(account.client, CONFIG, WANTED)


class TestFailOver:
    def test_every_call(self, account: Account) -> None:
        account.run()
        account.calls.clear()
        plan, said = account.run(FAILOVER)
        (made, check), *changes = account.calls
        assert made == "CreateHealthCheck"
        assert check["HealthCheckConfig"] == {
            "Type": "TCP",
            "FullyQualifiedDomainName": "primary.example.org",
            "Port": 993,
            "RequestInterval": 30,
            "FailureThreshold": 3,
        }
        id_ = account.client.list_health_checks()["HealthChecks"][0]["Id"]
        assert [asked["ChangeBatch"]["Changes"] for _, asked in changes] == [
            [
                {
                    "Action": "UPSERT",
                    "ResourceRecordSet": {
                        "Name": f"imap.{domain}.",
                        "Type": "CNAME",
                        "TTL": 60,
                        "SetIdentifier": f"twinmail-{role.lower()}",
                        "Failover": role,
                        "ResourceRecords": [{"Value": f"{host}.example.org."}],
                        **more,
                    },
                }
                for role, host, more in (
                    ("PRIMARY", "primary", {"HealthCheckId": id_}),
                    ("SECONDARY", "backup", {}),
                )
            ]
            for domain in CONFIG.domains
        ]
        assert plan.lines()[0].startswith(
            "add    health check of primary.example.org, TCP port 993, which costs"
        )
        assert said[0] == f"add    health check {id_}"
        account.calls.clear()
        assert account.run(FAILOVER)[1] == []
        assert account.calls == []

    def test_it_follows_the_servers(self, account: Account) -> None:
        account.run(FAILOVER)
        account.calls.clear()
        turned = replace(FAILOVER, servers=dict(reversed(FAILOVER.servers.items())))
        account.run(turned)
        updates = [asked for name, asked in account.calls if name == "UpdateHealthCheck"]
        assert [one["FullyQualifiedDomainName"] for one in updates] == ["backup.example.org"]
        assert account.values("imap.example.org", "CNAME", "twinmail-primary") == ["backup.example.org."]
        assert len(account.client.list_health_checks()["HealthChecks"]) == 1

    def test_it_goes_when_it_is_not_wanted(self, account: Account) -> None:
        account.run(FAILOVER)
        foreign = {"Type": "TCP", "IPAddress": "192.0.2.1", "Port": 25}
        account.client.create_health_check(CallerReference="mine", HealthCheckConfig=foreign)
        account.calls.clear()
        plan, _ = account.run()
        assert sorted(account.changed()) == [
            *["DELETE CNAME imap.example.net."] * 2,
            *["DELETE CNAME imap.example.org."] * 2,
        ]
        # The records first: none may name a health check that is not there.
        assert [name for name, _ in account.calls] == [
            "ChangeResourceRecordSets",
            "ChangeResourceRecordSets",
            "DeleteHealthCheck",
        ]
        assert [one["CallerReference"] for one in account.client.list_health_checks()["HealthChecks"]] == [
            "mine"
        ]
        assert len(plan.lines()) == 5
        account.calls.clear()
        account.run()
        assert account.calls == []

    def test_a_run_that_failed_after_the_health_check_makes_no_second(self, account: Account) -> None:
        account.fail["ChangeResourceRecordSets"] = 0
        with pytest.raises(Route53Unavailable, match="0 of 47 changes are written"):
            account.run(FAILOVER)
        account.fail.clear()
        account.run(FAILOVER)
        assert len(account.client.list_health_checks()["HealthChecks"]) == 1
        account.calls.clear()
        account.run(FAILOVER)
        assert account.calls == []

    def test_a_second_health_check_goes(self, account: Account) -> None:
        account.run(FAILOVER)
        reference = account.client.list_health_checks()["HealthChecks"][0]["CallerReference"]
        want = {"Type": "TCP", "IPAddress": "192.0.2.1", "Port": 993, "RequestInterval": 30}
        account.client.create_health_check(CallerReference=f"{reference}2", HealthCheckConfig=want)
        account.run(FAILOVER)
        assert len(account.client.list_health_checks()["HealthChecks"]) == 1
        account.calls.clear()
        account.run(FAILOVER)
        assert account.calls == []

    def test_a_name_that_is_taken_costs_nothing(self, account: Account) -> None:
        for domain in CONFIG.domains:
            account.put(f"imap.{domain}", "A", "192.0.2.1")
        plan, _ = account.run(FAILOVER)
        assert [one.name for one in plan.conflicts] == ["imap.example.org", "imap.example.net"]
        assert account.client.list_health_checks()["HealthChecks"] == []

    def test_what_cannot_be_done_now_removes_nothing(self, account: Account) -> None:
        account.run(FAILOVER)
        account.calls.clear()
        account.run(with_server("primary", FAILOVER, addresses=("2001:db8::1",)))
        assert not [one for one in account.changed() if "imap." in one]
        assert len(account.client.list_health_checks()["HealthChecks"]) == 1


def change(zone: str, action: str, *values: str) -> Change:
    records = [{"Value": one} for one in values]
    return Change(zone, action, {"Name": "x.", "Type": "TXT", "TTL": 60, "ResourceRecords": records})


def test_requests_stay_within_the_quotas() -> None:
    many = [change("Z1", "UPSERT", "x") for _ in range(RECORDS // 2 + 1)]
    assert [len(one) for one in zone_change.batches(many)] == [RECORDS // 2, 1]
    long = [change("Z1", "UPSERT", "x" * (CHARACTERS // 4)) for _ in range(3)]
    assert [len(one) for one in zone_change.batches(long)] == [2, 1]
    gone = [change("Z1", "DELETE", "x" * (CHARACTERS // 4)) for _ in range(5)]
    assert [len(one) for one in zone_change.batches(gone)] == [4, 1]
    mixed = [change("Z1", "UPSERT", "a"), change("Z2", "UPSERT", "b"), change("Z1", "UPSERT", "c")]
    assert [[one.zone for one in batch] for batch in zone_change.batches(mixed)] == [["Z1", "Z1"], ["Z2"]]
