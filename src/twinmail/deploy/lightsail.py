"""The virtual machine of a server at Lightsail: what there is, what is wanted, and the calls between the two.

Everything has a name that follows from the configuration, so that a run that failed half-way is continued by
the next. Source: Amazon Lightsail API Reference.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinmail.config import Config
from twinmail.deploy import lightsail_firewall, template
from twinmail.deploy.lightsail_firewall import PUBLIC, Opening
from twinmail.errors import PermanentError, TransientError
from twinmail.production import Lightsail

FOLDER = "/srv/twinmail"
"""Where the server's files are on the machine."""
READY = "/var/lib/twinmail-ready"
"""On the machine, once its first boot has done everything."""

_SWAP_MB = 1024
_REBOOT_AT = "04:30"

START_SECONDS = 600.0
_POLL_SECONDS = 5.0


class LightsailError(PermanentError):
    """What is there cannot become what is wanted; the text says what to do."""


class LightsailUnavailable(TransientError):
    """Lightsail refused a call or did not answer; the same command goes on where this one stopped."""


@dataclass(frozen=True)
class Wanted:
    """A machine.

    Attributes:
        key: name of the SSH key, which changes with it.
        public_key: one line, as OpenSSH writes it.
        first_boot: a shell script.
    """

    name: str
    machine: Lightsail
    key: str
    public_key: str
    firewall: frozenset[Opening]
    first_boot: str

    @property
    def static_ip(self) -> str:
        """Name of its address."""
        return f"{self.name}-ip"

    @property
    def snapshot_at(self) -> str:
        """When its disk is copied, UTC."""
        return f"{self.machine.snapshot_hour:02}:00"


@dataclass(frozen=True)
class Found:
    """What Lightsail has, as it describes it; None or empty is nothing."""

    key: bool
    static_ip: Mapping[str, Any] | None
    instance: Mapping[str, Any] | None
    firewall: frozenset[Opening]


@dataclass(frozen=True)
class Step:
    """One call.

    Attributes:
        method: of boto3's client.
        text: what it does, for people.
    """

    method: str
    arguments: Mapping[str, Any]
    text: str


def wanted(config: Config, server: str, public_key: str) -> Wanted:
    """The machine of *server*, whose owner has the SSH key that belongs to *public_key*.

    Raises:
        LightsailError: it is not to be at Lightsail, or nobody may connect to it.
    """
    one = config.servers[server]
    if one.lightsail is None:
        raise LightsailError(
            f"server {server}: expected a table [servers.{server}.lightsail] in twinmail.toml, got none"
        )
    if not one.lightsail.ssh_from:
        raise LightsailError(
            f"server {server}: lightsail.ssh_from is empty, so nobody could bring anything to it; "
            'name your address there, as in ["203.0.113.7/32"]'
        )
    digest = hashlib.sha256(" ".join(public_key.split()[:2]).encode()).hexdigest()[:8]
    own, firewall = name(config, server), lightsail_firewall.wanted(one)
    return Wanted(own, one.lightsail, f"{own}-{digest}", public_key, firewall, first_boot())


def name(config: Config, server: str) -> str:
    """What the machine of *server* is called."""
    return f"{config.stack}-{server}"


def first_boot() -> str:
    """The script that a new machine runs."""
    return template.render(
        "first-boot.sh.j2",
        folder=FOLDER,
        ready=READY,
        swap_mb=_SWAP_MB,
        lowest_port=min(PUBLIC),
        reboot_at=_REBOOT_AT,
    )


def read(client: Any, want: Wanted) -> Found:
    """What is there of *want*.

    Raises:
        LightsailUnavailable: see there.
    """
    instance = _get(client, "get_instance", "instance", instanceName=want.name)
    states = (
        _get(client, "get_instance_port_states", "portStates", instanceName=want.name) if instance else ()
    )
    return Found(
        key=_get(client, "get_key_pair", "keyPair", keyPairName=want.key) is not None,
        static_ip=_get(client, "get_static_ip", "staticIp", staticIpName=want.static_ip),
        instance=instance,
        firewall=lightsail_firewall.found(states or ()),
    )


def plan(want: Wanted, found: Found) -> tuple[Step, ...]:
    """The calls that make *want* of *found*, in order; none if it is there.

    Raises:
        LightsailError: no call would.
    """
    machine, instance = want.machine, found.instance
    if instance:
        _check(want, instance)
    holder = (found.static_ip or {}).get("attachedTo") or None
    if holder not in (None, want.name):
        raise LightsailError(
            f"static IP {want.static_ip}: expected it to be free, it is attached to {holder}; detach it first"
        )
    steps = []
    if not found.key:
        arguments = {"keyPairName": want.key, "publicKeyBase64": want.public_key}
        steps.append(Step("import_key_pair", arguments, f"import SSH key {want.key}"))
    if not found.static_ip:
        arguments = {"staticIpName": want.static_ip}
        steps.append(Step("allocate_static_ip", arguments, f"allocate static IP {want.static_ip}"))
    if not instance:
        steps.append(_creation(want))
    elif instance["state"]["name"] == "stopped":
        steps.append(Step("start_instance", {"instanceName": want.name}, f"start instance {want.name}"))
    if holder is None or not instance:
        steps.append(
            Step(
                "attach_static_ip",
                {"staticIpName": want.static_ip, "instanceName": want.name},
                f"attach static IP {want.static_ip} to {want.name}",
            )
        )
    if found.firewall != want.firewall:
        openings = sorted(want.firewall, key=lambda one: one.port)
        ports = {"instanceName": want.name, "portInfos": [one.port_info() for one in openings]}
        steps.append(
            Step("put_instance_public_ports", ports, f"let in exactly: {', '.join(map(str, openings))}")
        )
    if instance and not _snapshots(instance, want.snapshot_at):
        add_on: dict[str, Any] = {"resourceName": want.name, "addOnRequest": _add_on(want)}
        steps.append(
            Step("enable_add_on", add_on, f"snapshot the disk every day at {machine.snapshot_hour}:00")
        )
    if not instance or (instance.get("metadataOptions") or {}).get("httpTokens") != "required":
        # Containers share the machine's network: a page that can be made to fetch a URL learns nothing there.
        options = {"httpTokens": "required", "httpPutResponseHopLimit": 1}
        steps.append(
            Step(
                "update_instance_metadata_options",
                {"instanceName": want.name, **options},
                "ask for a token before the machine's metadata is told",
            )
        )
    return tuple(steps)


def apply(
    client: Any, want: Wanted, steps: Sequence[Step], say: Callable[[str], None], pause: float = _POLL_SECONDS
) -> None:
    """Do *steps*, and return when the machine runs.

    Raises:
        LightsailUnavailable: a call failed, or the machine did not start; the same command goes on.
    """
    for step in steps:
        say(step.text)
        if step.method == "attach_static_ip":
            # No address can be given to a machine that is still being made.
            _wait(client, want, pause)
        try:
            getattr(client, step.method)(**step.arguments)
        except (BotoCoreError, ClientError) as error:
            raise LightsailUnavailable(
                f"{step.text}: {error}; run the same command again, it goes on from here"
            ) from error
    _wait(client, want, pause)


def address(client: Any, want: Wanted) -> str:
    """The static IPv4 address.

    Raises:
        LightsailError: there is none.
        LightsailUnavailable: see there.
    """
    found = _get(client, "get_static_ip", "staticIp", staticIpName=want.static_ip)
    if found is None:
        raise LightsailError(f"static IP {want.static_ip}: not there; plan and apply the machine first")
    return str(found["ipAddress"])


@dataclass(frozen=True)
class Access:
    """How its owner logs in to a machine.

    Attributes:
        user: who may become root there.
        host_keys: each ``TYPE BASE64``, as Lightsail recorded them; the machine is known by them.
    """

    user: str
    host_keys: tuple[str, ...]


def access(client: Any, want: Wanted) -> Access:
    """How to log in (GetInstanceAccessDetails); what is asked for changes nothing.

    Raises:
        LightsailUnavailable: see there, and where it has not seen the machine's host keys yet.
    """
    found = (
        _get(client, "get_instance_access_details", "accessDetails", instanceName=want.name, protocol="ssh")
        or {}
    )
    keys = tuple(_host_key(one["algorithm"], one["publicKey"]) for one in found.get("hostKeys") or ())
    if not keys:
        raise LightsailUnavailable(
            f"instance {want.name}: Lightsail has not seen its SSH host keys yet; run the same command again"
        )
    return Access(found["username"], keys)


def _host_key(algorithm: str, key: str) -> str:
    # The API says no more than "the public key"; some of AWS's say the algorithm before it.
    return f"{algorithm} {key.removeprefix(algorithm).split()[0]}"


def _creation(want: Wanted) -> Step:
    machine = want.machine
    return Step(
        "create_instances",
        {
            "instanceNames": [want.name],
            "availabilityZone": machine.zone,
            "blueprintId": machine.blueprint,
            "bundleId": machine.bundle,
            "keyPairName": want.key,
            "userData": want.first_boot,
            "ipAddressType": "dualstack",
            "addOns": [_add_on(want)],
            "tags": [{"key": "twinmail", "value": want.name}],
        },
        f"create instance {want.name}: {machine.bundle}, {machine.blueprint}, {machine.zone}, "
        f"with a snapshot every day at {machine.snapshot_hour}:00",
    )


def _check(want: Wanted, instance: Mapping[str, Any]) -> None:
    machine = want.machine
    pairs = (
        ("bundle", machine.bundle, instance["bundleId"]),
        ("blueprint", machine.blueprint, instance["blueprintId"]),
        ("zone", machine.zone, instance["location"]["availabilityZone"]),
        ("SSH key", want.key, instance["sshKeyName"]),
    )
    for what, expected, got in pairs:
        if expected != got:
            raise LightsailError(
                f"instance {want.name}: expected {what} {expected}, got {got}, which cannot be changed; "
                "delete the instance and run the same command: the new one gets the mail from S3"
            )


def _wait(client: Any, want: Wanted, pause: float) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        instance = _get(client, "get_instance", "instance", instanceName=want.name) or {}
        state = instance.get("state", {}).get("name", "missing")
        if state == "running":
            return
        if time.monotonic() > deadline:
            raise LightsailUnavailable(
                f"instance {want.name}: {state} after {START_SECONDS:.0f} s; run the same command again"
            )
        time.sleep(pause)


def _get(client: Any, method: str, part: str, **arguments: str) -> Any:
    try:
        return getattr(client, method)(**arguments).get(part)
    except client.exceptions.NotFoundException:
        return None
    except (BotoCoreError, ClientError) as error:
        raise LightsailUnavailable(f"Lightsail: {error}; run the same command again") from error


def _add_on(want: Wanted) -> dict[str, Any]:
    return {
        "addOnType": "AutoSnapshot",
        "autoSnapshotAddOnRequest": {"snapshotTimeOfDay": want.snapshot_at},
    }


def _snapshots(instance: Mapping[str, Any], at: str) -> bool:
    return any(
        one.get("name") == "AutoSnapshot"
        and one.get("status") == "Enabled"
        and one.get("snapshotTimeOfDay") == at
        for one in instance.get("addOns") or ()
    )
