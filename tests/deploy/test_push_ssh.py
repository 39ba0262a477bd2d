"""Images over a real SSH connection into real engines: Docker's, and the containerd that k3s brings."""

import dataclasses
import json
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest

from tests.deploy import layered_image
from tests.deploy.ssh_host import SshHost, run_host
from twinmail.deploy.running import compare, read_docker
from twinmail.deploy.ssh_push import OVER_SSH, SshPush, SshPushError, SshUnavailable, lacking, push
from twinmail.oci.bytecode import host_platform
from twinmail.oci.digests import Digests
from twinmail.oci.push import ImagePush, plan

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0


class Silent:
    """Is told of everything and says nothing."""

    def start(self, files: int, octets: int) -> None:
        """See `twinmail.oci.push.Progress`."""

    def advance(self, name: str, octets: int) -> None:
        """See `twinmail.oci.push.Progress`."""


def over(host: SshHost, images: list[ImagePush], engine: str = "") -> SshPush:
    return push(host.name, images, Silent(), lambda text: None, engine, host.ssh)


def references(images: list[ImagePush]) -> tuple[str, ...]:
    return tuple(OVER_SSH.reference(one.name, one.manifests[host_platform()].digest) for one in images)


def programs(folder: Path, *names: str) -> str:
    """A search path with the shell's tools and of the engines only *names*."""
    folder.mkdir()
    for name in ("uname", "id", "sh", "sudo", *names):
        if program := shutil.which(name):
            (folder / name).symlink_to(program)
    return str(folder)


@pytest.fixture(scope="module")
def docker_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    folder = tmp_path_factory.mktemp("docker-host")
    with run_host(folder / "ssh", programs(folder / "bin", "docker")) as host:
        yield host


@pytest.fixture
def images(tmp_path: Path) -> Iterator[list[ImagePush]]:
    """Two images that share a layer, which no engine has seen; what came to Docker is removed."""
    seed = str(tmp_path)
    made = [
        layered_image.build(tmp_path, "one", {f"shared {seed}": 2_000_000, f"one {seed}": 3000}),
        layered_image.build(tmp_path, "two", {f"shared {seed}": 2_000_000, f"two {seed}": 4000}),
    ]
    yield made
    client = docker.from_env()
    for reference in references(made):
        if client.images.list(filters={"reference": reference}):
            client.images.remove(reference)


def test_docker_has_the_pinned_digests(docker_host: SshHost, images: list[ImagePush]) -> None:
    report = over(docker_host, images)
    assert (report.engine, report.platform) == ("docker", host_platform())
    assert report.references == references(images)
    client = docker.from_env()
    for reference in report.references:
        assert reference in client.images.get(reference).attrs["RepoDigests"]


def test_docker_gets_missing_layers_only(docker_host: SshHost, images: list[ImagePush]) -> None:
    first = over(docker_host, images[:1])
    assert first.layers == 3  # config and two layers
    second = over(docker_host, images)
    assert second.layers == 2  # the other's config and own layer
    assert second.octets < 10_000 < 2_000_000 < first.octets
    third = over(docker_host, images)
    assert (third.layers, third.octets) == (0, 0)


def test_docker_forgets_what_an_earlier_push_brought_and_nothing_runs(
    docker_host: SshHost, images: list[ImagePush]
) -> None:
    over(docker_host, images)
    over(docker_host, images[1:])
    client = docker.from_env()
    first, second = references(images)
    assert not client.images.list(filters={"reference": first})
    assert client.images.list(filters={"reference": second})


def test_docker_keeps_what_a_container_uses(docker_host: SshHost, images: list[ImagePush]) -> None:
    over(docker_host, images)
    client = docker.from_env()
    first, _ = references(images)
    container = client.containers.create(first)
    try:
        over(docker_host, images[1:])
        assert client.images.get(first)
    finally:
        container.remove()


def test_what_runs_is_compared_with_the_pins(docker_host: SshHost) -> None:
    """The syncer's image, pushed and started, is what its digests say, and not what others say."""
    image = plan("syncer", ROOT / ".twinmail" / "images" / "syncer")
    platform = host_platform()
    config = json.loads(image.manifests[platform].octets)["config"]["digest"]
    pin = {
        "manifest": image.manifests[platform].digest,
        "diff_ids": json.loads(image.file(config).read_bytes())["rootfs"]["diff_ids"],
    }
    other = {**pin, "manifest": f"sha256:{'0' * 64}"}

    def run(argv: Sequence[str]) -> bytes:
        command = [*docker_host.ssh, docker_host.name, shlex.join(argv)]
        return subprocess.run(command, capture_output=True, check=True, timeout=SECONDS).stdout

    (reference,) = over(docker_host, [image]).references
    client = docker.from_env()
    container = client.containers.run(
        reference,
        entrypoint=["/usr/bin/python3", "-c", "import time; time.sleep(600)"],
        labels={"com.docker.compose.project": "tests-of-pins"},
        detach=True,
    )
    try:
        found = read_docker(run, "tests-of-pins")
        assert compare(found, Digests({"syncer": {platform: pin}}), platform, ["syncer"]) == ()
        (difference,) = compare(found, Digests({"syncer": {platform: other}}), platform, ["syncer"])
        assert pin["manifest"] in difference.got and difference.expected == other["manifest"]
    finally:
        container.remove(force=True)
        client.images.remove(reference)
    assert read_docker(run, "tests-of-pins") == ()


@contextmanager
def containerd(folder: Path) -> Iterator[Path]:
    """A containerd of its own; the path of its socket."""
    socket_path = folder / "containerd.sock"
    log = folder / "containerd.log"
    folder.mkdir()
    (folder / "config.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                "containerd",
                f"--config={folder / 'config.toml'}",
                f"--address={socket_path}",
                f"--root={folder / 'root'}",
                f"--state={folder / 'state'}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + SECONDS
        while subprocess.run(["ctr", "--address", socket_path, "version"], capture_output=True).returncode:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield socket_path
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.fixture(scope="module")
def k3s_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if os.getuid():
        pytest.skip("containerd runs only as root")
    with containerd(tmp_path_factory.mktemp("k3s") / "c") as path:
        yield path


@pytest.fixture(scope="module")
def k3s_host(k3s_socket: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    """A host where ``k3s ctr`` talks to a containerd, as k3s's own does, and Docker is there too."""
    folder = tmp_path_factory.mktemp("k3s-host")
    path = programs(folder / "bin", "docker")
    (folder / "bin" / "k3s").write_text(
        f'#!/bin/sh\n[ "$1" = ctr ] && shift && exec {shutil.which("ctr")} --address {k3s_socket} "$@"\nexit 2\n'
    )
    (folder / "bin" / "k3s").chmod(0o755)
    with run_host(folder / "ssh", path) as host:
        yield host


def ctr(socket_path: Path, *words: str) -> str:
    argv = ["ctr", "--address", str(socket_path), "--namespace", "k8s.io", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=SECONDS).stdout


def test_k3s_gets_missing_layers_only(k3s_host: SshHost, k3s_socket: Path, images: list[ImagePush]) -> None:
    wanted = references(images)
    assert lacking(k3s_host.name, wanted, host_platform(), k3s_host.ssh) == wanted
    first = over(k3s_host, images[:1])
    assert (first.engine, first.layers) == ("k3s", 3)
    assert lacking(k3s_host.name, wanted, host_platform(), k3s_host.ssh) == wanted[1:]
    second = over(k3s_host, images)
    assert second.layers == 2
    assert second.octets < 10_000
    assert over(k3s_host, images).layers == 0
    listing = ctr(k3s_socket, "images", "ls")
    for image, reference in zip(images, references(images), strict=True):
        line = next(one for one in listing.splitlines() if one.startswith(f"{reference} "))
        assert image.manifests[host_platform()].digest in line.split()[2]


def test_k3s_keeps_the_images_of_the_last_push(
    k3s_host: SshHost, k3s_socket: Path, images: list[ImagePush]
) -> None:
    """The kubelet clears away no pinned image, and the others as it likes."""
    over(k3s_host, images)
    over(k3s_host, images[1:])
    first, second = references(images)
    listing = ctr(k3s_socket, "images", "ls").splitlines()
    pinned = {line.split()[0] for line in listing if "io.cri-containerd.pinned=pinned" in line}
    assert second in pinned and first not in pinned


def test_engine_that_is_asked_for(k3s_host: SshHost, images: list[ImagePush]) -> None:
    assert over(k3s_host, images, "docker").engine == "docker"


def test_host_without_engine(tmp_path: Path, images: list[ImagePush]) -> None:
    with run_host(tmp_path / "ssh", programs(tmp_path / "bin")) as host:
        with pytest.raises(SshPushError) as caught:
            over(host, images)
        assert str(caught.value) == "tested: neither k3s nor docker is there; install one of them"
        with pytest.raises(SshPushError, match="tested: docker is not there; install it, or name another"):
            over(host, images, "docker")


def test_engine_that_refuses(tmp_path: Path, images: list[ImagePush]) -> None:
    path = programs(tmp_path / "bin")
    for name in ("docker", "sudo"):
        program = tmp_path / "bin" / name
        program.unlink(missing_ok=True)
        program.write_text("#!/bin/sh\necho permission denied >&2\nexit 1\n")
        program.chmod(0o755)
    expected = (
        "docker does not let this user in .*permission denied.*; use root, or let the user run it by sudo"
    )
    with run_host(tmp_path / "ssh", path) as host, pytest.raises(SshPushError, match=expected):
        over(host, images)


def test_image_that_is_not_built_for_the_host(docker_host: SshHost, images: list[ImagePush]) -> None:
    other = {name: one for name, one in images[0].manifests.items() if name != host_platform()}
    with pytest.raises(SshPushError, match="not all images are for that"):
        over(docker_host, [dataclasses.replace(images[0], manifests=other), images[1]])
    with pytest.raises(SshPushError, match="give the server the platform of its machine"):
        lacking(docker_host.name, references(images), next(iter(other)), docker_host.ssh)


def test_forwarding_that_is_forbidden(tmp_path: Path, images: list[ImagePush]) -> None:
    expected = r"its port 127\.0\.0\.1:27149 is taken or may not be forwarded"
    with (
        run_host(tmp_path / "ssh", options="AllowTcpForwarding no\n") as host,
        pytest.raises(SshUnavailable, match=expected),
    ):
        over(host, images)


def test_other_push_at_the_same_time(docker_host: SshHost, images: list[ImagePush]) -> None:
    with (
        socket.create_server(("127.0.0.1", 27149)),
        pytest.raises(SshUnavailable, match="wait for the other push to end"),
    ):
        over(docker_host, images)


def test_host_that_is_down(tmp_path: Path, images: list[ImagePush]) -> None:
    with run_host(tmp_path / "ssh") as host:
        pass
    with pytest.raises(SshUnavailable, match="Connection refused; run the same command again"):
        over(host, images)


@pytest.mark.parametrize("name", ["-oProxyCommand=touch x", "a b", "", "a;b", "$(x)"])
def test_host_that_is_none(name: str, images: list[ImagePush]) -> None:
    with pytest.raises(SshPushError, match="is no host: expected NAME, USER@NAME or ssh://USER@NAME:PORT"):
        push(name, images, Silent(), lambda text: None)
