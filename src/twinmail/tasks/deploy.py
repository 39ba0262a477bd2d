"""``./inv deploy``: bring production to what the configuration says, part by part."""

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.config import PROJECT

if TYPE_CHECKING:
    from twinmail.config import Config
    from twinmail.tasks.place import Place

SECRETS = PROJECT / ".twinmail" / "secrets"

HELP = {
    "plan": "say what would change, and change nothing",
    "yes": "do not ask before the change",
    "aws": "the cloud in AWS, although a system runs here",
    "config": "another configuration than twinmail.toml",
    "state": "state folder of the running system, as given to ./inv up",
    "json": "print one JSON object",
}


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
    from twinmail.deploy import credentials
    from twinmail.deploy.cloud import Cloud
    from twinmail.secret_store import SecretStore
    from twinmail.tasks import place

    path = place.config_file(config, state)
    loaded = Config.load(path)
    where = place.find(loaded, state, aws)
    system = Cloud.of(loaded, path, where.session)
    found = system.plan(keep=not plan)
    # The local system has its own keys, and keeps them itself.
    store = SecretStore(SECRETS) if where.state is None else None
    needed = credentials.plan(loaded, store) if store else ()
    changes = found.lines(loaded)
    lines = (*changes, *(f"make an access key of {one.user}, kept as {one.secret}" for one in needed))
    if not json_:
        _show(loaded, where, lines)
    if lines and not plan:
        _agree(yes)
        if changes:
            system.apply(found, _say)
        for one in needed:
            assert store is not None
            credentials.make(where.session.client("iam"), one, store)
    if json_:
        print(json.dumps({"place": where.name, "changes": lines, "applied": bool(lines) and not plan}))
    elif lines and not plan:
        print(f"stack {loaded.stack}: deployed")


@command(
    help={
        "plan": HELP["plan"],
        "yes": HELP["yes"],
        "registry": "where the cluster finds the images: HOST[:PORT][/PATH], as given to ./inv push "
        "(default: on its nodes, from ./inv push --over-ssh)",
        "config": HELP["config"],
        "json": HELP["json"],
    }
)
def primary(
    context: Any,
    plan: bool = False,
    yes: bool = False,
    registry: str = "",
    config: str = "",
    json_: bool = False,
) -> None:
    """Deploy the servers that run in a Kubernetes cluster."""
    from twinmail.config import Config
    from twinmail.deploy import primary as kubernetes
    from twinmail.deploy.ssh_push import OVER_SSH
    from twinmail.oci.destination import Destination
    from twinmail.secret_store import SecretStore
    from twinmail.tasks import place

    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise PermanentError("kubectl is not on the PATH; install it, and try it with: kubectl get nodes")
    path = place.config_file(config)
    loaded, store = Config.load(path), SecretStore(SECRETS)
    servers = kubernetes.servers(loaded)
    if not servers:
        raise PermanentError(f"{path.name}: no server has a table kubernetes; nothing to deploy")
    destination = Destination.parse(registry) if registry else OVER_SSH
    done = {}
    for server in servers:
        wanted = kubernetes.request(PROJECT, loaded, path.read_text("utf-8"), server, store, destination)
        cluster = kubernetes.cluster(wanted, Path(kubectl))
        found = kubernetes.plan(wanted, PROJECT, cluster)
        if not json_:
            print(f"{server}, namespace {cluster.namespace}:\n{found or '  everything is as it should be'}")
        if found and not plan:
            _agree(yes)
            kubernetes.apply(wanted, PROJECT, cluster, _say)
        done[server] = {"changes": found, "applied": bool(found) and not plan}
    if json_:
        print(json.dumps(done))


def _show(config: "Config", where: "Place", lines: tuple[str, ...]) -> None:
    print(
        f"{where.name}, stack {config.stack}: " + ("changes:" if lines else "everything is as it should be")
    )
    for line in lines:
        print(f"  {line}")


def _agree(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise PermanentError("there is no terminal to ask at; say --yes to deploy, --plan to look")
    if input("Deploy? [y/N] ").strip().lower() not in ("y", "yes"):
        raise PermanentError("nothing has changed")


def _say(event: str) -> None:
    print(f"  {event}", file=sys.stderr, flush=True)


collection = Collection("deploy", cloud, primary)
