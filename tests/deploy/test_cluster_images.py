"""A cluster gets its images before anything is applied: by a real registry, or real SSH into a real engine."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import docker
import pytest

from tests.deploy import layered_image
from tests.deploy.api_server import ApiServer, serve
from tests.deploy.built_images import Silent
from tests.deploy.registry_process import run_registry
from tests.deploy.ssh_host import SshHost, run_host
from tests.deploy.test_kustomize import SECRETS, TEXT
from twinmail.config import Config
from twinmail.deploy import cluster_images, pins, primary
from twinmail.deploy.cluster import Cluster
from twinmail.deploy.cluster_images import ImagesMissing, InRegistry, OnNodes, Source, Unknown
from twinmail.deploy.primary_part import PrimaryPart
from twinmail.deploy.ssh_push import OVER_SSH
from twinmail.oci.bytecode import host_platform
from twinmail.oci.destination import Destination
from twinmail.oci.digests import FILE, Digests
from twinmail.oci.push import ImagePush, push
from twinmail.oci.registry import Registry
from twinmail.oci.upload_sessions import open_sessions
from twinmail.production import Kubernetes
from twinmail.secret_store import SecretStore

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ("dovecot", "syncer")


@dataclass
class World:
    """A cluster, a checkout that pins images which no engine has seen, and what `build` found applied."""

    server: ApiServer
    part: PrimaryPart
    images: list[ImagePush]
    applied: list[int]

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.part.kubectl, "tests", "twinmail")

    def on(self, source: Source, destination: Destination = OVER_SSH) -> PrimaryPart:
        return replace(self.part, source=source, destination=destination)

    def unknown(self) -> PrimaryPart:
        return self.on(Unknown(lambda: cluster_images.in_pods(self.cluster, primary.SELECTOR)))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    with run_host(tmp_path_factory.mktemp("host") / "ssh") as found:
        yield found


@pytest.fixture
def world(tool: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    root = tmp_path / "checkout"
    (root / FILE).parent.mkdir(parents=True)
    (root / "k8s").symlink_to(ROOT / "k8s")
    images = [layered_image.build(tmp_path, name, {f"{name} {tmp_path}": 3000}) for name in IMAGES]
    platform = host_platform()
    pinned = {
        one.name: {platform: {"manifest": one.manifests[platform].digest, "diff_ids": []}} for one in images
    }
    Digests(pinned).save(root)
    config = Config.parse(TEXT)
    where = Kubernetes(context="tests", storage_gb=1)
    one = replace(config.servers["primary"], platform=platform, kubernetes=where)
    config = replace(config, servers={"primary": one})
    store = SecretStore(tmp_path / "secrets")
    store.put("syncer/primary/credentials", SECRETS.syncer)
    for name in ("cert.pem", "key.pem"):
        store.put(f"tls/primary/{name}", b"PEM")
    with serve(tmp_path) as (server, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        applied: list[int] = []

        def build() -> Sequence[ImagePush]:
            applied.append(len(server.objects))
            return images

        kubectl, nothing = tool("kubectl"), Unknown(frozenset)
        part = PrimaryPart(root, config, TEXT, "primary", store, kubectl, OVER_SSH, nothing, build)
        yield World(server, part, images, applied)
    client = docker.from_env()
    for name, manifest in pins.pinned(Digests(pinned), platform).items():
        if client.images.list(filters={"reference": OVER_SSH.reference(name, manifest)}):
            client.images.remove(OVER_SSH.reference(name, manifest))


@pytest.fixture(params=["nodes", "registry"])
def part(
    request: pytest.FixtureRequest, world: World, host: SshHost, tool: Callable[[str], Path], tmp_path: Path
) -> Iterator[PrimaryPart]:
    """The server, in a cluster that gets images in one way."""
    if request.param == "nodes":
        yield world.on(OnNodes((host.name,), host_platform(), Silent(), host.ssh))
        return
    with run_registry(tool("docker-registry"), tmp_path / "registry") as process:
        destination = Destination.parse(f"{process.host}/ann/twinmail")
        registry = Registry(destination)

        def send(images: Sequence[ImagePush]) -> None:
            with open_sessions(tmp_path / "sessions") as sessions:
                push(list(images), registry, sessions, Silent())

        yield world.on(InRegistry(registry, send), destination)
        registry.close()


def test_images_come_before_anything_is_applied_and_once(world: World, part: PrimaryPart) -> None:
    lines = part.plan().lines()
    assert [line.rpartition(" to ")[0].split(" ", 1)[1] for line in lines[:2]] == [
        "image dovecot",
        "image syncer",
    ]
    assert "new: deployment.apps/twinmail" in lines
    assert world.applied == []
    said: list[str] = []
    part.apply(part.plan(), said.append)
    assert world.applied == [0]
    assert "images to" in said[0]
    assert said.index("applying to namespace twinmail") > 0
    assert part.plan().lines() == ()
    wrote = world.server.wrote
    part.apply(part.plan(), said.append)
    assert (world.applied, world.server.wrote) == ([0], wrote)


def test_nothing_is_applied_while_the_images_are_not_there(
    world: World, part: PrimaryPart, tmp_path: Path
) -> None:
    other = layered_image.build(tmp_path / "other", "dovecot", {f"other {tmp_path}": 3000})
    broken = replace(part, build=lambda: [other])
    with pytest.raises(ImagesMissing) as caught:
        broken.apply(broken.plan(), lambda text: None)
    first, *where, remedy = str(caught.value).splitlines()
    assert first == "the new pod would wait for images after the old one has ended; nothing was applied:"
    assert [line.split(": ")[1] for line in where] == [f"{name} is not known there" for name in IMAGES]
    over_ssh = isinstance(part.source, OnNodes)
    assert remedy == (
        "./inv push --over-ssh tested" if over_ssh else f"./inv push --registry {part.destination}"
    )
    assert world.server.objects == {}


def test_where_nothing_says_how_images_come_it_goes_on_only_if_told(world: World) -> None:
    part = world.unknown()
    digest = world.images[0].manifests[host_platform()].digest
    assert part.plan().lines()[0] == f"image dovecot: not known whether the cluster has {digest}"
    with pytest.raises(
        ImagesMissing, match=r"(?s)nothing was applied.*nodes or registry.*--images-are-there"
    ):
        part.apply(part.plan(), lambda text: None)
    assert world.server.objects == {}
    told = world.on(Unknown(frozenset, trusted=True))
    told.apply(told.plan(), lambda text: None)
    # What runs is there, so nobody need say it again.
    assert part.plan().lines() == ()
    part.apply(part.plan(), lambda text: None)
