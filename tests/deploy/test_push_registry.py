"""Pushing to a real registry: what arrives, what is not sent again, and what happens after a stop."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.deploy import layered_image
from tests.deploy.line import line_to
from tests.deploy.registry_process import RegistryProcess, run_registry
from twinmail.oci.destination import Destination
from twinmail.oci.digests import Digests
from twinmail.oci.push import ImagePush, PushReport, push
from twinmail.oci.registry import Registry
from twinmail.oci.upload import PIECE
from twinmail.oci.upload_sessions import open_sessions

ROOT = Path(__file__).resolve().parents[2]
DRIVER = ROOT / "tests" / "deploy" / "push_process.py"
WRITES = ("POST", "PATCH", "PUT")
SECONDS = 60


class Silent:
    """Is told of everything and says nothing."""

    def start(self, files: int, octets: int) -> None:
        """See `twinmail.oci.push.Progress`."""

    def advance(self, name: str, octets: int) -> None:
        """See `twinmail.oci.push.Progress`."""


@pytest.fixture(scope="module")
def registry(
    tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RegistryProcess]:
    with run_registry(tool("docker-registry"), tmp_path_factory.mktemp("registry")) as process:
        yield process


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[ImagePush]:
    """Two images that share their lowest layer; one has a layer of several pieces."""
    folder = tmp_path_factory.mktemp("images")
    return [
        layered_image.build(folder, "small", {"shared": 300_000, "small": 2000}),
        layered_image.build(folder, "large", {"shared": 300_000, "large": 4 * PIECE + 5, "top": 10}),
    ]


def push_to(host: str, path: str, images: list[ImagePush], state: Path) -> PushReport:
    destination = Destination.parse(f"{host}/{path}")
    with open_sessions(state) as sessions:
        return push(images, Registry(destination), sessions, Silent())


def start(
    state: Path, destination: str, images: list[ImagePush], **environment: str
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, DRIVER, state, destination, *(one.folder for one in images)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "HOME": str(state), **environment},
    )


def finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    report: dict[str, Any] = json.loads(output)
    return report


def test_engine_pulls_each_platform_by_its_digest(
    registry: RegistryProcess, images: list[ImagePush], tmp_path: Path
) -> None:
    push_to(registry.host, "pulled", images, tmp_path)
    client = docker.from_env()
    for image in images:
        for platform, manifest in image.manifests.items():
            reference = f"{registry.host}/pulled/{image.name}@{manifest.digest}"
            pulled = client.images.pull(reference)
            try:
                assert reference in pulled.attrs["RepoDigests"]
                assert f"{pulled.attrs['Os']}/{pulled.attrs['Architecture']}" == platform
            finally:
                client.images.remove(reference)


def test_tag_is_the_index_over_both_platforms(
    registry: RegistryProcess, images: list[ImagePush], tmp_path: Path
) -> None:
    report = push_to(registry.host, "tagged", images, tmp_path)
    reader = Registry(Destination.parse(f"{registry.host}/tagged"))
    for image in images:
        entry = report.images[image.name]
        assert entry["repository"] == f"{registry.host}/tagged/{image.name}"
        assert reader.manifest(f"tagged/{image.name}", entry["tag"]) == entry["index"] == image.index.digest
        assert entry["platforms"] == {name: one.digest for name, one in image.manifests.items()}
        assert sorted(entry["platforms"]) == ["linux/amd64", "linux/arm64"]


def test_second_push_uploads_nothing(
    registry: RegistryProcess, images: list[ImagePush], tmp_path: Path
) -> None:
    first = push_to(registry.host, "twice", images, tmp_path)
    assert first.uploaded and first.manifests and not first.present
    mark = registry.mark()
    again = push_to(registry.host, "twice", images, tmp_path)
    assert (again.uploaded, again.octets, again.mounted, again.manifests) == (0, 0, 0, 0)
    assert again.images == first.images
    assert not [one for one in registry.requests(mark) if one[0] in WRITES]


def test_layer_of_two_images_is_sent_once(
    registry: RegistryProcess, images: list[ImagePush], tmp_path: Path
) -> None:
    shared = set(images[0].blobs) & set(images[1].blobs)
    assert len(shared) == 1
    report = push_to(registry.host, "shared", images, tmp_path)
    assert report.mounted == 1
    assert report.octets == sum((images[0].blobs | images[1].blobs).values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_push_goes_on_within_the_blob(
    registry: RegistryProcess, images: list[ImagePush], tmp_path: Path, number: signal.Signals
) -> None:
    total = sum((images[0].blobs | images[1].blobs).values())
    with line_to(registry.port) as line:
        destination = f"127.0.0.1:{line.port}/stopped-{number.name.lower()}"
        line.stop_after(total // 2)
        process = start(tmp_path, destination, images)
        assert line.stuck.wait(SECONDS)
        process.send_signal(number)
        # What is on its way is completed, else the registry would throw the blob away.
        assert process.stderr is not None
        while "stopping after what is on its way" not in (text := process.stderr.readline()):
            assert text, "it ended"
        line.go_on()
        process.communicate(timeout=SECONDS)
        assert process.returncode == 130
        before = line.passed
        assert total // 2 < before < total
        report = finish(start(tmp_path, destination, images))
        assert report["resumed"] >= PIECE
        # Together little more than everything once: the pieces' headers and the questions.
        assert before + (line.passed - before) < total + 100_000
        assert line.passed < total + 100_000
    assert not json.loads((tmp_path / "uploads.json").read_text())


def test_killed_push_sends_no_complete_blob_again(
    registry: RegistryProcess, images: list[ImagePush], tmp_path: Path
) -> None:
    with line_to(registry.port) as line:
        destination = f"127.0.0.1:{line.port}/killed"
        line.stop_after(300_000 + 2 * PIECE)  # in the midst of the large layer
        process = start(tmp_path, destination, images)
        assert line.stuck.wait(SECONDS)
        process.kill()
        process.communicate(timeout=SECONDS)
        line.go_on()
        mark = registry.mark()
        report = finish(start(tmp_path, destination, images))
    assert report["present"] >= len(images[0].blobs)
    # It asks how far the cut blob is; this registry drops those whose last piece was cut, and says so.
    questions = [path for method, path, _ in registry.requests(mark) if method == "GET"]
    assert any("/blobs/uploads/" in path for path in questions)
    again = push_to(registry.host, "killed", images, tmp_path)
    assert (again.uploaded, again.manifests) == (0, 0)


def test_cut_connection_is_made_anew(
    registry: RegistryProcess, images: list[ImagePush], tmp_path: Path
) -> None:
    with line_to(registry.port) as line:
        line.cut_after(300_000 + 2 * PIECE)
        report = push_to(f"127.0.0.1:{line.port}", "cut", images, tmp_path)
    assert report.uploaded
    assert push_to(registry.host, "cut", images, tmp_path).uploaded == 0


def test_two_pushes_at_once_both_succeed(
    registry: RegistryProcess, images: list[ImagePush], tmp_path: Path
) -> None:
    reports: list[dict[str, Any]] = []

    def run() -> None:
        reports.append(finish(start(tmp_path, f"{registry.host}/at-once", images)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(SECONDS)
    assert len(reports) == 2
    assert sum(one["uploaded"] for one in reports) == len(images[0].blobs | images[1].blobs)


def test_command_pushes_what_is_pinned(registry: RegistryProcess) -> None:
    """``./inv push --registry``: the engine then pulls exactly what images/digests.json says."""
    done = subprocess.run(
        [sys.executable, ROOT / "tasks.py", "push", "--registry", f"{registry.host}/twinmail", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    pins = Digests.load(ROOT).images
    assert {"dovecot", "syncer", "roundcube"} <= set(report["images"])
    assert not {"base", "debug", "localstack"} & set(report["images"])
    client = docker.from_env()
    for name, entry in report["images"].items():
        assert entry["platforms"] == {platform: pin["manifest"] for platform, pin in pins[name].items()}
        reference = f"{entry['repository']}@{pins[name]['linux/amd64']['manifest']}"
        pulled = client.images.pull(reference)
        try:
            assert pulled.attrs["RootFS"]["Layers"] == pins[name]["linux/amd64"]["diff_ids"]
        finally:
            client.images.remove(reference)
