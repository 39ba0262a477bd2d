"""The machine at Lightsail: which calls make it, which none, and how a run that failed is continued."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lightsail_simulator import LightsailSimulator
from twinmail.config import Config
from twinmail.deploy import lightsail
from twinmail.deploy.lightsail import Access, LightsailError, LightsailUnavailable, Wanted
from twinmail.production import Lightsail

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Config.load(ROOT / "twinmail.toml")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample operator"
EVERYBODY = {"protocol": "tcp", "cidrs": ["0.0.0.0/0"], "ipv6Cidrs": ["::/0"]}


def want(config: Config = CONFIG, **changes: object) -> Wanted:
    server = config.servers["backup"]
    assert server.lightsail is not None
    server = replace(server, lightsail=replace(server.lightsail, **changes))
    return lightsail.wanted(replace(config, servers={**config.servers, "backup": server}), "backup", KEY)


def run(simulator: LightsailSimulator, wanted: Wanted) -> list[str]:
    """One run of the command; what it said."""
    client = simulator.client()
    said: list[str] = []
    steps = lightsail.plan(wanted, lightsail.read(client, wanted))
    lightsail.apply(client, wanted, steps, said.append, pause=0.001)
    return said


def test_every_call_of_a_first_run() -> None:
    simulator, wanted = LightsailSimulator(), want()
    said = run(simulator, wanted)
    add_on = {
        "addOnType": "AutoSnapshot",
        "autoSnapshotAddOnRequest": {"snapshotTimeOfDay": "03:00"},
    }
    assert simulator.calls == [
        ("ImportKeyPair", {"keyPairName": wanted.key, "publicKeyBase64": KEY}),
        ("AllocateStaticIp", {"staticIpName": "twinmail-backup-ip"}),
        (
            "CreateInstances",
            {
                "instanceNames": ["twinmail-backup"],
                "availabilityZone": "eu-central-1a",
                "blueprintId": CONFIG.servers["backup"].lightsail.blueprint,
                "bundleId": "nano_3_0",
                "keyPairName": wanted.key,
                "userData": wanted.first_boot,
                "ipAddressType": "dualstack",
                "addOns": [add_on],
                "tags": [{"key": "twinmail", "value": "twinmail-backup"}],
            },
        ),
        ("AttachStaticIp", {"staticIpName": "twinmail-backup-ip", "instanceName": "twinmail-backup"}),
        (
            "PutInstancePublicPorts",
            {
                "instanceName": "twinmail-backup",
                "portInfos": [
                    {"fromPort": 22, "toPort": 22, "protocol": "tcp", "cidrs": ["203.0.113.7/32"]},
                    *({"fromPort": one, "toPort": one, **EVERYBODY} for one in (80, 443, 465, 993)),
                ],
            },
        ),
        (
            "UpdateInstanceMetadataOptions",
            {"instanceName": "twinmail-backup", "httpTokens": "required", "httpPutResponseHopLimit": 1},
        ),
    ]
    assert len(said) == len(simulator.calls)
    assert (
        "let in exactly: 22 from 203.0.113.7/32, 80 from everywhere, 443 from everywhere, "
        "465 from everywhere, 993 from everywhere"
    ) in said
    assert lightsail.address(simulator.client(), wanted) == "198.51.100.7"
    assert lightsail.access(simulator.client(), wanted) == Access("admin", ("ssh-ed25519 AAAAC3",))
    simulator.host_keys = ["ssh-ed25519 AAAAC3 root@ip-172-26-0-1"]
    assert lightsail.access(simulator.client(), wanted) == Access("admin", ("ssh-ed25519 AAAAC3",))
    simulator.host_keys = []
    with pytest.raises(LightsailUnavailable, match="has not seen its SSH host keys yet"):
        lightsail.access(simulator.client(), wanted)


def test_a_second_run_changes_nothing() -> None:
    simulator, wanted = LightsailSimulator(), want()
    run(simulator, wanted)
    simulator.calls.clear()
    assert run(simulator, wanted) == []
    assert simulator.calls == []


@pytest.mark.parametrize("succeed", range(6))
def test_a_run_that_failed_anywhere_is_continued(succeed: int) -> None:
    whole, simulator, wanted = LightsailSimulator(), LightsailSimulator(), want()
    run(whole, wanted)
    simulator.fail_at = succeed
    with pytest.raises(LightsailUnavailable, match=r"simulated.*run the same command again, it goes on"):
        run(simulator, wanted)
    assert simulator.calls == whole.calls[:succeed]
    simulator.fail_at = None
    run(simulator, wanted)
    assert simulator.calls == whole.calls
    assert run(simulator, wanted) == []


def test_reading_and_planning_call_nothing_that_changes() -> None:
    simulator, wanted = LightsailSimulator(), want()
    assert len(lightsail.plan(wanted, lightsail.read(simulator.client(), wanted))) == 6
    assert simulator.calls == []


def test_without_the_relay_its_port_is_closed() -> None:
    server = replace(CONFIG.servers["backup"], submission=False)
    wanted = lightsail.wanted(replace(CONFIG, servers={"backup": server}), "backup", KEY)
    assert sorted(one.port for one in wanted.firewall) == [22, 80, 443, 993]


def test_what_somebody_opened_is_closed_and_another_hour_is_set() -> None:
    simulator, wanted = LightsailSimulator(), want()
    run(simulator, wanted)
    simulator.ports["twinmail-backup"].append(simulator._port(25))
    simulator.calls.clear()
    run(simulator, want(snapshot_hour=4, ssh_from=("203.0.113.7/32", "2001:db8::/48")))
    assert [name for name, _ in simulator.calls] == ["PutInstancePublicPorts", "EnableAddOn"]
    assert simulator.calls[0][1]["portInfos"][0] == {
        "fromPort": 22,
        "toPort": 22,
        "protocol": "tcp",
        "cidrs": ["203.0.113.7/32"],
        "ipv6Cidrs": ["2001:db8::/48"],
    }
    assert simulator.instances["twinmail-backup"]["addOns"][0]["snapshotTimeOfDay"] == "04:00"


def test_a_machine_that_was_deleted_is_made_again_with_its_address() -> None:
    simulator, wanted = LightsailSimulator(), want()
    run(simulator, wanted)
    del simulator.instances["twinmail-backup"]
    simulator.static_ips["twinmail-backup-ip"] |= {"attachedTo": "", "isAttached": False}
    simulator.calls.clear()
    run(simulator, wanted)
    assert [name for name, _ in simulator.calls] == [
        "CreateInstances",
        "AttachStaticIp",
        "PutInstancePublicPorts",
        "UpdateInstanceMetadataOptions",
    ]


def test_a_stopped_machine_is_started() -> None:
    simulator, wanted = LightsailSimulator(), want()
    run(simulator, wanted)
    simulator.instances["twinmail-backup"]["state"] = {"code": 80, "name": "stopped"}
    simulator.calls.clear()
    run(simulator, wanted)
    assert [name for name, _ in simulator.calls] == ["StartInstance"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"bundle": "micro_3_0"}, "expected bundle micro_3_0, got nano_3_0"),
        ({"zone": "eu-central-1b"}, "expected zone eu-central-1b, got eu-central-1a"),
    ],
)
def test_what_cannot_be_changed_is_told(change: dict[str, str], what: str) -> None:
    simulator = LightsailSimulator()
    run(simulator, want())
    with pytest.raises(LightsailError) as caught:
        lightsail.plan(want(**change), lightsail.read(simulator.client(), want()))
    assert str(caught.value) == (
        f"instance twinmail-backup: {what}, which cannot be changed; delete the instance and run the same "
        "command: the new one gets the mail from S3"
    )


def test_an_address_that_another_machine_has_is_told() -> None:
    simulator, wanted = LightsailSimulator(), want()
    run(simulator, wanted)
    simulator.static_ips["twinmail-backup-ip"]["attachedTo"] = "other"
    with pytest.raises(LightsailError, match="it is attached to other; detach it first"):
        lightsail.plan(wanted, lightsail.read(simulator.client(), wanted))


def test_a_server_that_is_not_at_lightsail_or_reached_by_nobody_is_told() -> None:
    with pytest.raises(LightsailError, match=r"expected a table \[servers.primary.lightsail\]"):
        lightsail.wanted(CONFIG, "primary", KEY)
    with pytest.raises(LightsailError, match="ssh_from is empty"):
        want(ssh_from=())
    assert isinstance(CONFIG.servers["backup"].lightsail, Lightsail)


def test_the_first_boot_is_a_script_for_any_shell(tmp_path: Path) -> None:
    script = tmp_path / "first-boot.sh"
    script.write_text(want().first_boot)
    subprocess.run(["sh", "-n", script], check=True)
    # Lightsail takes 16 KB.
    assert script.stat().st_size < 16384
