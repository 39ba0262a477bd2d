"""The two servers of a rehearsal: each is made, lost and made again by what makes it in production."""

import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from twinmail import imap
from twinmail.certificate.place import CERTIFICATE, KEY
from twinmail.config import Config
from twinmail.deploy import compose, kustomization, lightsail, pins, primary, server_files
from twinmail.deploy.backup_part import BackupPart
from twinmail.deploy.lightsail import Found
from twinmail.deploy.rented_machine import Plan as MachinePlan
from twinmail.deploy.rented_machine import RentedMachine
from twinmail.deploy.server_files import ServerPorts, Surroundings
from twinmail.deploy.ssh import Machine
from twinmail.deploy.ssh_push import OVER_SSH
from twinmail.errors import PermanentError
from twinmail.local import pki
from twinmail.local.readiness import greets, http_ok
from twinmail.local.state import LOOPBACK
from twinmail.oci.destination import Destination
from twinmail.oci.digests import Digests
from twinmail.oci.fetch import Silent
from twinmail.oci.push import ImagePush
from twinmail.rehearsal import child
from twinmail.rehearsal.child import ProgramFailed
from twinmail.rehearsal.podman import Podman
from twinmail.rehearsal.ports import free_ports
from twinmail.runtime.interface import GID, UID
from twinmail.runtime.volume import own
from twinmail.secret_store import SecretStore

Say = Callable[[str], None]


class WrongImages(PermanentError):
    """A server runs other images than those that were built."""


@dataclass(frozen=True)
class World:
    """What both servers have in common.

    Attributes:
        root: the checkout.
        text: of ``twinmail.toml``, from which `config` was read.
        authority: folder of the authority that their certificates are of.
        digests: of the images that were built.
    """

    root: Path
    config: Config
    text: str
    store: SecretStore
    surroundings: Surroundings
    authority: Path
    digests: Digests
    images: tuple[ImagePush, ...]

    def tls(self, server: str, folder: Path) -> Path:
        """A certificate for *server* in *folder*."""
        pki.ensure(self.authority, folder, (self.config.servers[server].host,))
        return folder


@dataclass(frozen=True)
class LoopbackMachine(RentedMachine):
    """A machine that nobody has to rent: *machine*, which is always as Lightsail would have made it."""

    machine: Machine = field(default_factory=lambda: Machine(""))

    def plan(self) -> MachinePlan:
        """See `RentedMachine`: there is nothing to do."""
        wanted = lightsail.wanted(self.config, self.server, "")
        there = {"attachedTo": wanted.name}
        return MachinePlan(wanted, Found(True, there, {"name": wanted.name}, wanted.firewall), False, ())

    def apply(self, plan: MachinePlan, say: Say) -> Machine:
        """See `RentedMachine`."""
        return self.machine

    def look(self, plan: MachinePlan) -> Machine | None:
        """See `RentedMachine`."""
        return self.machine


class Backup:
    """The server that Compose runs on a machine behind SSH."""

    name = "backup"

    def __init__(self, world: World, folder: Path, machine: Machine, program: Path, project: str) -> None:
        tls = world.tls(self.name, folder / "tls")
        own(tls, UID, GID)
        self.ports = ServerPorts(*free_ports(7))
        self._srv = folder / "srv"
        self._program = program
        self._project = project
        self._part = BackupPart(
            root=world.root,
            config=world.config,
            text=world.text,
            server=self.name,
            store=world.store,
            rented=LoopbackMachine(world.config, self.name, None, world.store, folder, machine=machine),
            digests=world.digests,
            build=lambda: world.images,
            progress=Silent(),
            overrides=lambda request: replace(
                request,
                folder=str(self._srv),
                ports=self.ports,
                surroundings=world.surroundings,
                tls=str(tls),
                project=project,
            ),
        )
        platform = world.config.servers[self.name].platform
        manifests = {name: world.digests.images[name][platform]["manifest"] for name in compose.IMAGES}
        self._references = [OVER_SSH.reference(name, digest) for name, digest in manifests.items()]
        self._known_before = set(self._present())

    def deploy(self, say: Say) -> None:
        """What ``./inv deploy backup`` does once there is a machine."""
        found = self._part.plan(keep=True)
        for line in found.lines():
            say(f"  {line}")
        self._part.apply(found, lambda text: say(f"  {text}"))

    def check(self) -> str:
        """See that a second deployment has nothing to do, and that all that runs is what is pinned."""
        if left := self._part.plan().lines():
            raise WrongImages(f"{self.name}: a second deployment would change: {'; '.join(left)}")
        label = f"label=com.docker.compose.project={self._project}"
        count = len(child.run(["docker", "ps", "--quiet", "--filter", label]).split())
        return f"{count} containers healthy, of the images that were built; nothing left to deploy"

    def lose(self) -> None:
        """Lose the machine: what ran on it, its disk, and the images there."""
        clear_project(self._program, self._project, self._srv)
        for reference in self._present():
            if reference not in self._known_before:
                # Somebody else may run the same image here.
                with suppress(ProgramFailed):
                    child.run(["docker", "image", "rm", reference])

    def _present(self) -> list[str]:
        argv = ["docker", "image", "inspect", "--format", "."]
        looks = {
            one: subprocess.run([*argv, one], capture_output=True, check=False) for one in self._references
        }
        return [one for one, done in looks.items() if not done.returncode]


def clear_project(program: Path, project: str, folder: Path) -> None:
    """Remove everything that Compose runs and keeps for *project*, and the files in *folder*.

    Raises:
        ProgramFailed: see there.
    """
    # By the labels of what is there: a file may be missing, or another's.
    child.run([program, "--project-name", project, "down", "--volumes", "--timeout", "0"], Path("/"))
    shutil.rmtree(folder, ignore_errors=True)


class Primary:
    """The server that runs in a pod, from the rendered Kustomization."""

    name = "primary"

    def __init__(
        self, world: World, folder: Path, podman: Podman, kustomize: Path, registry: Destination
    ) -> None:
        tls = world.tls(self.name, folder / "tls")
        for name in (CERTIFICATE, KEY):
            world.store.put(f"tls/{self.name}/{name}", (tls / name).read_bytes())
        server_files.make_secrets(world.store, world.config, self.name)
        ports = free_ports(5)
        self.ports = ServerPorts(
            imaps=ports[0], submission=ports[1], sieve=ports[2], health=ports[3], relay=ports[4]
        )
        platform = world.config.servers[self.name].platform
        self.request = replace(
            primary.request(world.root, world.config, world.text, self.name, world.store, registry),
            images=pins.pins(pins.pinned(world.digests, platform), registry),
            overlay=kustomization.LOCAL,
            ports=self.ports,
            surroundings=world.surroundings,
        )
        self._world = world
        self._folder = folder / "kustomization"
        self._podman = podman
        self._kustomize = kustomize

    def deploy(self, say: Say) -> None:
        """Render what ``./inv deploy primary`` renders, and run it."""
        folder = kustomization.write(self.request, self._world.root, self._folder)
        rendered = child.run([self._kustomize, "build", folder])
        documents: list[dict[str, Any]] = list(yaml.safe_load_all(rendered))
        say(f"  {len(documents)} objects")
        self._podman.play(documents)

    def check(self) -> str:
        """See that what runs is what was built."""
        expected = {one.reference for one in self.request.images}
        running = {name: one["ImageName"] for name, one in self._podman.containers().items()}
        if not running or not expected >= set(running.values()):
            raise WrongImages(f"{self.name}: expected {sorted(expected)}, got {running}")
        return f"{len(running)} containers ready, of the images that were built"

    def is_ready(self) -> bool:
        """Whether the probes of the pod would say so."""
        tls = pki.client_context(self._world.authority / pki.CA)
        return (
            imap.greets(LOOPBACK, self.ports.imaps, tls)
            and http_ok(f"{LOOPBACK}:{self.ports.health}", "/readyz")
            and greets(self.ports.relay, b"220")
        )

    def lose(self) -> None:
        """Lose the cluster's node: the pod, its volumes, and the images there."""
        self._podman.end(volumes=True, seconds=0)
        self._podman.run("rmi", "--all", "--force")


def account(ports: ServerPorts, user: str, password: str, ca: Path) -> imap.Account:
    """How *user* logs in to the server with *ports*."""
    return imap.Account(LOOPBACK, ports.imaps, user, password, pki.client_context(ca))
