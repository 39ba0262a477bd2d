"""A server on a machine that Lightsail rents out: secrets, the machine, and all that it runs, as one plan."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from twinmail.config import Config
from twinmail.deploy import backup_server, server_files
from twinmail.deploy.backup_server import Request
from twinmail.deploy.rented_machine import Plan as MachinePlan
from twinmail.deploy.rented_machine import RentedMachine
from twinmail.deploy.server_files import ServerSecrets
from twinmail.oci.digests import Digests
from twinmail.oci.push import ImagePush, Progress
from twinmail.secret_store import SecretStore
from twinmail.webmail import Sender

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What would change.

    Attributes:
        missing: secrets that others make, by name, each with the command for it.
        secrets: names of those that are made here.
        seen: whether `server` says what the machine was found to lack, and not what every new one does.
    """

    missing: Mapping[str, str]
    secrets: tuple[str, ...]
    machine: MachinePlan
    server: backup_server.Plan
    seen: bool

    def lines(self) -> tuple[str, ...]:
        """One line a change; none if everything is as it should be."""
        lines = [f"wait for the secret {name}, which {how} makes" for name, how in self.missing.items()]
        lines += [f"make the secret {name}" for name in self.secrets]
        lines += self.machine.lines()
        if not self.seen:
            whole = "look at its images, files and containers" if self.machine.found.instance else ""
            lines.append(whole or "wait for its first boot, which installs Docker and Compose")
        return (*lines, *self.server.lines())


@dataclass(frozen=True)
class BackupPart:
    """The server *server*.

    Attributes:
        text: of ``twinmail.toml``, from which `config` was read.
        digests: of the images that it is to run.
        build: called for the images if the machine lacks some.
        overrides: fields of the `Request`, where it is not production.
    """

    root: Path
    config: Config
    text: str
    server: str
    store: SecretStore
    rented: RentedMachine
    digests: Digests
    build: Callable[[], Sequence[ImagePush]]
    progress: Progress
    overrides: Callable[[Request], Request] = field(default=lambda request: request)

    @property
    def name(self) -> str:
        """For messages."""
        return f"backup: server {self.server}"

    def plan(self, keep: bool = False) -> Plan:
        """What would change; nothing is changed, and no secret is made.

        Raises:
            TwinmailError: see `RentedMachine.plan`, `RentedMachine.look` and `backup_server.plan`.
        """
        missing = server_files.missing_secrets(self.store, self.config, self.server)
        machine = self.rented.plan()
        reached = self.rented.look(machine)
        known = _NOTHING if missing else server_files.read_secrets(self.store, self.config, self.server)
        request = self._request(known)
        return Plan(
            missing=missing,
            secrets=server_files.unmade_secrets(self.store, self.config, self.server),
            machine=machine,
            server=backup_server.plan(request, reached) if reached else backup_server.first(request),
            seen=reached is not None,
        )

    def apply(self, plan: Plan, say: Say) -> None:
        """Do what *plan* says, and return when all of it is healthy and runs the pinned images.

        Raises:
            NoSecrets: some are missing that others make; nothing has changed.
            TwinmailError: see `RentedMachine.apply` and `backup_server.apply`; the same command goes on.
        """
        server_files.read_secrets(self.store, self.config, self.server)
        for name in server_files.make_secrets(self.store, self.config, self.server):
            say(f"made the secret {name}")
        machine = self.rented.apply(plan.machine, say)
        request = self._request(server_files.read_secrets(self.store, self.config, self.server))
        # Looked at again: only now are the machine and its secrets what they should be.
        found = backup_server.plan(request, machine)
        backup_server.apply(request, found, machine, self.build, self.progress, say)

    def _request(self, known: ServerSecrets) -> Request:
        return self.overrides(Request(self.root, self.config, self.text, self.server, known, self.digests))


_NOTHING = ServerSecrets(b"", sender=Sender("", ""))
"""Until the secrets are there, they are none; the plan says so."""


def servers(config: Config) -> tuple[str, ...]:
    """The servers that run on machines of Lightsail."""
    return tuple(name for name, one in config.servers.items() if one.lightsail is not None)
