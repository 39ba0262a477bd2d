"""A deployment by the real kubectl, against as much of an API server as it needs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.deploy.api_server import ApiServer, serve
from tests.deploy.test_kustomize import SECRETS, TEXT, request
from tests.e2e.runbook import assert_shown
from twinmail.deploy import kustomization, primary
from twinmail.deploy.cluster import Cluster, ClusterError, ClusterUnavailable
from twinmail.deploy.cluster_images import Unknown
from twinmail.deploy.kustomization import Request
from twinmail.deploy.primary_part import PrimaryPart
from twinmail.deploy.ssh_push import OVER_SSH
from twinmail.production import Kubernetes
from twinmail.secret_store import SecretStore

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class World:
    """A cluster, kubectl on its way there, and a checkout of nothing but what is deployed."""

    server: ApiServer
    cluster: Cluster
    root: Path

    def plan(self, wanted: Request) -> str:
        return primary.plan(wanted, self.root, self.cluster)

    def apply(self, wanted: Request) -> primary.Deployment:
        return primary.apply(wanted, self.root, self.cluster, seconds=2)


@pytest.fixture
def world(tool: Callable[[str], Path], tmp_path: Path) -> Iterator[World]:
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "k8s").symlink_to(ROOT / "k8s")
    with serve(tmp_path) as (server, kubeconfig):
        yield World(server, Cluster(tool("kubectl"), "tests", "twinmail", kubeconfig), root)


def test_the_first_plan_names_all_that_is_new_and_changes_nothing(world: World) -> None:
    found = world.plan(request())
    assert "new: deployment.apps/twinmail\n" in found
    assert "new: namespace/twinmail\n" in found
    assert world.server.objects == {}


def test_a_second_time_changes_nothing(world: World) -> None:
    done = world.apply(request())
    assert "deployment.apps/twinmail" in done.objects
    assert {one.image for one in done.containers} == {"dovecot", "syncer"}
    wrote = world.server.wrote
    assert wrote > 0
    assert world.plan(request()) == ""
    again = world.apply(request())
    assert (world.server.wrote, again.removed) == (wrote, ())


def test_a_change_is_shown_without_secrets_and_the_old_secret_goes(world: World) -> None:
    world.apply(request())
    before = world.server.names("secrets")
    changed = request(secrets=replace(SECRETS, syncer=b"[default]\naws_access_key_id = another\n"))
    diff = world.plan(changed)
    assert "twinmail-syncer-" in diff
    assert "another" not in diff
    assert "W2RlZmF1bHRd" not in diff  # the same in base64
    assert world.server.names("secrets") == before
    done = world.apply(changed)
    (gone,) = done.removed
    assert gone.startswith("secret/twinmail-syncer-")
    assert len(world.server.names("secrets")) == len(before)


def test_an_image_that_is_not_there_is_said_with_the_remedy(world: World) -> None:
    world.server.waiting = "ImagePullBackOff"
    with pytest.raises(ClusterError) as caught:
        world.apply(request())
    text = str(caught.value)
    assert text.startswith("the pod is not ready after 2 s:\n")
    assert "  dovecot: ImagePullBackOff: no such image; bring the images there: ./inv push --over-ssh" in text


def test_another_image_than_the_pinned_one_is_noticed(world: World) -> None:
    world.server.other = "sha256:" + "0" * 64
    with pytest.raises(ClusterError, match=r"twinmail-0/dovecot: expected sha256:[0-9a-f]{64}, got sha256:"):
        world.apply(request())


def test_a_cluster_out_of_reach_is_transient(world: World, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    text = kubeconfig.read_text()
    start = text.index("127.0.0.1:")
    kubeconfig.write_text(f"{text[:start]}127.0.0.1:1\n{text[text.index(chr(10), start) + 1 :]}")
    with pytest.raises(ClusterUnavailable, match="is it on, and is this machine in its network"):
        world.plan(request())


def test_an_unknown_context_is_said_with_the_remedy(world: World) -> None:
    with pytest.raises(ClusterError, match="kubectl config get-contexts"):
        primary.plan(request(), world.root, replace(world.cluster, context="other"))


def test_the_folder_is_in_the_private_state(world: World) -> None:
    world.plan(request())
    folder = world.root / primary.FOLDER / "primary"
    assert (folder / "kustomization.yaml").is_file()
    assert kustomization.KUSTOMIZE.parts == ("k8s", "kustomize")


def test_a_plan_makes_no_secret_and_a_run_makes_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.root / "images").symlink_to(ROOT / "images")
    monkeypatch.setenv("KUBECONFIG", str(world.cluster.kubeconfig))
    server = request(submission=True).config.servers["primary"]
    where = replace(server.kubernetes or Kubernetes(), context="tests", components=())
    config = replace(request().config, servers={"primary": replace(server, kubernetes=where)})
    store = SecretStore(tmp_path / "secrets")
    store.put("syncer/primary/credentials", SECRETS.syncer)
    store.put("relay/primary/credentials", SECRETS.relay_credentials)
    for name in ("cert.pem", "key.pem"):
        store.put(f"tls/primary/{name}", b"PEM")
    before = list(store.names())
    kubectl, there = world.cluster.kubectl, Unknown(frozenset, trusted=True)
    part = PrimaryPart(world.root, config, TEXT, "primary", store, kubectl, OVER_SSH, there, list)
    lines = part.plan().lines()
    assert lines[0] == "make the secret relay/primary/password"
    assert "new: deployment.apps/twinmail" in lines
    assert (list(store.names()), world.server.objects) == (before, {})
    assert_shown("first-day.md", "./inv deploy primary --plan", lines)
    said: list[str] = []
    part.apply(part.plan(), said.append)
    assert_shown("first-day.md", "./inv deploy primary", said)
    assert store.get("relay/primary/password")
    assert part.plan().lines() == ()
