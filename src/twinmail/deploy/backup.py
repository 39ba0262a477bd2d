"""A server by Compose on a machine behind SSH: what would change there, and the change.

Only files that differ are sent, each takes the place of its predecessor at once, and Compose makes those
containers anew whose image or settings changed. On a new machine that is everything, and the syncer brings
the mail from S3.
"""

import hashlib
import io
import shlex
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinmail.deploy import compose, running
from twinmail.deploy.server_files import ServerFile
from twinmail.deploy.ssh import Machine
from twinmail.oci.digests import Digests

USER = 1000
"""Whom the containers run as (uid and gid), and whose the files are."""

WAIT_SECONDS = 300

_UP = ".up"
"""In the folder, while what runs is known to be of the files that are there."""

_INSTALL = """\
set -eu
folder={folder}
mkdir -p "$folder"
stage=$(mktemp -d "$folder/.new.XXXXXX")
trap 'rm -rf "$stage"' EXIT
tar -x -p -f - -C "$stage"
cd "$stage"
# Until Compose has seen the new files, whatever interrupts us.
rm -f "$folder/{up}"
# Folders first, then file by file: a reader sees the old file or the new one.
find . -mindepth 1 -type d | sort | while IFS= read -r one; do
    [ -d "$folder/$one" ] || install -d -m 0700 -o {user} -g {user} "$folder/$one"
done
find . -type f | while IFS= read -r one; do mv -f "$one" "$folder/$one"; done
sync
cd "$folder"
{removals}
"""


@dataclass(frozen=True)
class Difference:
    """What the machine's folder has not as it should be; paths in it.

    Attributes:
        removed: of settings that are there and belong to nothing.
    """

    new: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.removed)


def bundle(root: Path, files: Sequence[ServerFile], texts: Mapping[str, str]) -> dict[str, bytes]:
    """All files of the server's folder, by path.

    Args:
        root: the checkout.
        files: what `server_files.plan` says.
        texts: what `compose.environment` says.
    """
    found = {f"settings/{one.path}": one.data for one in files}
    found |= {name: text.encode("utf-8") for name, text in texts.items()}
    return {**found, "compose.yaml": (root / compose.FILE).read_bytes()}


def plan(machine: Machine, wanted: Mapping[str, bytes], folder: str) -> Difference:
    """How *folder* of *machine* differs from *wanted*; nothing is changed.

    Raises:
        SshFailed, SshUnreachable: see there.
    """
    place = shlex.quote(folder)
    # A machine that is new has no such folder.
    look = f"[ ! -d {place} ] || {{ cd {place} && find . -type f -exec sha256sum {{}} +; }}"
    there = {}
    for line in machine.run(look).decode().splitlines():
        digest, _, path = line.partition("  ./")
        there[path] = digest
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in wanted.items()}
    return Difference(
        new=tuple(sorted(digests.keys() - there.keys())),
        changed=tuple(sorted(path for path in digests if there.get(path, digests[path]) != digests[path])),
        removed=tuple(sorted(path for path in there.keys() - digests.keys() if path.startswith("settings/"))),
    )


def install(machine: Machine, wanted: Mapping[str, bytes], difference: Difference, folder: str) -> None:
    """Bring the files of *difference* to *folder* of *machine*; its owner alone may read them.

    Raises:
        SshFailed, SshUnreachable: see there; doing it again completes it.
    """
    removals = "\n".join(f"rm -f {shlex.quote(one)}" for one in difference.removed)
    script = _INSTALL.format(folder=shlex.quote(folder), user=USER, up=_UP, removals=removals)
    sent = {path: wanted[path] for path in (*difference.new, *difference.changed)}
    machine.run(script, _archive(sent))


def up(machine: Machine, folder: str) -> None:
    """Let Compose make what runs what the files say, and return when all of it is healthy.

    Raises:
        SshFailed: something did not become healthy; the end of the logs is in the text.
        SshUnreachable: see there.
    """
    compose_up = f"docker compose up --detach --wait --wait-timeout {WAIT_SECONDS} --remove-orphans"
    logs = "docker compose logs --no-color --tail 15 >&2"
    up = f"{{ {compose_up} || {{ {logs}; exit 1; }}; }}"
    machine.run(f"cd {shlex.quote(folder)} && {up} && touch {_UP}")


def lacking(machine: Machine, references: Sequence[str]) -> tuple[str, ...]:
    """Those of *references* that the engine of *machine* has no image of.

    Raises:
        SshFailed: there is no engine, or it does not answer.
        SshUnreachable: see there.
    """
    names = shlex.join(references)
    look = f"for one in {names}; do docker image inspect $one >/dev/null 2>&1 || echo $one; done"
    return tuple(machine.run(f"docker version >/dev/null && {look}").decode().split())


def down(machine: Machine, folder: str, parts: Sequence[str], project: str) -> tuple[str, ...]:
    """Those of *parts* that do not run well, or perhaps not with the files that are in *folder*.

    Raises:
        SshFailed, SshUnreachable: see there.
    """
    form = '{{.Label "com.docker.compose.service"}} {{.Status}}'
    label = f"label=com.docker.compose.project={project}"
    listing = shlex.join(["docker", "ps", "--filter", label, "--format", form])
    told = machine.run(f"[ ! -e {shlex.quote(folder)}/{_UP} ] || {listing}").decode()
    # "Up 2 hours", where nothing checks its health, or "Up 2 hours (healthy)".
    states = dict(line.split(" ", 1) for line in told.splitlines())
    well = {name for name, state in states.items() if "(" not in state or "(healthy)" in state}
    return tuple(one for one in parts if one not in well)


def check(
    machine: Machine,
    digests: Digests,
    platform: str,
    images: Sequence[str] = compose.IMAGES,
    project: str = running.PROJECT,
) -> tuple[running.Difference, ...]:
    """In what the containers of *machine* are not the *images* that *digests* pins.

    Raises:
        SshFailed, SshUnreachable, RunningError: see there.
    """
    containers = running.read_docker(lambda argv: machine.run(shlex.join(argv)), project)
    return running.compare(containers, digests, platform, images)


def _archive(files: Mapping[str, bytes]) -> bytes:
    """A tar of *files*, with the empty folders that others are mounted on."""
    folders = {f"settings/{one}" for one in compose.MOUNT_POINTS}
    for path in files:
        folders |= {parent.as_posix() for parent in Path(path).parents if parent.name}
    octets = io.BytesIO()
    with tarfile.open(fileobj=octets, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted({parent for one in folders for parent in (one, *_parents(one))}):
            archive.addfile(_member(name, tarfile.DIRTYPE, 0o700))
        for name, data in sorted(files.items()):
            archive.addfile(_member(name, tarfile.REGTYPE, 0o600, len(data)), io.BytesIO(data))
    return octets.getvalue()


def _parents(name: str) -> list[str]:
    return [parent.as_posix() for parent in Path(name).parents if parent.name]


def _member(name: str, kind: bytes, mode: int, size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size = kind, mode, size
    member.uid = member.gid = USER
    return member
