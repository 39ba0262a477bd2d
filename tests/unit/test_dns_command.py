"""``./inv dns``: what it prints, its exit codes, and one line for what cannot be."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from invoke.context import Context
from invoke.exceptions import Exit
from moto import mock_aws

from tests.e2e.runbook import assert_shown
from tests.name_server import HOST, NameServer, serve
from tests.unit.dns_example import CONFIG, KNOWN, TOML, WANTED
from twinmail.config import Config
from twinmail.dns import known
from twinmail.dns.known import Identity, Known, NotAsked
from twinmail.dns.wanted import wanted
from twinmail.dns.zone import fragment
from twinmail.tasks.config import PROJECT
from twinmail.tasks.dns import dns

HOME = "home.example.com. 60 IN A 192.0.2.4"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of a system in AWS."""
    path = tmp_path / "twinmail.toml"
    path.write_text(TOML)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr(known, "read", lambda *_: KNOWN)
    return path


@pytest.fixture
def server() -> Iterator[NameServer]:
    """A server that has everything."""
    with serve("example.org", "example.net") as found:
        found.load(f"{fragment(WANTED, CONFIG.domains)}{HOME}\n")
        yield found


def run(config: Path, **options: Any) -> int:
    """The exit code; what it said at the end is printed like invoke does."""
    try:
        dns(Context(), config=str(config), **options)
    except Exit as exit_:
        print(exit_.message)
        return exit_.code
    return 0


def test_the_table_has_every_record(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config) == 0
    text = capsys.readouterr().out
    for one in WANTED.sets:
        assert any(
            line.split()[:2] == [one.name, one.type] and one.purpose in line for line in text.splitlines()
        ), one


def test_the_zone_alone_is_on_standard_output(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, zone=True) == 0
    assert capsys.readouterr().out == fragment(WANTED, CONFIG.domains)


def test_json_has_the_records_and_what_ses_said(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, json_=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["type"]) for one in document["records"]] == [one.key for one in WANTED.sets]
    assert document["ses"]["example.org"]["mail_from_status"] == "SUCCESS"
    assert (document["gaps"], document["notes"]) == ([], [])


def test_without_credentials_the_rest_is_printed(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boto3.Session, "get_credentials", lambda _: None)
    assert run(config) == 0
    shown = capsys.readouterr()
    assert "inbound-smtp.eu-central-1.amazonaws.com." in shown.out
    assert (
        "not known yet: example.net: the DKIM records: AWS was not asked, for want of credentials"
        in shown.err
    )
    assert run(config, apply=True) == 1
    assert "the AWS SDK finds no credentials" in capsys.readouterr().out


def test_an_answer_that_aws_refuses_is_explained(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotAsked("AWS, eu-central-1: ExpiredToken; check the credentials and the region")

    monkeypatch.setattr(known, "read", refuse)
    assert run(config) == 1
    assert (
        capsys.readouterr().out == "AWS, eu-central-1: ExpiredToken; check the credentials and the region\n"
    )


def test_check_of_what_is_right(config: Path, server: NameServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(config, check=True, resolver=f"{HOST}:{server.port}") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(WANTED.sets)
    assert lines[0].split() == ["right", "MX", "example.org"]


def test_check_of_what_is_not(config: Path, server: NameServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.remove("example.org", "MX")
    server.add("example.org. 60 IN MX 5 old.example.")
    server.remove("_dmarc.example.net", "TXT")
    assert run(config, check=True, resolver=f"{HOST}:{server.port}") == 1
    text = capsys.readouterr().out
    assert (
        "wrong      MX    example.org\n"
        "           expected: 10 inbound-smtp.eu-central-1.amazonaws.com.\n"
        "           got:      5 old.example.\n"
        "           do:       remove 5 old.example., add 10 inbound-smtp.eu-central-1.amazonaws.com.\n"
    ) in text
    assert "missing    TXT   _dmarc.example.net\n" in text
    assert text.endswith(f"2 of {len(WANTED.sets)} record sets are not right; see above\n")


def test_check_as_json(config: Path, server: NameServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.remove("_dmarc.example.net", "TXT")
    assert run(config, check=True, resolver=f"{HOST}:{server.port}", json_=True) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["right"] is False
    assert [
        (one["name"], one["type"], one["got"]) for one in document["findings"] if one["state"] == "missing"
    ] == [("_dmarc.example.net", "TXT", [])]


def test_what_is_not_known_is_not_right(
    config: Path, server: NameServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "read", lambda *_: known.Known(KNOWN.identities))
    assert run(config, check=True, resolver=f"{HOST}:{server.port}") == 1
    assert capsys.readouterr().out.endswith(
        f"0 of {len(WANTED.sets) - 1} record sets are not right, and 1 lines are not known yet; see above\n"
    )


class TestApply:
    @pytest.fixture(autouse=True)
    def zones(self) -> Iterator[Any]:
        with mock_aws():
            client = boto3.client("route53", region_name="us-east-1")
            for domain in CONFIG.domains:
                client.create_hosted_zone(Name=domain, CallerReference=domain)
            yield client

    def records(self, client: Any) -> int:
        zones = client.list_hosted_zones()["HostedZones"]
        # Without what is in every zone: NS and SOA.
        return sum(one["ResourceRecordSetCount"] - 2 for one in zones)

    def test_plan_says_what_would_change(
        self, config: Path, zones: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(config, apply=True, plan=True) == 0
        text = capsys.readouterr().out
        assert text.startswith("Route 53: changes:\n  add    MX    example.org: 10 inbound-smtp.eu-central-1")
        assert self.records(zones) == 0

    def test_without_a_terminal_it_wants_yes(
        self, config: Path, zones: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(config, apply=True) == 1
        assert capsys.readouterr().out.endswith(
            "there is no terminal to ask at; say --yes to write, --plan to look\n"
        )
        assert self.records(zones) == 0

    def test_it_writes_and_then_has_nothing_to_do(
        self, config: Path, zones: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(config, apply=True, yes=True) == 0
        shown = capsys.readouterr()
        assert "every name server has it" in shown.err
        assert "\nzone example.org: the registrar must lead to ns-" in shown.out
        assert self.records(zones) == len(WANTED.sets)
        assert run(config, apply=True, json_=True) == 0
        document = json.loads(capsys.readouterr().out)
        servers = document.pop("name_servers")
        assert sorted(servers) == sorted(CONFIG.domains) and all(servers.values())
        assert document == {"changes": [], "conflicts": [], "without_zone": [], "gaps": [], "applied": False}

    def test_what_is_in_the_way_is_exit_code_1(
        self, config: Path, zones: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        net = next(one["Id"] for one in zones.list_hosted_zones()["HostedZones"] if "net" in one["Name"])
        zones.delete_hosted_zone(Id=net)
        assert run(config, apply=True, yes=True) == 1
        text = capsys.readouterr().out
        assert "  no zone in Route 53: example.net; make the zone, or enter the record where" in text
        assert "record sets could not be brought to Route 53; see above\n" in text
        assert self.records(zones) > 0

    def test_zones_elsewhere_are_written_by_hand(
        self, config: Path, zones: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config.write_text(f"{TOML}\n[dns]\nroute53 = false\n")
        assert run(config, apply=True, yes=True) == 1
        assert capsys.readouterr().out == (
            "twinmail.toml: dns.route53 is false, so the zones are somewhere else: enter there by hand what "
            "./inv dns --zone prints, and look whether it is right with: ./inv dns --check\n"
        )
        assert self.records(zones) == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"zone": True, "check": True}, "--zone and --check: give one of them"),
        ({"zone": True, "json_": True}, "--zone and --json: give one of them"),
        ({"resolver": "192.0.2.1"}, "--resolver goes with --check"),
        ({"plan": True}, "--plan goes with --apply"),
        ({"yes": True}, "--yes goes with --apply"),
        ({"check": True, "resolver": "x"}, "--resolver: expected IP, IP:PORT or [IP]:PORT, got 'x'"),
    ],
)
def test_what_cannot_be_is_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], text: str
) -> None:
    assert run(config, **options) == 1
    assert capsys.readouterr().out == f"{text}\n"


def test_the_first_day_is_as_its_page_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = PROJECT / "twinmail.toml"
    mail = Config.load(path)
    keys = ("k3vq6txj5hr2nmzc", "p7wd4ybg8lsf9atu", "r2xm5cne6jkv3hqz")
    told = {one: Identity(keys, "PENDING", f"bounce.{one}", "PENDING") for one in mail.domains}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setattr(known, "read", lambda *_: Known(told, {}))
    with mock_aws():
        client = boto3.client("route53", region_name="us-east-1")
        for domain in mail.domains:
            client.create_hosted_zone(Name=domain, CallerReference="first-day")
        # The address of the server in the cloud is not known before there is one.
        assert run(path, apply=True, yes=True) == 1
    shown = capsys.readouterr()
    assert_shown("first-day.md", "./inv dns --apply", (shown.out + shown.err).splitlines())


def test_the_world_sees_the_records_of_the_first_day(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = PROJECT / "twinmail.toml"
    mail = Config.load(path)
    told = Known(
        {one: Identity(("k3vq6txj5hr2nmzc",), "SUCCESS", f"bounce.{one}", "SUCCESS") for one in mail.domains},
        {"backup": "198.51.100.7"},
    )
    monkeypatch.setattr(known, "read", lambda *_: told)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with serve(*mail.domains) as found:
        home = "home.pfeiffer.rocks. 60 IN A 192.0.2.4"
        found.load(f"{fragment(wanted(mail, told), mail.domains)}{home}\n")
        assert run(path, check=True, resolver=f"{HOST}:{found.port}") == 0
    assert_shown("first-day.md", "./inv dns --check", capsys.readouterr().out.splitlines())
