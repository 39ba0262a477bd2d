"""A server in a Kubernetes cluster: what would change, and the change, up to the proof that it runs.

The Kustomization comes from `twinmail.deploy.kustomization`. Everything is idempotent: done twice, the second
time changes nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinmail.certificate.place import CERTIFICATE, KEY
from twinmail.config import Config
from twinmail.deploy import kustomization, pins, running, server_files
from twinmail.deploy.cluster import Cluster, ClusterError, ClusterUnavailable
from twinmail.deploy.kustomization import CERT_MANAGER, NAME, TUNNEL, Request, Tls
from twinmail.deploy.ssh_push import OVER_SSH
from twinmail.oci.destination import Destination
from twinmail.oci.digests import Digests
from twinmail.production import Kubernetes
from twinmail.secret_store import SecretStore

FOLDER = Path(".twinmail") / "deploy"
"""Of the private Kustomizations, from the top of the checkout; one folder a server."""

SELECTOR = f"app.kubernetes.io/name={NAME}"
"""Of everything that belongs to a server."""

# The pod needs as long as Dovecot and the syncer take to start, and their images to arrive.
_ROLLOUT_SECONDS = 600
_REMEDIES = {
    "ErrImagePull": "bring the images there: ./inv push --over-ssh USER@NODE, or --registry",
    "ImagePullBackOff": "bring the images there: ./inv push --over-ssh USER@NODE, or --registry",
    "CreateContainerConfigError": "a ConfigMap or Secret is missing; deploy again",
    "Unschedulable": "no node has room for it, or none is of its platform; see kubectl describe pods",
}


@dataclass(frozen=True)
class Deployment:
    """What a deployment did.

    Attributes:
        objects: everything it consists of (``deployment.apps/twinmail``).
        removed: ConfigMaps and Secrets of earlier ones.
        containers: what runs now.
    """

    objects: tuple[str, ...]
    removed: tuple[str, ...]
    containers: tuple[running.Container, ...]


def servers(config: Config) -> tuple[str, ...]:
    """The servers that run in a cluster."""
    return tuple(name for name, one in config.servers.items() if one.kubernetes is not None)


def request(
    root: Path,
    config: Config,
    text: str,
    server: str,
    store: SecretStore,
    destination: Destination = OVER_SSH,
) -> Request:
    """What *server* is to be, with the secrets of *store* and the images that are pinned; none is made.

    Args:
        root: the checkout.
        text: of ``twinmail.toml``, from which *config* was read.
        destination: where the cluster finds the images.

    Raises:
        NoSecrets, SecretStoreError: secrets are missing, or others can read them.
        PermanentError: images are not pinned for the server's platform.
    """
    one = config.servers[server]
    where = one.kubernetes or Kubernetes()
    managed = CERT_MANAGER in where.components
    manifests = pins.pinned(Digests.load(root), one.platform)
    return Request(
        config=config,
        text=text,
        server=server,
        secrets=server_files.read_secrets(store, config, server),
        images=pins.pins(manifests, destination),
        tls=None if managed else _tls(store, server),
        dns=(store.get(f"certificate/{server}/credentials") or b"") if managed else b"",
        tunnel=(store.get(f"cloudflare/{server}") or b"") if TUNNEL in where.components else b"",
    )


def cluster(wanted: Request, kubectl: Path) -> Cluster:
    """The cluster of the server."""
    return Cluster(kubectl, wanted.kubernetes.context, wanted.kubernetes.namespace)


def plan(wanted: Request, root: Path, place: Cluster) -> str:
    """What would change in the cluster, as a diff without secrets; empty if nothing would.

    Raises:
        NotForKubernetes, ClusterError, ClusterUnavailable: see there.
    """
    folder = kustomization.write(wanted, root, root / FOLDER / wanted.server)
    if not place.run("get", "namespace", place.namespace, "--ignore-not-found", "--output=name").stdout:
        # No object of a namespace that is not there can be compared: all of them are new.
        done = place.run("create", "--dry-run=client", "--output=name", f"--kustomize={folder}")
        return "".join(f"new: {line}\n" for line in done.stdout.splitlines())
    # 1 says that there are differences; kubectl hides what is in Secrets.
    return place.run("diff", "--server-side", *_OWNER, f"--kustomize={folder}", ok=(0, 1)).stdout


def apply(
    wanted: Request,
    root: Path,
    place: Cluster,
    step: Callable[[str], None] = lambda text: None,
    seconds: int = _ROLLOUT_SECONDS,
) -> Deployment:
    """Make the cluster run *wanted*; return when it does.

    Args:
        step: told what is being done.
        seconds: how long the pod may take to be ready.

    Raises:
        NotForKubernetes: see `kustomization.plan`.
        ClusterUnavailable: transient; the same again goes on.
        ClusterError: the cluster refuses, the pod does not start, or other images run than those asked for.
    """
    folder = kustomization.write(wanted, root, root / FOLDER / wanted.server)
    step(f"applying to namespace {place.namespace}")
    # On the server's side: the client's way keeps a copy of every Secret in an annotation.
    done = place.run("apply", "--server-side", *_OWNER, "--output=name", f"--kustomize={folder}")
    objects = tuple(done.stdout.split())
    step("waiting for the pod")
    _roll_out(place, seconds)
    step("comparing what runs with what is pinned")
    containers = running.pod_containers(place.json("get", "pods", f"--selector={SELECTOR}"))
    _check(containers, wanted)
    return Deployment(objects, tuple(_remove_stale(place, objects)), containers)


_OWNER = ("--field-manager=twinmail", "--force-conflicts")


def _tls(store: SecretStore, server: str) -> Tls | None:
    chain, key = store.get(f"tls/{server}/{CERTIFICATE}"), store.get(f"tls/{server}/{KEY}")
    return Tls(chain, key) if chain and key else None


def _roll_out(place: Cluster, seconds: int) -> None:
    try:
        place.run("rollout", "status", f"deployment/{NAME}", f"--timeout={seconds}s")
    except ClusterUnavailable:
        raise
    except ClusterError as error:
        pods = place.json("get", "pods", f"--selector={SELECTOR}") or {"items": []}
        lines = [line for pod in pods["items"] for line in _troubles(pod)]
        logs = f"kubectl --namespace {place.namespace} logs deployment/{NAME} --all-containers"
        told = "\n".join(f"  {line}" for line in lines) or f"  {error}"
        raise ClusterError(f"the pod is not ready after {seconds} s:\n{told}\nsee {logs}") from error


def _troubles(pod: Mapping[str, Any]) -> Iterator[str]:
    """Why *pod* is not ready, a line for each container that is not, with the remedy where there is one."""
    status = pod.get("status", {})
    for one in status.get("conditions") or ():
        if one["type"] == "PodScheduled" and one["status"] == "False":
            yield _line("pod", one.get("reason", ""), one.get("message", ""))
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state = one.get("state") or {}
        if found := state.get("waiting") or state.get("terminated"):
            if found.get("reason") not in ("PodInitializing", "Completed"):
                yield _line(one["name"], found.get("reason", ""), found.get("message", ""))
        elif not one.get("ready"):
            yield _line(one["name"], "Running", "but its probe fails")


def _line(name: str, reason: str, message: str) -> str:
    text = f"{name}: {reason}" + (f": {message}" if message else "")
    return f"{text}; {_REMEDIES[reason]}" if reason in _REMEDIES else text


def _check(containers: Sequence[running.Container], wanted: Request) -> None:
    expected = {one.name.rpartition("/")[2]: one.digest for one in wanted.images}
    problems = []
    for one in containers:
        if one.image in expected and expected[one.image] not in one.digests:
            problems.append(
                f"{one.name}: expected {expected[one.image]}, got {', '.join(sorted(one.digests))}"
            )
    missing = sorted(set(expected) - {one.image for one in containers})
    problems += [f"{image}: nothing runs it; expected {expected[image]}" for image in missing]
    if problems:
        lines = "\n".join(f"  {one}" for one in problems)
        raise ClusterError(
            f"other images run than those that were asked for:\n{lines}\n"
            f"does something in the cluster rewrite images? kubectl describe pods -l {SELECTOR}"
        )


def _remove_stale(place: Cluster, objects: Sequence[str]) -> Iterator[str]:
    """Remove the ConfigMaps and Secrets of earlier deployments: nobody reads them any more."""
    found = place.run("get", "configmap,secret", f"--selector={SELECTOR}", "--output=name").stdout.split()
    for name in sorted(set(found) - set(objects)):
        place.run("delete", name, "--ignore-not-found", "--wait=false")
        yield name
