"""Leaving Lightsail and Route 53: every call, and a run that goes on where one failed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.lightsail_simulator import LightsailSimulator
from twinmail.config import Config
from twinmail.deploy import leaving, lightsail
from twinmail.deploy.leaving import NotDeleted
from twinmail.dns import health_check

CONFIG = Config.load(Path(__file__).parents[2] / "twinmail.toml")


class Leaving(LightsailSimulator):
    """Lightsail, which also deletes."""

    def __init__(self) -> None:
        super().__init__()
        self.snapshots = {"by-hand": "SERVER", "other": "another-machine"}

    def DeleteInstance(self, asked: dict[str, Any]) -> dict[str, Any] | None:
        assert asked["forceDeleteAddOns"] is True
        return {"operations": []} if self.instances.pop(asked["instanceName"], None) else None

    def ReleaseStaticIp(self, asked: dict[str, Any]) -> dict[str, Any]:
        del self.static_ips[asked["staticIpName"]]
        return {"operations": []}

    def GetInstanceSnapshots(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"instanceSnapshots": [{"name": n, "fromInstanceName": f} for n, f in self.snapshots.items()]}

    def DeleteInstanceSnapshot(self, asked: dict[str, Any]) -> dict[str, Any]:
        del self.snapshots[asked["instanceSnapshotName"]]
        return {"operations": []}

    def GetKeyPairs(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"keyPairs": [{"name": name} for name in self.keys]}

    def DeleteKeyPair(self, asked: dict[str, Any]) -> dict[str, Any]:
        del self.keys[asked["keyPairName"]]
        return {"operation": {}}


class Session:
    """boto3's, with a Lightsail of its own."""

    def __init__(self, simulator: Leaving) -> None:
        self.simulator = simulator
        self._session = boto3.Session("test", "test", region_name="eu-central-1")

    def client(self, service: str) -> Any:
        return self.simulator.client() if service == "lightsail" else self._session.client(service)


@pytest.fixture
def session() -> Iterator[Session]:
    with mock_aws():
        yield Session(Leaving())


def rented(session: Session) -> lightsail.Wanted:
    """A machine that runs, as ``./inv deploy backup`` makes it."""
    want = lightsail.wanted(CONFIG, "backup", "ssh-ed25519 AAAA")
    client = session.simulator.client()
    lightsail.apply(client, want, lightsail.plan(want, lightsail.read(client, want)), lambda _: None, 0)
    session.simulator.snapshots["by-hand"] = want.name
    session.simulator.keys["somebody-elses"] = "x"
    return want


def test_machine_address_snapshots_key_and_health_checks_go_and_nothing_else(session: Session) -> None:
    want, route53 = rented(session), session.client("route53")
    for reference in (f"{health_check.prefix(CONFIG)}1", "somebody-elses"):
        settings = {"Type": "TCP", "Port": 993, "FullyQualifiedDomainName": CONFIG.servers["primary"].host}
        route53.create_health_check(CallerReference=reference, HealthCheckConfig=settings)
    route53.create_hosted_zone(Name=f"{CONFIG.domains[0]}.", CallerReference="zone")
    found = leaving.plan(CONFIG, session)
    assert [one.kind for one in found.steps] == [
        "instance",
        "static-ip",
        "snapshot",
        "key-pair",
        "health-check",
    ]
    assert [one.split(" in ")[0] for one in found.remains] == [f"the zone of {CONFIG.domains[0]}"]
    said: list[str] = []
    leaving.apply(session, found.steps, said.append)
    assert said == [one.text for one in found.steps]
    simulator = session.simulator
    assert (simulator.instances, simulator.static_ips) == ({}, {})
    assert (set(simulator.snapshots), set(simulator.keys)) == ({"other"}, {"somebody-elses"})
    assert len(route53.list_health_checks()["HealthChecks"]) == 1
    assert leaving.plan(CONFIG, session).steps == ()
    assert want.name not in str(simulator.instances)


def test_a_run_that_failed_is_continued(session: Session) -> None:
    rented(session)
    simulator, runs = session.simulator, 0
    while steps := leaving.plan(CONFIG, session).steps:
        # One more step each time, then a failure.
        simulator.fail_at = len(simulator.calls) + 1
        runs += 1
        if len(steps) > 1:
            with pytest.raises(NotDeleted, match="run the same command again"):
                leaving.apply(session, steps, lambda _: None)
        else:
            leaving.apply(session, steps, lambda _: None)
    assert runs == 4 and set(simulator.keys) == {"somebody-elses"}


def test_what_is_gone_meanwhile_is_no_failure(session: Session) -> None:
    rented(session)
    steps = leaving.plan(CONFIG, session).steps
    session.simulator.instances.clear()
    leaving.apply(session, steps, lambda _: None)
    assert leaving.plan(CONFIG, session).steps == ()
