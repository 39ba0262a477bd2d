"""``./inv push``: bring the images to where they run, by digest."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinmail.tasks.command import command
from twinmail.tasks.config import PROJECT

if TYPE_CHECKING:
    from twinmail.deploy.ssh_push import SshPush
    from twinmail.oci.destination import Destination
    from twinmail.oci.push import ImagePush, PushReport
    from twinmail.oci.registry import Registry


@command(
    help={
        "image": "only this image; may be given several times (default: all that servers run)",
        "registry": "push to this registry: HOST[:PORT][/PATH]; logged in as `docker login` did",
        "over-ssh": "bring them to the engine of this host, USER@HOST; may be given several times",
        "engine": "docker or k3s, with --over-ssh (default: what the host has)",
        "platform": "linux/amd64 or linux/arm64 alone (default: both)",
        "unpinned": "also push images that are not those in images/digests.json",
        "json": "print one JSON object with every digest, and how much was sent",
    },
    iterable=["image", "over_ssh"],
)
def push(
    context: Any,
    image: list[str],
    registry: str = "",
    over_ssh: list[str] | None = None,
    engine: str = "",
    platform: str = "",
    unpinned: bool = False,
    json_: bool = False,
) -> None:
    """Bring the images to a registry, or to engines over SSH; what is there is not sent again."""
    from twinmail.errors import PermanentError

    if bool(registry) == bool(over_ssh):
        raise PermanentError("where to? give --registry HOST/PATH or --over-ssh USER@HOST, one of the two")
    if engine and not over_ssh:
        raise PermanentError("--engine: a registry has none; it goes with --over-ssh")
    from twinmail.deploy.ssh_push import check_host
    from twinmail.oci.destination import Destination

    # What is wrong with the command line is said before anything is built.
    destination = Destination.parse(registry) if registry else None
    for host in over_ssh or ():
        check_host(host)
    images = pinned_images(image, platform, unpinned)
    if destination:
        report = to_registry(images, destination)
        print(json.dumps(report.to_json()) if json_ else _registry_text(report))
    else:
        done = [over(host, images, engine) for host in over_ssh or ()]
        print(json.dumps({"hosts": [vars(one) for one in done]}) if json_ else _ssh_text(done))


def pinned_images(names: Sequence[str], platform: str, unpinned: bool) -> "list[ImagePush]":
    """Build the images *names* (all that servers run without any); they must be the pinned ones.

    Raises:
        PermanentError: they are not, and *unpinned* does not allow it.
    """
    from twinmail.errors import PermanentError
    from twinmail.oci.digests import Digests
    from twinmail.oci.push import plan
    from twinmail.oci.spec import PLATFORMS, load_all
    from twinmail.tasks.build import images

    wanted = list(names) or served_by_servers(load_all(PROJECT))
    report = images(wanted, (platform,) if platform else PLATFORMS, True)
    if not unpinned and (problems := Digests.load(PROJECT).differences(report)):
        raise PermanentError("\n".join([*problems, "or push them all the same with --unpinned"]))
    return [plan(name, report.layouts[name]) for name in wanted]


def served_by_servers(specs: Mapping[str, Any]) -> list[str]:
    """The images that mail servers run: all but bases, the shell for tests, and the emulator."""
    from twinmail.oci.spec import DEBUG

    bases = {spec.base for spec in specs.values()}
    folder = PROJECT / "images"
    return sorted(
        name
        for name, spec in specs.items()
        if name != DEBUG and name not in bases and spec.folder.parent == folder
    )


def to_registry(
    images: "list[ImagePush]", destination: Any, state: Path = PROJECT / ".twinmail" / "push"
) -> "PushReport":
    """Push *images*, showing progress on standard error; the folder *state* remembers what was begun."""
    from twinmail.oci.push import push as push_images
    from twinmail.oci.upload_sessions import open_sessions
    from twinmail.tasks.interruption import Patience
    from twinmail.tasks.progress import Display

    registry = opened(destination)
    try:
        with (
            open_sessions(state) as sessions,
            Display("sending") as progress,
            Patience() as patience,
        ):
            return push_images(images, registry, sessions, progress, patience.pause)
    finally:
        registry.close()


def opened(destination: "Destination") -> "Registry":
    """The registry of *destination*, for who logged in there as ``docker login`` does."""
    from twinmail.config import Environment
    from twinmail.oci import docker_credentials
    from twinmail.oci.registry import Registry

    file = Environment.read().home / ".docker" / "config.json"
    return Registry(destination, docker_credentials.load(file, destination.host))


def over(host: str, images: "list[ImagePush]", engine: str, ssh: Sequence[str] = ("ssh",)) -> "SshPush":
    """Bring *images* to the engine of *host*, showing progress on standard error."""
    from twinmail.deploy.ssh_push import push as push_over
    from twinmail.tasks.progress import Display

    with Display("sending") as progress:
        return push_over(host, images, progress, _step(host), engine, ssh)


def _step(host: str) -> Callable[[str], None]:
    return lambda reference: print(f"{host}: {reference}", file=sys.stderr, flush=True)


def _registry_text(report: "PushReport") -> str:
    lines = [
        f"{one['repository']}@{digest}  {platform}"
        for one in report.images.values()
        for platform, digest in sorted(one["platforms"].items())
    ]
    resumed = f", after {report.resumed / 1e6:.1f} MB of an earlier push" if report.resumed else ""
    lines.append(
        f"sent {report.uploaded} blobs ({report.octets / 1e6:.1f} MB{resumed}) and {report.manifests} "
        f"manifests; {report.mounted} mounted, {report.present} were there"
    )
    return "\n".join(lines)


def _ssh_text(done: "Sequence[SshPush]") -> str:
    lines = []
    for one in done:
        lines += [f"{reference}  {one.platform}" for reference in one.references]
        lines.append(f"{one.host} ({one.engine}): sent {one.layers} blobs ({one.octets / 1e6:.1f} MB)")
    return "\n".join(lines)
