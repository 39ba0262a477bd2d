"""Where a rehearsal plays: a folder, and everything that runs for it until it is closed."""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path

from twinmail import imap
from twinmail.config import FILE, Config, Environment
from twinmail.deploy.cloud import Cloud
from twinmail.deploy.cloud_part import CloudPart
from twinmail.deploy.server_files import Surroundings
from twinmail.deploy.ssh import Machine
from twinmail.errors import TwinmailError
from twinmail.local.interruption import uninterrupted
from twinmail.local.state import LOOPBACK, State
from twinmail.local.system import LocalSystem
from twinmail.oci.destination import Destination
from twinmail.oci.digests import Digests
from twinmail.oci.push import ImagePush
from twinmail.oci.report import BuildReport
from twinmail.oci.tool import tool
from twinmail.rehearsal import servers
from twinmail.rehearsal.needs import CannotRehearse
from twinmail.rehearsal.podman import Podman
from twinmail.rehearsal.registry_process import run_registry
from twinmail.rehearsal.servers import Backup, Primary, World
from twinmail.rehearsal.ssh_host import run_host
from twinmail.runtime.docker import DockerRuntime
from twinmail.runtime.emulation import host_platform
from twinmail.secret_store import SecretStore
from twinmail.smtp_credentials import Endpoint
from twinmail.template import Templates

Say = Callable[[str], None]

_PREFIX = "twinmail-rehearsal-"
_MARK = ".rehearsal"
"""In the folder: all in it is ours."""
_TEMPLATES = Templates("twinmail.rehearsal", escaped=False)


class Stage:
    """Everything of one rehearsal; nothing of it is left after `close`.

    Attributes:
        folder: for all files; emptied at the beginning.
        pinned: whether only the images of ``images/digests.json`` will do.
        report: what was built, once it is.
        primary: None where it is left out.
        passwords: by user.
        sent: octets by the word that letters are found by, of mail to `USER`.
    """

    def __init__(
        self, root: Path, folder: Path, build: Callable[[], BuildReport], say: Say, pinned: bool = False
    ) -> None:
        self.root = root
        self.pinned = pinned
        self.folder = folder
        self.build = build
        self.say = say
        self.report: BuildReport | None = None
        self.images: tuple[ImagePush, ...] = ()
        self.registry: Destination | None = None
        self.backup: Backup | None = None
        self.primary: Primary | None = None
        self.passwords: dict[str, str] = {}
        self.sent: dict[str, bytes] = {}
        self._open = ExitStack()
        self._project = project(folder)
        self._clear()
        folder.mkdir(parents=True, mode=0o755)
        (folder / _MARK).touch()
        self.config_file = folder / FILE
        self.text = _TEMPLATES.render("twinmail.toml.j2", platform=host_platform())
        self.config_file.write_text(self.text)
        self.config = Config.load(self.config_file)

    @property
    def layouts(self) -> Path:
        """The image layouts, by name."""
        return self.folder / "images"

    def use(self, report: BuildReport) -> None:
        """Take the images of *report*, in a folder where nobody builds others meanwhile."""
        self.report = report
        for name, layout in report.layouts.items():
            shutil.copytree(layout, self.layouts / name, copy_function=_taken)

    @cached_property
    def system(self) -> LocalSystem:
        """LocalStack and the SES edge; no server of it is started."""
        layers = State.of_checkout(self.root).layers
        state = State(root=self.folder / "local", images=self.layouts, layers=layers)
        runtime = DockerRuntime(state.root)
        found = LocalSystem(state, self.config_file, runtime, host_platform(), ephemeral_ports=True)
        self._open.callback(found.stop)
        return found

    @cached_property
    def cloud(self) -> CloudPart:
        """What ``./inv deploy cloud`` deploys."""
        session = self.system.session()
        cloud = Cloud.of(self.config, self.config_file, session)
        return CloudPart(self.config, cloud, session, self.store)

    @cached_property
    def store(self) -> SecretStore:
        """The operator's secrets."""
        return SecretStore(self.folder / "secrets")

    @cached_property
    def world(self) -> World:
        """What both servers are told."""
        assert self.report is not None
        ports = self.system.ports
        return World(
            root=self.root,
            config=self.config,
            text=self.text,
            store=self.store,
            surroundings=Surroundings(
                endpoint=self.system.endpoint,
                ses=Endpoint("localhost", ports["submissions"], ports["submission"]),
                authorities=self.system.ca.read_bytes(),
            ),
            authority=self.system.state.tls,
            digests=Digests.of(self.report),
            images=self.images,
        )

    def tool(self, name: str) -> Path:
        """The program *name* from the locked packages."""
        return tool(name, self.root, Environment.read().debian_mirror)

    def start_registry(self) -> Destination:
        """Start a registry."""
        port = self._open.enter_context(run_registry(self.tool("docker-registry"), self.folder / "registry"))
        self.registry = Destination("http", f"{LOOPBACK}:{port}", "twinmail")
        return self.registry

    def rent_machine(self) -> Backup:
        """Start the machine that the backup is to be on."""
        compose = self.tool("docker-compose")
        programs = self.folder / "bin"
        programs.mkdir()
        # The engine of this machine, with the Compose of the locked packages.
        shim = programs / "docker"
        engine = shutil.which("docker") or "docker"
        shim.write_text(
            f'#!/bin/sh\n[ "$1" != compose ] || {{ shift; exec {compose} "$@"; }}\nexec {engine} "$@"\n'
        )
        shim.chmod(0o755)
        # Closed after its host, on which somebody may still be making containers.
        self._open.callback(self._lose_backup)
        host = self._open.enter_context(run_host(self.folder / "ssh", programs))
        machine = Machine(host.name, host.ssh, sudo=False)
        self.backup = Backup(self.world, self.folder / "backup", machine, compose, self._project)
        return self.backup

    def start_cluster(self) -> Primary:
        """Make the cluster that the primary is to run in."""
        assert self.registry is not None
        podman = Podman(self.folder / "podman")
        self._open.callback(podman.close)
        kustomize = self.tool("kustomize")
        self.primary = Primary(self.world, self.folder / "primary", podman, kustomize, self.registry)
        return self.primary

    @property
    def servers(self) -> tuple[Backup | Primary, ...]:
        """Those that take part."""
        return tuple(one for one in (self.backup, self.primary) if one is not None)

    def account(self, server: Backup | Primary, user: str) -> imap.Account:
        """How *user* logs in to *server*."""
        return servers.account(server.ports, user, self.passwords[user], self.system.ca)

    def close(self) -> None:
        """End and remove everything; Ctrl-C waits until it is done."""
        with uninterrupted():
            try:
                self._open.close()
            except (TwinmailError, OSError) as error:
                # What is left is removed by the next run; why the rehearsal failed matters more.
                print(f"warning: not all could be ended: {error}", file=sys.stderr)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _lose_backup(self) -> None:
        if self.backup:
            self.backup.lose()

    def _clear(self) -> None:
        """Remove what a killed run left, and nothing else."""
        if self.folder.exists():
            if not (self.folder / _MARK).exists() and any(self.folder.iterdir()):
                raise CannotRehearse(
                    f"{self.folder}: expected no folder, or one of a rehearsal, which is removed at the end; "
                    "name another with --state"
                )
            self.say("removing what an earlier run left")
            servers.clear_project(self.tool("docker-compose"), self._project, self.folder / "backup" / "srv")
            if (self.folder / "podman").exists():
                with suppress(TwinmailError):
                    Podman(self.folder / "podman").close()
            DockerRuntime(self.folder / "local").remove_leftovers()
            shutil.rmtree(self.folder)


def _taken(source: str, target: str) -> None:
    """Have *source* at *target*: a blob, which never changes, without a copy where that is possible."""
    if "blobs" in Path(source).parts:
        with suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)


def project(folder: Path) -> str:
    """What Compose calls all that it runs for the rehearsal in *folder*; other folders have others."""
    return _PREFIX + hashlib.sha256(str(folder).encode()).hexdigest()[:8]
