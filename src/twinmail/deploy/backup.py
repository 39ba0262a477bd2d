"""A server by Compose on a machine behind SSH: what would change there, and the change.

Only files that differ are sent, each takes the place of its predecessor at once, and Compose makes those
containers anew whose image or settings changed. On a new machine that is everything, and the syncer brings
the mail from S3.
"""

import hashlib
import io
import json
import shlex
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinmail.deploy import compose, running
from twinmail.deploy.running import Container, RunningError
from twinmail.deploy.server_files import ServerFile
from twinmail.deploy.ssh import Machine

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

_SEPARATOR = "-- twinmail --"
_LOOK = """\
set -eu
docker version >/dev/null
for one in {references}; do docker image inspect $one >/dev/null 2>&1 || echo $one; done
echo '{separator}'
# A machine that is new has no such folder.
[ ! -d {folder} ] || (cd {folder} && find . -type f -exec sha256sum {{}} +)
echo '{separator}'
form='{{{{.Label "com.docker.compose.service"}}}} {{{{.Status}}}}'
[ ! -e {folder}/{up} ] || docker ps --filter {label} --format "$form"
echo '{separator}'
ids=$(docker ps --quiet --no-trunc --filter {label})
[ -z "$ids" ] || docker container inspect $ids
echo '{separator}'
[ -z "$ids" ] || docker image inspect $(docker container inspect --format '{{{{.Image}}}}' $ids | sort -u)
"""


@dataclass(frozen=True)
class Seen:
    """What a machine has.

    Attributes:
        lacking: references of images that it has not.
        files: digests by path.
        states: of containers, by service: of all that are known to be of these files.
        containers: all that run.
    """

    lacking: tuple[str, ...]
    files: Mapping[str, str]
    states: Mapping[str, str]
    containers: tuple[Container, ...]


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


def look(machine: Machine, references: Sequence[str], folder: str, project: str) -> Seen:
    """What *machine* has; nothing is changed.

    Args:
        references: images, as the engine would call them.
        folder: of the server.
        project: what Compose calls all of it.

    Raises:
        SshFailed: there is no engine, or it does not answer.
        SshUnreachable, RunningError: see there.
    """
    script = _LOOK.format(
        folder=shlex.quote(folder),
        up=_UP,
        label=shlex.quote(f"label=com.docker.compose.project={project}"),
        references=shlex.join(references),
        separator=_SEPARATOR,
    )
    # One connection: each is a second on a machine that is far away.
    lacking, files, states, containers, images = machine.run(script).decode().split(f"{_SEPARATOR}\n")
    return Seen(
        lacking=tuple(lacking.split()),
        files={path: digest for digest, _, path in (line.partition("  ./") for line in files.splitlines())},
        states=dict(line.split(" ", 1) for line in states.splitlines()),
        containers=running.docker_containers(_documents(containers), _documents(images)),
    )


def difference(there: Mapping[str, str], wanted: Mapping[str, bytes]) -> Difference:
    """How the files *there*, digests by path, differ from *wanted*."""
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


def down(states: Mapping[str, str], parts: Sequence[str]) -> tuple[str, ...]:
    """Those of *parts* that do not run well, by what the engine says of each."""
    # "Up 2 hours", where nothing checks its health, or "Up 2 hours (healthy)".
    well = {name for name, state in states.items() if "(" not in state or "(healthy)" in state}
    return tuple(one for one in parts if one not in well)


def _documents(text: str) -> Any:
    try:
        return json.loads(text or "[]")
    except ValueError as error:
        raise RunningError(f"docker inspect: expected JSON, got {text[:80]!r}; is it Docker?") from error


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
