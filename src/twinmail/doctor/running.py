"""Ways to ask which images the servers in production run."""

import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from twinmail.config import Config, Server
from twinmail.deploy import compose, running
from twinmail.deploy.reach import machine
from twinmail.deploy.ssh import Machine
from twinmail.errors import TransientError
from twinmail.oci.digests import Digests
from twinmail.secret_store import SecretStore

SECONDS = 30.0
IN_CLUSTER = ("dovecot", "syncer")


class NotAsked(TransientError):
    """A cluster does not answer."""


def asks(
    config: Config, root: Path, store: SecretStore, deployed: Path
) -> Mapping[str, Callable[[], Sequence[str]]]:
    """By server: asks in what it does not run what the checkout *root* pins, one line each.

    Args:
        deployed: see `twinmail.deploy.reach.pages`.
    """
    found: dict[str, Callable[[], Sequence[str]]] = {}
    for name, server in config.servers.items():
        if server.lightsail:
            found[name] = partial(_by_ssh, config, server, machine(config, server, store, deployed), root)
        elif server.kubernetes:
            found[name] = partial(_in_cluster, server, root)
    return found


def _by_ssh(config: Config, server: Server, place: Machine, root: Path) -> Sequence[str]:
    containers = running.read_docker(lambda argv: place.run(shlex.join(argv)))
    services = compose.parts((root / compose.FILE).read_text("utf-8"), compose.profiles(config, server.name))
    return _lines(containers, root, server, sorted({one.image for one in services if one.stays}))


def _in_cluster(server: Server, root: Path) -> Sequence[str]:
    cluster = server.kubernetes
    assert cluster is not None
    containers = running.read_kubernetes(_kubectl, cluster.context, cluster.namespace)
    return _lines(containers, root, server, IN_CLUSTER)


def _lines(
    containers: Sequence[running.Container], root: Path, server: Server, wanted: Sequence[str]
) -> Sequence[str]:
    digests = Digests.load(root)
    ours = [one for one in containers if one.image in digests.images]
    return [str(one) for one in running.compare(ours, digests, server.platform, wanted)]


def _kubectl(argv: Sequence[str]) -> bytes:
    try:
        done = subprocess.run(argv, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAsked(f"{argv[0]}: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise NotAsked(f"{argv[0]}: {said[-1]}")
    return done.stdout
