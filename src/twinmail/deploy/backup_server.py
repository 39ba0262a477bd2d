"""A server that Compose runs on a machine that answers by SSH: what would change there, and the change.

The machine may be anybody's; `twinmail.deploy.rented_machine` makes one at Lightsail. A run that failed
anywhere is continued by the next, and a run with nothing to do changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from twinmail.config import Config
from twinmail.deploy import backup, compose, lightsail, running, server_files, ssh_push
from twinmail.deploy.backup import Difference, Seen
from twinmail.deploy.compose import TLS_VOLUME, Part
from twinmail.deploy.server_files import PORTS, PRODUCTION, ServerPorts, ServerSecrets, Surroundings
from twinmail.deploy.ssh import Machine
from twinmail.deploy.ssh_push import OVER_SSH
from twinmail.errors import PermanentError
from twinmail.oci.digests import FILE, Digests
from twinmail.oci.push import ImagePush, Progress

Say = Callable[[str], None]


class BackupServerError(PermanentError):
    """A server cannot be what it should be; the text says what to do."""


@dataclass(frozen=True)
class Request:
    """What a server is to be.

    Attributes:
        root: the checkout.
        text: of ``twinmail.toml``, from which `config` was read.
        digests: of the images that it runs.
        folder: of its files, on the machine.
        tls: the volume with the certificate, or an absolute path on the machine.
        project: what Compose calls all of it.
    """

    root: Path
    config: Config
    text: str
    server: str
    secrets: ServerSecrets
    digests: Digests
    folder: str = lightsail.FOLDER
    ports: ServerPorts = PORTS
    surroundings: Surroundings = PRODUCTION
    tls: str = TLS_VOLUME
    project: str = running.PROJECT

    @property
    def platform(self) -> str:
        """Of the machine."""
        return self.config.servers[self.server].platform

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The services that it consists of."""
        on = compose.profiles(self.config, self.server, self.tls)
        return compose.parts((self.root / compose.FILE).read_text("utf-8"), on)

    @property
    def images(self) -> tuple[str, ...]:
        """The images that it needs."""
        return tuple(sorted({one.image for one in self.parts}))

    @property
    def references(self) -> dict[str, str]:
        """What the engine calls each image that may be needed.

        Raises:
            BackupServerError: one has no digest for the machine's platform.
        """
        found = {}
        for name in compose.IMAGES:
            pin = self.digests.images.get(name, {}).get(self.platform)
            if pin is None:
                raise BackupServerError(
                    f'{FILE}: {name} is not pinned for {self.platform}; run "./inv build --pin" and commit it'
                )
            found[name] = OVER_SSH.reference(name, pin["manifest"])
        return found

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """Everything in its folder, by path."""
        files = server_files.plan(
            self.config, self.text, self.server, self.secrets, self.ports, self.surroundings
        )
        texts = compose.environment(
            self.config,
            self.server,
            files,
            self.references,
            self.ports,
            self.surroundings,
            self.tls,
            self.project,
        )
        return backup.bundle(self.root, files, texts)


@dataclass(frozen=True)
class Plan:
    """What would change on the machine; false if nothing would.

    Attributes:
        images: which the engine lacks.
        files: how its files differ.
        down: services that do not run, not well, or perhaps with other files.
        running: containers that are of other images.
    """

    images: tuple[str, ...]
    files: Difference
    down: tuple[str, ...]
    running: tuple[running.Difference, ...]

    def __bool__(self) -> bool:
        return bool(self.images or self.files or self.down or self.running)

    def lines(self) -> tuple[str, ...]:
        """One line a change; none if everything is as it should be."""
        lines = [f"bring image {one}" for one in self.images]
        if self.files.changed or self.files.removed:
            lines += [f"add file {one}" for one in self.files.new]
            lines += [f"change file {one}" for one in self.files.changed]
            lines += [f"remove file {one}" for one in self.files.removed]
        elif self.files.new:
            lines.append(f"add {len(self.files.new)} files")
        if self.down:
            lines.append(f"start {', '.join(self.down)}")
        elif self.files:
            lines.append("start anew those containers whose settings changed")
        return (*lines, *(f"other image: {one}" for one in self.running if one.container))


def first(request: Request) -> Plan:
    """What would change on a machine that is not there yet."""
    stay = tuple(one.name for one in request.parts if one.stays)
    return Plan(request.images, Difference(tuple(sorted(request.files)), (), ()), stay, ())


def plan(request: Request, machine: Machine) -> Plan:
    """What would change on *machine*, which is only looked at.

    Raises:
        SshFailed: there is no engine, or it does not answer.
        SshUnreachable: transient.
        BackupServerError: an image is not pinned.
        RunningError: see there.
    """
    references, seen = request.references, _look(request, machine)
    stay = [one.name for one in request.parts if one.stays]
    return Plan(
        images=tuple(one for one in request.images if references[one] in seen.lacking),
        files=backup.difference(seen.files, request.files),
        down=backup.down(seen.states, stay),
        running=_other_images(request, seen),
    )


def apply(
    request: Request,
    found: Plan,
    machine: Machine,
    build: Callable[[], Sequence[ImagePush]],
    progress: Progress,
    say: Say,
) -> None:
    """Make *machine* be what *request* says, and return when all of it is healthy and of the right images.

    Args:
        found: what `plan` said.
        build: called for the images if the engine lacks some; at least those that *request* names.

    Raises:
        SshUnavailable, SshUnreachable: transient; the same again goes on.
        SshPushError, SshFailed, RunningError: see there.
        BackupServerError: other images run than those that were asked for.
    """
    if found.images:
        say(f"bringing images: {', '.join(found.images)}")
        wanted = [one for one in build() if one.name in request.images]
        _check_built(request, wanted)
        # All of them, though layers that are there are not sent: what is not named is cleared away.
        ssh_push.push(machine.host, wanted, progress, say, "docker", machine.ssh)
    if found.files:
        count = len(found.files.new) + len(found.files.changed)
        say(f"bringing {count} files to {request.folder}")
        backup.install(machine, request.files, found.files, request.folder)
    if found:
        say("starting what is not as it should be, and waiting until all of it is healthy")
        backup.up(machine, request.folder)
    say("comparing what runs with what is pinned")
    if differences := _other_images(request, _look(request, machine)):
        lines = "\n".join(f"  {one}" for one in differences)
        raise BackupServerError(
            f"{machine.host}: other images run than those that were asked for:\n{lines}\n"
            f"who else starts containers there? docker ps shows them; theirs is the project {request.project}"
        )


def _look(request: Request, machine: Machine) -> Seen:
    references = request.references
    return backup.look(machine, [references[one] for one in request.images], request.folder, request.project)


def _other_images(request: Request, seen: Seen) -> tuple[running.Difference, ...]:
    stay = sorted({one.image for one in request.parts if one.stays})
    return running.compare(seen.containers, request.digests, request.platform, stay)


def _check_built(request: Request, images: Sequence[ImagePush]) -> None:
    built = {one.name: one.manifests[request.platform].digest for one in images}
    for name in request.images:
        expected = request.references[name].partition("@")[2]
        if built.get(name) != expected:
            raise BackupServerError(
                f"image {name} for {request.platform}: expected {expected}, got {built.get(name, 'none')}; "
                'if the change is intended, run "./inv build --pin" and commit it'
            )
