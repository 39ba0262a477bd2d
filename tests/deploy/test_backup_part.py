"""A server from nothing, as ``./inv deploy backup`` makes it: a machine at Lightsail, SSH, an engine.

Lightsail is simulated behind boto3's own client, and so is the engine; sshd, ssh and what is between are real.
"""

import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import layered_image
from tests.deploy.built_images import Silent
from tests.deploy.engine import Engine
from tests.deploy.ssh_host import SshHost, run_host
from tests.e2e.runbook import assert_shown
from tests.lightsail_simulator import LightsailSimulator
from twinmail.config import Config
from twinmail.deploy import compose, server_files
from twinmail.deploy.backup_part import BackupPart, Plan
from twinmail.deploy.backup_server import BackupServerError
from twinmail.deploy.lightsail import LightsailError, LightsailUnavailable
from twinmail.deploy.rented_machine import FirstBootError, NotReady, RentedMachine
from twinmail.deploy.server_files import NoSecrets
from twinmail.deploy.ssh import SshFailed, SshUnreachable
from twinmail.deploy.ssh_push import SshPushError
from twinmail.errors import TwinmailError
from twinmail.oci.bytecode import host_platform
from twinmail.oci.digests import Digests
from twinmail.oci.push import ImagePush
from twinmail.production import Lightsail
from twinmail.secret_store import SecretStore

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "twinmail.toml").read_text()
CREATE = [
    *("ImportKeyPair", "AllocateStaticIp", "CreateInstances", "AttachStaticIp"),
    *("PutInstancePublicPorts", "UpdateInstanceMetadataOptions"),
]


class Account(LightsailSimulator):
    """An account whose machines are this one: who has the key that came with a machine may log in."""

    def __init__(self, host: SshHost, boots: Engine, ready: Path) -> None:
        super().__init__()
        self._folder, self._boots, self._ready = host.log.parent, boots, ready
        self.address = "127.0.0.1"
        self.looks = 1  # until the first boot is over
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.host_keys = [(self._folder / "host.pub").read_text().split()[1]]

    def CreateInstances(self, asked: dict[str, Any]) -> dict[str, Any]:
        (self._folder / "authorized").write_text(self.keys[asked["keyPairName"]] + "\n")
        self._ready.unlink(missing_ok=True)
        with self._boots.change() as state:
            state |= {"boot": self.looks, "ready": str(self._ready), "images": [], "containers": {}}
        return super().CreateInstances(asked)


@dataclass
class World:
    """What a run finds."""

    account: Account
    engine: Engine
    store: SecretStore
    part: BackupPart
    files: Path

    def plan(self) -> Plan:
        return self.part.plan()

    def run(self) -> list[str]:
        """One run of the command; what it said."""
        said: list[str] = []
        found = self.plan()
        if found.lines():
            self.part.apply(found, said.append)
        return said

    @property
    def done(self) -> tuple[list[str], list[str]]:
        """What was called that changes something."""
        return [name for name, _ in self.account.calls], self.engine.calls


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SshHost, Engine]]:
    folder = tmp_path_factory.mktemp("machine")
    engine = Engine.install(folder)
    with run_host(folder / "ssh", path=f"{engine.bin}:{os.environ['PATH']}") as host:
        yield host, engine


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[ImagePush]:
    folder = tmp_path_factory.mktemp("images")
    return [layered_image.build(folder, name, {f"of {name}": 1000}) for name in compose.IMAGES]


@pytest.fixture
def world(machine: tuple[SshHost, Engine], images: list[ImagePush], tmp_path: Path) -> World:
    host, engine = machine
    account = Account(host, engine, tmp_path / "ready")
    config = Config.parse(TEXT)
    server = replace(config.servers["backup"], platform=host_platform())
    config = replace(config, servers={**config.servers, "backup": server})
    store = SecretStore(tmp_path / "secrets")
    store.put("syncer/backup/credentials", b"[default]\n")
    store.put("relay/backup/credentials", b"[default]\n")
    store.put("smtp/webmail", b'{"user": "AKIAEXAMPLE", "password": "password"}')
    port = (host.log.parent / "known_hosts").read_text().partition("]:")[2].split()[0]
    rented = RentedMachine(
        config=config,
        server="backup",
        client=account.client(),
        store=store,
        folder=tmp_path / "known",
        ssh=("ssh", "-F", "none", "-p", port),
        ready=str(tmp_path / "ready"),
        pause=0.001,
    )
    pins = {
        one.name: {host_platform(): {"manifest": one.manifests[host_platform()].digest, "diff_ids": []}}
        for one in images
    }
    part = BackupPart(
        root=ROOT,
        config=config,
        text=TEXT,
        server="backup",
        store=store,
        rented=rented,
        digests=Digests(pins),
        build=lambda: images,
        progress=Silent(),
        overrides=lambda request: replace(request, folder=str(tmp_path / "server")),
    )
    parts = part._request(server_files.read_secrets(store, config, "backup")).parts
    engine.forget({one.name: one.image for one in parts if one.stays})
    return World(account, engine, store, part, tmp_path / "server")


def everything_under(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_plan_of_a_server_from_nothing_names_all_and_changes_nothing(
    world: World, tmp_path: Path
) -> None:
    before = everything_under(tmp_path)
    known = server_files.read_secrets(world.store, world.part.config, "backup")
    files = len(world.part._request(known).files)
    lines = world.plan().lines()
    shown = ["backup, machine twinmail-backup: changes:", *(f"  {line}" for line in lines)]
    assert_shown("first-day.md", "./inv deploy backup --plan", shown)
    assert lines == (
        "make the secret relay/backup/password",
        "make an SSH key, and import it",
        "allocate static IP twinmail-backup-ip",
        "create instance twinmail-backup: nano_3_0, debian_12, eu-central-1a, with a snapshot every day at 3:00",
        "attach static IP twinmail-backup-ip to twinmail-backup",
        "let in exactly: 22 from 203.0.113.7/32, 80 from everywhere, 443 from everywhere, "
        "465 from everywhere, 993 from everywhere",
        "ask for a token before the machine's metadata is told",
        "wait for its first boot, which installs Docker and Compose",
        *(f"bring image {one}" for one in ("certbot", "dovecot", "roundcube", "syncer")),
        f"add {files} files",
        "start certbot, dovecot, syncer, relay, php, web",
    )
    assert world.done == ([], [])
    assert everything_under(tmp_path) == before


def test_a_server_from_nothing_and_a_second_run(world: World, tmp_path: Path) -> None:
    world.account.looks = 3
    said = world.run()
    assert world.done == (CREATE, ["pull"] * 4 + ["up"])
    assert_shown("first-day.md", "./inv deploy backup", said)
    assert "made the secret relay/backup/password" in said
    assert "waiting for the first boot of twinmail-backup: status: running" in said
    assert world.store.path("ssh/backup").stat().st_mode & 0o777 == 0o600
    assert (world.files / "settings/config/twinmail.toml").read_text() == TEXT
    before = everything_under(tmp_path)
    assert world.run() == []
    assert world.plan().lines() == ()
    assert world.done == (CREATE, ["pull"] * 4 + ["up"])
    assert everything_under(tmp_path) == before


@pytest.mark.parametrize("succeed", range(len(CREATE)))
def test_a_run_that_lightsail_ended_is_continued(world: World, succeed: int) -> None:
    world.account.fail_at = succeed
    with pytest.raises(LightsailUnavailable, match=r"simulated.*run the same command again, it goes on"):
        world.run()
    assert world.done == (CREATE[:succeed], [])
    key = world.store.get("ssh/backup")
    world.account.fail_at = None
    world.run()
    # Not even a second key: the first was kept before it was used.
    assert world.store.get("ssh/backup") == key is not None
    assert world.done == (CREATE, ["pull"] * 4 + ["up"])


@pytest.mark.parametrize(
    ("fail", "error", "done", "left"),
    [
        ("pull", SshPushError, [], "bring image dovecot"),
        ("up", SshFailed, ["pull"] * 4, "start certbot, dovecot, syncer, relay, php, web"),
    ],
)
def test_a_run_that_the_engine_ended_is_continued(
    world: World, fail: str, error: type[TwinmailError], done: list[str], left: str
) -> None:
    with world.engine.change() as state:
        state["fail"] = fail
    with pytest.raises(error, match=f"simulated: {fail}"):
        world.run()
    assert world.done == (CREATE, done)
    assert left in world.plan().lines()
    with world.engine.change() as state:
        state["fail"] = ""
    world.run()
    assert world.done == (CREATE, ["pull"] * 4 + ["up"])
    assert world.plan().lines() == ()


def test_what_runs_is_compared_with_what_is_pinned(world: World) -> None:
    other = "twinmail/dovecot@sha256:" + "0" * 64
    with world.engine.change() as state:
        state["other"] = {"dovecot": other}
    with pytest.raises(BackupServerError, match="other images run than those that were asked for") as caught:
        world.run()
    assert "dovecot" in str(caught.value) and "0" * 12 in str(caught.value)
    assert [one for one in world.plan().lines() if "dovecot" in one]
    with world.engine.change() as state:
        state["other"] = {}
        state["images"].append(other)
    world.run()
    assert world.plan().lines() == ()


def test_new_files_that_compose_has_not_seen_are_not_forgotten(world: World) -> None:
    world.run()
    changed = replace(world.part, text=f"# changed\n{TEXT}")
    world.part = changed
    assert world.plan().lines() == (
        "change file settings/config/twinmail.toml",
        "start anew those containers whose settings changed",
    )
    with world.engine.change() as state:
        state["fail"] = "up"
    with pytest.raises(SshFailed):
        world.run()
    assert world.plan().lines() == ("start certbot, dovecot, syncer, relay, php, web",)


def test_a_machine_that_was_deleted_is_made_again_by_the_same_command(world: World) -> None:
    world.run()
    del world.account.instances["twinmail-backup"]
    world.account.static_ips["twinmail-backup-ip"] |= {"attachedTo": "", "isAttached": False}
    world.account.calls.clear()
    world.files.rename(world.files.with_name("of the old machine"))
    world.run()
    assert world.done == (CREATE[2:], ["pull"] * 4 + ["up"] + ["pull"] * 4 + ["up"])
    assert world.plan().lines() == ()


def test_a_machine_whose_key_is_elsewhere_is_left_alone(world: World) -> None:
    world.run()
    world.store.remove("ssh/backup")
    with pytest.raises(
        LightsailError, match=r"its SSH key ssh/backup is not in .*copy that folder from where"
    ):
        world.run()
    assert world.store.get("ssh/backup") is None


def test_somebody_else_at_its_address_is_not_spoken_to(world: World) -> None:
    world.run()
    world.account.host_keys = ["AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
    with pytest.raises(SshUnreachable, match="Host key verification failed"):
        world.plan()


def test_an_own_address_that_changed_is_let_in_before_the_machine_is_looked_at(world: World) -> None:
    world.run()
    server = world.part.config.servers["backup"]
    moved = replace(server.lightsail or Lightsail(), ssh_from=("198.51.100.99/32",))
    config = replace(world.part.config, servers={"backup": replace(server, lightsail=moved)})
    world.part = replace(world.part, config=config, rented=replace(world.part.rented, config=config))
    keys, world.account.host_keys = world.account.host_keys, []  # as good as not being let in
    lines = world.plan().lines()
    assert lines[0].startswith("let in exactly: 22 from 198.51.100.99/32")
    assert lines[1] == "look at its images, files and containers"
    world.account.host_keys = keys
    world.run()
    assert world.plan().lines() == ()


def test_a_first_boot_that_failed_or_hangs_is_told_with_its_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.engine.change() as state:
        state["broken"] = True
    with pytest.raises(
        FirstBootError, match=r"its first boot ended without .*ready(.|\n)*delete the instance"
    ):
        world.run()
    with world.engine.change() as state:
        state["boot"] = 10**6
    monkeypatch.setattr("twinmail.deploy.rented_machine.READY_SECONDS", 0.0)
    with pytest.raises(
        NotReady, match=r"not ready after 0 s: status: running(.|\n)*run the same command again"
    ):
        world.run()


def test_secrets_that_the_cloud_makes_are_waited_for_before_anything_is_made(world: World) -> None:
    world.store.remove("syncer/backup/credentials")
    assert world.plan().lines()[0] == (
        "wait for the secret syncer/backup/credentials, which ./inv deploy cloud makes"
    )
    with pytest.raises(NoSecrets, match=r"make it with: \./inv deploy cloud"):
        world.run()
    assert world.done == ([], [])
    assert list(world.store.names()) == ["relay/backup/credentials", "smtp/webmail"]
