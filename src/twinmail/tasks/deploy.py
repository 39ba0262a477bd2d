"""``./inv deploy``: bring production to what the configuration says, part by part."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.config import PROJECT

if TYPE_CHECKING:
    from twinmail.config import Config
    from twinmail.deploy.backup_part import BackupPart
    from twinmail.deploy.cloud_part import CloudPart
    from twinmail.deploy.cluster_images import Source
    from twinmail.deploy.primary_part import PrimaryPart
    from twinmail.oci.destination import Destination
    from twinmail.oci.push import ImagePush
    from twinmail.tasks.place import Place

ACCOUNT_DIGITS = 12
SECRETS = PROJECT / ".twinmail" / "secrets"

HELP = {
    "plan": "say what would change, and change nothing",
    "yes": "do not ask before the change",
    "aws": "the cloud in AWS, although a system runs here",
    "config": "another configuration than twinmail.toml",
    "state": "state folder of the running system, as given to ./inv up",
    "json": "print one JSON object",
}
_SHARED = {name: HELP[name] for name in ("plan", "yes", "config", "json")}
_IMAGES = {
    "registry": "where images are pushed, and the cluster finds them: HOST[:PORT][/PATH] (default: what "
    "twinmail.toml says)",
    "images-are-there": "do not ask whether the cluster finds the images",
}


@command(name="all", help={**_SHARED, **_IMAGES})
def everything(
    context: Any,
    plan: bool = False,
    yes: bool = False,
    registry: str = "",
    images_are_there: bool = False,
    config: str = "",
    json_: bool = False,
) -> None:
    """Deploy all of production: the cloud in AWS, then the backup, then the primary; stop where one fails."""
    from twinmail.config import Config
    from twinmail.deploy import backup_part, deployment, primary
    from twinmail.deploy.deployment import Part
    from twinmail.tasks import place

    path = place.config_file(config)
    loaded = Config.load(path)
    parts: list[Part] = [_cloud(loaded, path, place.find(loaded, "", True))]
    parts += [_backup(loaded, path, server) for server in backup_part.servers(loaded)]
    parts += [
        _primary(loaded, path, server, registry, images_are_there) for server in primary.servers(loaded)
    ]
    found = []
    for one in deployment.outlook(parts):
        found.append(one)
        if not json_:
            _show(one.part, one.lines, one.blocked)
    applied = any(found) and not plan
    if applied:
        _agree(yes)
        deployment.deploy(parts, _say)
    if json_:
        told = [{"part": one.part, "changes": one.lines, "blocked": one.blocked} for one in found]
        print(json.dumps({"parts": told, "applied": applied}))
    elif applied:
        print("deployed; what is there: ./inv status")


@command(help=HELP)
def cloud(
    context: Any,
    plan: bool = False,
    yes: bool = False,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Deploy what is in AWS: the stack, the function, the receipt rules."""
    from twinmail.config import Config
    from twinmail.tasks import place

    path = place.config_file(config, state)
    loaded = Config.load(path)
    where = place.find(loaded, state, aws)
    part = _cloud(loaded, path, where)
    found = part.plan(keep=not plan)
    lines = found.lines()
    if not json_:
        _show(f"{where.name}, stack {loaded.stack}", lines)
    if lines and not plan:
        _agree(yes)
        part.apply(found, _say)
    if json_:
        print(json.dumps({"place": where.name, "changes": lines, "applied": bool(lines) and not plan}))
    elif lines and not plan:
        print(f"stack {loaded.stack}: deployed")


@command(help=_SHARED)
def backup(
    context: Any, plan: bool = False, yes: bool = False, config: str = "", json_: bool = False
) -> None:
    """Deploy the servers that run on machines of Lightsail; makes the machine too, from nothing."""
    from twinmail.config import Config
    from twinmail.deploy import backup_part
    from twinmail.tasks import place

    path = place.config_file(config)
    loaded = Config.load(path)
    servers = backup_part.servers(loaded)
    if not servers:
        raise PermanentError(f"{path.name}: no server has a table lightsail; nothing to deploy")
    done = {}
    for server in servers:
        part = _backup(loaded, path, server)
        found = part.plan()
        lines = found.lines()
        if not json_:
            _show(f"{server}, machine {found.machine.wanted.name}", lines)
        if lines and not plan:
            _agree(yes)
            part.apply(found, _say)
        done[server] = {"changes": lines, "applied": bool(lines) and not plan}
        if not json_ and lines and not plan:
            print(f"{server}: deployed")
    if json_:
        print(json.dumps(done))


@command(help={**_SHARED, **_IMAGES})
def primary(
    context: Any,
    plan: bool = False,
    yes: bool = False,
    registry: str = "",
    images_are_there: bool = False,
    config: str = "",
    json_: bool = False,
) -> None:
    """Deploy the servers that run in a Kubernetes cluster."""
    from twinmail.config import Config
    from twinmail.deploy import primary as kubernetes
    from twinmail.tasks import place

    path = place.config_file(config)
    loaded = Config.load(path)
    servers = kubernetes.servers(loaded)
    if not servers:
        raise PermanentError(f"{path.name}: no server has a table kubernetes; nothing to deploy")
    done = {}
    for server in servers:
        part = _primary(loaded, path, server, registry, images_are_there)
        found = part.plan()
        lines = found.lines()
        if not json_:
            _show(f"{server}, namespace {found.namespace}", lines)
        if lines and not plan:
            _agree(yes)
            part.apply(found, _say)
        done[server] = {"changes": "\n".join(lines), "applied": bool(lines) and not plan}
    if json_:
        print(json.dumps(done))


@command(
    help={
        "part": "print this policy alone, as IAM takes it",
        "names": "print the names of the parts, one a line",
        "account": "number of the AWS account, in place of *",
        "config": HELP["config"],
    }
)
def policy(context: Any, part: str = "", names: bool = False, account: str = "", config: str = "") -> None:
    """Print the IAM policies of the person or machine that deploys, as one JSON object; see docs/iam.md."""
    from twinmail import deployer
    from twinmail.config import Config
    from twinmail.tasks import place

    if account and not (len(account) == ACCOUNT_DIGITS and account.isascii() and account.isdigit()):
        raise PermanentError(f"--account {account}: expected the {ACCOUNT_DIGITS} digits of an AWS account")
    text = (PROJECT / "lambda" / "deployer.yaml").read_text("utf-8")
    found = deployer.parts(text, Config.load(place.config_file(config)), account or "*")
    if names:
        print("\n".join(one.name for one in found))
    elif part:
        print(json.dumps(deployer.part(found, part).document, indent=2))
    else:
        print(json.dumps({one.name: one.document for one in found}, indent=2))


def _cloud(config: "Config", path: Path, where: "Place") -> "CloudPart":
    from twinmail.deploy.cloud import Cloud
    from twinmail.deploy.cloud_part import CloudPart
    from twinmail.secret_store import SecretStore

    # The local system has its own keys, and keeps them itself.
    store = SecretStore(SECRETS) if where.state is None else None
    return CloudPart(config, Cloud.of(config, path, where.session), where.session, store)


def _backup(config: "Config", path: Path, server: str) -> "BackupPart":
    from twinmail.deploy.backup_part import BackupPart
    from twinmail.deploy.primary import FOLDER
    from twinmail.deploy.rented_machine import RentedMachine
    from twinmail.oci.digests import Digests
    from twinmail.secret_store import SecretStore
    from twinmail.tasks import place
    from twinmail.tasks.progress import Display

    # Lightsail is in AWS alone, whatever runs here.
    client = place.find(config, "", True).session.client("lightsail")
    store = SecretStore(SECRETS)
    return BackupPart(
        root=PROJECT,
        config=config,
        text=path.read_text("utf-8"),
        server=server,
        store=store,
        rented=RentedMachine(config, server, client, store, PROJECT / FOLDER / server),
        digests=Digests.load(PROJECT),
        build=lambda: _images(config.servers[server].platform),
        progress=Display("sending"),
    )


def _primary(
    config: "Config", path: Path, server: str, registry: str, images_are_there: bool
) -> "PrimaryPart":
    from twinmail.deploy import pins
    from twinmail.deploy.primary_part import PrimaryPart
    from twinmail.secret_store import SecretStore
    from twinmail.tasks.push import pinned_images

    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise PermanentError("kubectl is not on the PATH; install it, and try it with: kubectl get nodes")
    destination, source = _source(config, server, Path(kubectl), registry, images_are_there)
    return PrimaryPart(
        root=PROJECT,
        config=config,
        text=path.read_text("utf-8"),
        server=server,
        store=SecretStore(SECRETS),
        kubectl=Path(kubectl),
        destination=destination,
        source=source,
        build=lambda: pinned_images(pins.IMAGES, config.servers[server].platform, False),
    )


def _source(
    config: "Config", server: str, kubectl: Path, registry: str, images_are_there: bool
) -> "tuple[Destination, Source]":
    """What the cluster of *server* calls its images by, and where it finds them."""
    from twinmail.deploy import cluster_images, primary
    from twinmail.deploy.cluster import Cluster
    from twinmail.deploy.ssh_push import OVER_SSH
    from twinmail.oci.destination import Destination
    from twinmail.production import Kubernetes
    from twinmail.tasks.progress import Display
    from twinmail.tasks.push import opened, to_registry

    where = config.servers[server].kubernetes or Kubernetes()
    name = registry or where.registry
    destination = Destination.parse(name) if name else OVER_SSH
    if images_are_there:
        return destination, cluster_images.Unknown(frozenset, trusted=True)
    if name:
        return destination, cluster_images.InRegistry(
            opened(destination), lambda images: to_registry(list(images), destination)
        )
    if where.nodes:
        platform = config.servers[server].platform
        return destination, cluster_images.OnNodes(where.nodes, platform, Display("sending"))
    place = Cluster(kubectl, where.context, where.namespace)
    return destination, cluster_images.Unknown(lambda: cluster_images.in_pods(place, primary.SELECTOR))


def _images(platform: str) -> "list[ImagePush]":
    from twinmail.deploy import compose
    from twinmail.tasks.push import pinned_images

    return pinned_images(compose.IMAGES, platform, False)


def _show(name: str, lines: Sequence[str], blocked: str = "") -> None:
    print(f"{name}: " + ("changes:" if lines or blocked else "everything is as it should be"))
    for line in lines:
        print(f"  {line}")
    for line in blocked.splitlines():
        print(f"  more is seen later: {line}")


def _agree(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise PermanentError("there is no terminal to ask at; say --yes to deploy, --plan to look")
    if input("Deploy? [y/N] ").strip().lower() not in ("y", "yes"):
        raise PermanentError("nothing has changed")


def _say(event: str) -> None:
    # On a terminal, the line of a transfer may stand there.
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{clear}  {event}", file=sys.stderr, flush=True)


collection = Collection("deploy", cloud, backup, primary, policy)
collection.add_task(everything, default=True)
