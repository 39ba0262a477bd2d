"""What both container runtimes promise, on an image made of this machine's own programs."""

import functools
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_image
from twinmail.runtime import diagnosis
from twinmail.runtime.docker import DockerRuntime
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.engine import KEPT, connect
from twinmail.runtime.interface import (
    Container,
    ContainerError,
    ContainerSpec,
    Exited,
    ImageError,
    Mount,
    Running,
    Runtime,
    WaitTimeout,
)
from twinmail.runtime.namespace import NamespaceRuntime
from twinmail.runtime.select import NAMES, available, choose

PROJECT = Path(__file__).parents[2]
DEADLINE = 30.0


def poll(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE:.0f} s: {what}"
        time.sleep(0.02)


def processes(marker: str) -> list[int]:
    """Processes of this machine with *marker* on their command line, whoever's they are."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if marker.encode() in arguments and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


class Lab:
    """A runtime, an image and a state folder."""

    def __init__(self, runtime: Runtime, layout: Path, digest: str, state: Path) -> None:
        self.runtime = runtime
        self.layout = layout
        self.digest = digest
        self.state = state
        self.started: list[Container] = []

    def spec(self, script: str | None, name: str = "tiny", **fields: Any) -> ContainerSpec:
        command = None if script is None else (script,)
        return ContainerSpec(name, self.layout, host_platform(), command=command, **fields)

    def start(self, script: str | None, name: str = "tiny", **fields: Any) -> Container:
        container = self.runtime.start(self.spec(script, name, **fields))
        self.started.append(container)
        return container

    def output(self, script: str | None, **fields: Any) -> str:
        """What *script* writes until it ends by itself, successfully."""
        container = self.start(script, **fields)
        ended = container.wait(DEADLINE)
        text = container.logs().decode()
        container.stop()
        assert ended.code == 0, text
        return text

    def volume(self, name: str = "volume") -> Path:
        folder = self.state / name
        self.runtime.prepare_volume(folder)
        return folder


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("layout") / "tiny"
    folder.mkdir()
    yield folder, tiny_image.build(folder, host_platform())
    if "docker" in usable():
        client, _ = connect()
        for name in ("tiny", "two"):
            for one in client.images.list(f"twinmail/{name}"):
                client.images.remove(one.id, force=True)


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layers")


@functools.cache
def usable() -> tuple[str, ...]:
    return available()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "lab" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--runtime")
        metafunc.parametrize("lab", NAMES if wanted in (None, "all") else [wanted], indirect=True)


@pytest.fixture
def lab(
    request: pytest.FixtureRequest, image: tuple[Path, str], layers: Path, tmp_path: Path
) -> Iterator[Lab]:
    if request.param not in usable():
        pytest.skip(f"this machine has no {request.param} runtime; for Docker run .ci/docker")
    made = Lab(choose(request.param, tmp_path / "state", layers), *image, tmp_path / "state")
    yield made
    for container in made.started:
        container.stop(0)
    assert made.runtime.remove_leftovers() == []


class TestImage:
    def test_digest_is_the_built_one(self, lab: Lab) -> None:
        assert lab.start("sleep 60").image_digest == lab.digest

    def test_default_command_is_the_images(self, lab: Lab) -> None:
        assert lab.output(None) == "default command\n"

    def test_another_entrypoint_drops_the_images_command(self, lab: Lab) -> None:
        assert lab.output(None, entrypoint=("/bin/bash", "-c", "echo $# $1", "name")) == "0\n"

    def test_environment_is_the_images_with_ours_on_top(self, lab: Lab) -> None:
        text = lab.output("env", environment={"REPLACED": "spec", "ADDED": "with space\tand = sign"})
        lines = text.splitlines()
        for expected in (
            "PATH=/bin",
            "FROM_IMAGE=yes",
            "REPLACED=spec",
            "ADDED=with space\tand = sign",
            "HOME=/home/twinmail",
        ):
            assert expected in lines

    def test_working_folder_is_the_images(self, lab: Lab) -> None:
        assert lab.output("pwd") == "/work\n"

    def test_upper_layers_win(self, lab: Lab) -> None:
        assert lab.output("cat /etc/layer /etc/link /etc/only-lower") == "upper\nupper\nlower\n"

    def test_missing_platform_is_named(self, lab: Lab) -> None:
        other = next(one for one in ("linux/amd64", "linux/arm64") if one != host_platform())
        lab.runtime.ensure_emulation = lambda platform: None  # type: ignore[method-assign]
        with pytest.raises(ImageError) as caught:
            lab.runtime.start(ContainerSpec("tiny", lab.layout, other))
        assert str(caught.value) == (
            f"{lab.layout}: no image for {other}; it holds {host_platform()}; "
            f"run: ./inv build --image tiny --platform {other}"
        )

    def test_reference_selects_the_image(self, lab: Lab, tmp_path: Path) -> None:
        folder = tmp_path / "two"
        folder.mkdir()
        layout = tiny_image.Layout(folder)
        files = tiny_image.tar(tiny_image.programs())
        layout.add_image([files], {**tiny_image.CONFIG, "Cmd": ["echo latest"]}, host_platform(), "latest")
        debug = layout.add_image(
            [files], {**tiny_image.CONFIG, "Cmd": ["echo debug"]}, host_platform(), "debug"
        )
        lab.layout = folder
        assert lab.output(None) == "latest\n"
        assert lab.output(None, reference="debug") == "debug\n"
        assert lab.start("sleep 60", reference="debug").image_digest == debug

    def test_damaged_layer_is_refused(self, lab: Lab, tmp_path: Path) -> None:
        folder = tmp_path / "damaged"
        folder.mkdir()
        layout = tiny_image.Layout(folder)
        files = tiny_image.tar({"file": os.urandom(4096)})
        layout.add_image([files], tiny_image.CONFIG, host_platform())
        blob = max(layout.blobs.iterdir(), key=lambda one: one.stat().st_size)
        data = bytearray(blob.read_bytes())
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)
        with pytest.raises(ImageError, match=re.escape(str(folder))):
            lab.runtime.start(ContainerSpec("tiny", folder, host_platform()))

    def test_engine_does_not_collect_every_content_it_ever_ran(self, lab: Lab, tmp_path: Path) -> None:
        if lab.runtime.name != "docker":
            return  # what is unpacked is pruned by age: see the unit tests
        files = tiny_image.tar(tiny_image.programs())
        for number in range(KEPT + 2):
            lab.layout = tmp_path / str(number) / "two"
            lab.layout.mkdir(parents=True)
            config = {**tiny_image.CONFIG, "Cmd": [f"echo {number}"]}
            digest = tiny_image.Layout(lab.layout).add_image([files], config, host_platform())
            assert lab.output(None) == f"{number}\n"
        held = [one.id for one in connect()[0].images.list("twinmail/two")]
        assert digest in held
        assert len(held) == KEPT

    def test_image_for_another_user_is_refused(self, lab: Lab, tmp_path: Path) -> None:
        folder = tmp_path / "rooted"
        folder.mkdir()
        tiny_image.Layout(folder).add_image([], {**tiny_image.CONFIG, "User": "0:0"}, host_platform())
        with pytest.raises(ImageError, match="expected User 1000:1000, got '0:0'"):
            lab.runtime.start(ContainerSpec("tiny", folder, host_platform()))


class TestConfinement:
    def test_runs_as_the_images_user(self, lab: Lab) -> None:
        assert lab.output("id -u; id -g; id -un") == "1000\n1000\ntwinmail\n"

    def test_has_no_capabilities_and_gains_none(self, lab: Lab) -> None:
        status = lab.output("cat /proc/self/status")
        fields = dict(re.findall(r"^(\w+):\s+(\S+)", status, re.MULTILINE))
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(fields[name], 16) == 0, name
        assert fields["NoNewPrivs"] == "1"

    @pytest.mark.parametrize("path", ["/file", "/etc/file", "/etc/layer", "/dev/file", "/var/file"])
    def test_root_file_system_cannot_be_written(self, lab: Lab, path: str) -> None:
        assert "refused" in lab.output(f"(echo x >> {path}) 2>/dev/null || echo refused")

    @pytest.mark.parametrize("folder", ["/run", "/tmp", "/var/run", "/dev/shm"])
    def test_temporary_folders_are_empty_and_writable(self, lab: Lab, folder: str) -> None:
        assert lab.output(f"ls -A {folder}/; echo x > {folder}/new && cat {folder}/new") == "x\n"

    def test_sees_only_its_own_processes(self, lab: Lab) -> None:
        numbers = [int(one) for one in lab.output("cd /proc; echo [0-9]*").split()]
        assert 1 in numbers
        assert max(numbers) < 100

    def test_devices_are_the_harmless_ones(self, lab: Lab) -> None:
        text = lab.output("echo x > /dev/null; exec 3< /dev/urandom; read -rn 4 -u 3; ls /dev")
        assert {"null", "zero", "full", "random", "urandom", "tty", "pts", "shm", "fd"} <= set(text.split())
        assert not {"mem", "kmsg", "vda", "sda", "loop0", "fuse"} & set(text.split())

    def test_no_descriptors_leak_in(self, lab: Lab) -> None:
        assert lab.output("exec 3</proc/self/fd; ls /proc/self/fd").split() == ["0", "1", "2", "3", "4"]

    def test_signals_start_out_as_usual(self, lab: Lab) -> None:
        ignored = re.search(r"SigIgn:\s+(\w+)", lab.output("cat /proc/self/status"))
        assert ignored
        assert int(ignored[1], 16) == 0

    def test_shares_the_hosts_loopback(self, lab: Lab) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(DEADLINE)
            port = server.getsockname()[1]
            container = lab.start(f"exec 3<>/dev/tcp/localhost/{port}; cat <&3")
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"over loopback\n")
            assert container.wait(DEADLINE) == Exited(0)
            assert container.logs() == b"over loopback\n"


class TestMounts:
    def test_a_volume_keeps_what_the_container_writes(self, lab: Lab) -> None:
        volume = lab.volume()
        lab.output("echo first > /data/file; mkdir /data/folder", mounts=(Mount(volume, "/data"),))
        assert (volume / "file").read_text() == "first\n"
        lab.runtime.prepare_volume(volume)
        assert (
            lab.output("cat /data/file; echo x > /data/folder/x", mounts=(Mount(volume, "/data"),))
            == "first\n"
        )

    def test_files_of_the_caller_become_usable(self, lab: Lab) -> None:
        volume = lab.volume()
        (volume / "secret").write_text("of the caller\n")
        (volume / "secret").chmod(0o600)
        lab.runtime.prepare_volume(volume)
        assert (
            lab.output("cat /data/secret", mounts=(Mount(volume, "/data", read_only=True),))
            == "of the caller\n"
        )

    def test_links_in_a_volume_are_not_followed(self, lab: Lab, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.write_text("")
        before = outside.stat()
        volume = lab.volume()
        (volume / "link").symlink_to(outside)
        lab.runtime.prepare_volume(volume)
        assert (outside.stat().st_uid, outside.stat().st_mode) == (before.st_uid, before.st_mode)

    def test_a_read_only_mount_cannot_be_written(self, lab: Lab) -> None:
        mounts = (Mount(lab.volume(), "/data", read_only=True),)
        assert "refused" in lab.output("(echo x > /data/file) 2>/dev/null || echo refused", mounts=mounts)

    def test_one_file_can_be_mounted_where_the_image_has_none(self, lab: Lab, tmp_path: Path) -> None:
        file = tmp_path / "with space: and, comma"
        file.write_text("mounted\n")
        mounts = (Mount(file, "/etc/new/folder/file", read_only=True),)
        assert lab.output("cat /etc/new/folder/file", mounts=mounts) == "mounted\n"
        # What one container mounts, another does not see.
        assert lab.output("[ -e /etc/new ] || echo nothing") == "nothing\n"

    def test_mounts_can_lie_in_mounts(self, lab: Lab) -> None:
        outer, inner = lab.volume("outer"), lab.volume("inner")
        mounts = (Mount(outer, "/data"), Mount(inner, "/data/inner"))
        lab.output("echo x > /data/inner/file", mounts=mounts)
        assert (inner / "file").exists()

    def test_a_missing_source_is_named(self, lab: Lab, tmp_path: Path) -> None:
        with pytest.raises(ContainerError) as caught:
            lab.start("true", mounts=(Mount(tmp_path / "none", "/data"),))
        assert str(caught.value) == f"tiny: {tmp_path}/none, to be mounted at /data, does not exist"

    def test_nothing_is_mounted_on_the_host(self, lab: Lab) -> None:
        lab.start("sleep 60", mounts=(Mount(lab.volume(), "/data"),))
        assert str(lab.state) not in Path("/proc/self/mountinfo").read_text()


class TestLife:
    def test_runs_until_its_program_ends(self, lab: Lab) -> None:
        volume = lab.volume()
        container = lab.start(
            "until [ -e /data/go ]; do sleep 0.05; done; exit 7", mounts=(Mount(volume, "/data"),)
        )
        assert container.status() == Running()
        (volume / "go").touch()
        assert container.wait(DEADLINE) == Exited(7)
        assert container.status() == Exited(7)
        assert container.stop() == Exited(7)

    def test_log_has_both_streams_each_in_order(self, lab: Lab) -> None:
        container = lab.start("echo one; echo two >&2; echo three; echo four >&2")
        container.wait(DEADLINE)
        lines = container.logs().decode().split()
        assert [one for one in lines if one in ("one", "three")] == ["one", "three"]
        assert [one for one in lines if one in ("two", "four")] == ["two", "four"]
        assert len(lines) == 4

    def test_log_outlives_the_container_but_not_the_next_start(self, lab: Lab) -> None:
        container = lab.start("echo first")
        container.wait(DEADLINE)
        container.stop()
        assert container.logs() == b"first\n"
        assert lab.output("echo second") == "second\n"

    def test_standard_error_can_be_opened_by_name(self, lab: Lab) -> None:
        # Each has a pipe of its own, so the order between them is not kept.
        assert sorted(lab.output("echo first; echo second >> /dev/stderr").split()) == ["first", "second"]

    def test_wait_has_a_deadline(self, lab: Lab) -> None:
        container = lab.start("sleep 60")
        with pytest.raises(WaitTimeout, match=r"tiny still runs after 0\.1 s"):
            container.wait(0.1)

    def test_stop_lets_the_program_finish(self, lab: Lab) -> None:
        container = lab.start("trap 'echo finished; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
        poll(lambda: container.logs() == b"ready\n", "ready")
        assert container.stop() == Exited(3)
        assert container.logs() == b"ready\nfinished\n"

    def test_stop_ends_a_program_that_does_not_listen(self, lab: Lab) -> None:
        container = lab.start("trap '' TERM; echo ready; while :; do sleep 0.05; done")
        poll(lambda: container.logs() == b"ready\n", "ready")
        assert container.stop(timeout=0.2) == Exited(128 + signal.SIGKILL)
        assert container.stop() == Exited(128 + signal.SIGKILL)

    def test_signals_reach_the_program(self, lab: Lab) -> None:
        container = lab.start(
            "trap 'echo hup' HUP; trap 'echo usr1; exit 0' USR1; echo ready; while :; do sleep 0.05; done"
        )
        poll(lambda: b"ready\n" in container.logs(), "ready")
        container.kill(signal.SIGHUP)
        poll(lambda: b"hup\n" in container.logs(), "hup")
        container.kill(signal.SIGUSR1)
        assert container.wait(DEADLINE) == Exited(0)
        container.kill(signal.SIGUSR1)  # it has ended: nothing happens
        assert container.logs() == b"ready\nhup\nusr1\n"

    def test_killing_it_ends_all_its_processes(self, lab: Lab) -> None:
        marker = "61.125"
        container = lab.start(f"sleep {marker} & sleep {marker} & wait")
        poll(lambda: len(processes(marker)) == 2, "both processes")
        container.kill()
        assert container.wait(DEADLINE) == Exited(128 + signal.SIGKILL)
        poll(lambda: not processes(marker), "no process left")

    def test_it_can_be_started_again(self, lab: Lab) -> None:
        for _ in range(3):
            lab.start("sleep 60").stop(0)

    def test_a_running_name_is_taken(self, lab: Lab) -> None:
        lab.start("sleep 60")
        with pytest.raises(ContainerError, match="a container tiny of this state folder runs already"):
            lab.start("sleep 60")

    def test_a_missing_program_is_named(self, lab: Lab) -> None:
        with pytest.raises(ContainerError, match=r"^tiny: cannot start.*/bin/none"):
            lab.start(None, entrypoint=("/bin/none",))
        assert lab.output("echo the name is free again") == "the name is free again\n"

    def test_the_thread_that_started_it_may_end(self, lab: Lab) -> None:
        thread = threading.Thread(target=lab.start, args=("sleep 60",))
        thread.start()
        thread.join()
        with pytest.raises(WaitTimeout):
            lab.started[0].wait(0.3)

    def test_nothing_remains_but_log_and_volumes(self, lab: Lab) -> None:
        marker = "62.125"
        container = lab.start(f"sleep {marker}", mounts=(Mount(lab.volume(), "/data"),))
        container.stop(0)
        assert not processes(marker)
        assert sorted(
            str(one.relative_to(lab.state)) for one in lab.state.rglob("*") if not one.is_dir()
        ) == ["log/tiny.log"]


class TestExec:
    def test_gives_output_and_code(self, lab: Lab) -> None:
        result = lab.start("sleep 60").exec(["/bin/bash", "-c", "echo out; echo err >&2; exit 5"])
        assert (result.code, sorted(result.output.split())) == (5, [b"err", b"out"])

    def test_is_the_same_user_in_the_same_place(self, lab: Lab) -> None:
        container = lab.start("echo x > /tmp/file; sleep 60", environment={"ADDED": "yes"})
        poll(lambda: container.exec(["ls", "/tmp"]).output == b"file\n", "the file")
        result = container.exec(
            ["bash", "-c", "id -u; pwd; echo $ADDED $FROM_IMAGE $HOME; cat /proc/self/status"]
        )
        assert result.output.startswith(b"1000\n/work\nyes yes /home/twinmail\n")
        fields = dict(re.findall(r"^(\w+):\s+(\S+)", result.output.decode(), re.MULTILINE))
        assert int(fields["CapBnd"], 16) == int(fields["CapPrm"], 16) == int(fields["CapInh"], 16) == 0
        assert fields["NoNewPrivs"] == "1"

    def test_a_missing_program_is_named(self, lab: Lab) -> None:
        with pytest.raises(ContainerError, match=r"^tiny: exec: .*/bin/none"):
            lab.start("sleep 60").exec(["/bin/none"])

    def test_needs_a_running_container(self, lab: Lab) -> None:
        container = lab.start("true")
        container.wait(DEADLINE)
        with pytest.raises(ContainerError, match="tiny: cannot run ls: the container has ended"):
            container.exec(["ls"])

    def test_has_a_deadline(self, lab: Lab) -> None:
        with pytest.raises(WaitTimeout, match=r"tiny: sleep did not end within 0\.2 s"):
            lab.start("sleep 60").exec(["sleep", "60"], timeout=0.2)


SUPERVISOR = """
import sys
from pathlib import Path
from twinmail.runtime.interface import ContainerSpec
from twinmail.runtime.namespace import NamespaceRuntime
from twinmail.runtime.select import choose

name, state, layers, layout, platform, script = sys.argv[1:]
runtime = choose(name, Path(state), Path(layers))
runtime.start(ContainerSpec("orphan", Path(layout), platform, command=(script,)))
print("started", flush=True)
sys.stdin.read()
"""


class TestKilledSupervisor:
    def test_leaves_nothing_that_the_next_run_does_not_remove(self, lab: Lab, layers: Path) -> None:
        marker = "63.125"
        script = f"sleep {marker} & sleep {marker} & wait"
        arguments = (lab.runtime.name, lab.state, layers, lab.layout, host_platform(), script)
        supervisor = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, *map(str, arguments)],
            env={"PYTHONPATH": str(PROJECT / "src")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with supervisor:
            assert supervisor.stdout
            assert supervisor.stdout.readline() == b"started\n"
            poll(lambda: len(processes(marker)) == 2, "both processes")
            supervisor.kill()
        if lab.runtime.name == "namespace":  # nobody else keeps it: it ends with its supervisor
            poll(lambda: not processes(marker), "no process left")
            assert lab.runtime.remove_leftovers() == []
        else:
            assert lab.runtime.remove_leftovers() == ["orphan"]
        assert not processes(marker)
        assert not list((lab.state / "containers").glob("*"))


class TestDocker:
    def test_files_are_the_callers_whatever_uid_that_is(
        self, image: tuple[Path, str], tmp_path: Path
    ) -> None:
        if "docker" not in usable():
            pytest.skip("this machine has no docker runtime; for Docker run .ci/docker")
        if os.geteuid() != 0:
            pytest.skip("only root can play a user with another uid")
        made = Lab(DockerRuntime(tmp_path / "state", user=(4321, 4322)), *image, tmp_path / "state")
        script = "id -u; id -g; id -un; id -gn; echo x > /data/file; echo x > /run/file; echo $HOME"
        text = made.output(script, mounts=(Mount(made.volume(), "/data"),))
        assert text.split() == ["4321", "4322", "twinmail", "twinmail", "/home/twinmail"]
        status = (made.state / "volume" / "file").stat()
        assert (status.st_uid, status.st_gid) == (4321, 4322)


class TestNamespace:
    def test_a_killed_keeper_takes_its_container_along(
        self, image: tuple[Path, str], layers: Path, tmp_path: Path
    ) -> None:
        if "namespace" not in usable():
            pytest.skip("this machine has no namespace runtime")
        marker = "64.125"
        made = Lab(NamespaceRuntime(tmp_path / "state", layers), *image, tmp_path / "state")
        container = made.start(f"sleep {marker} & sleep {marker} & wait")
        poll(lambda: len(processes(marker)) == 2, "both processes")
        os.kill(int((made.state / "containers" / "tiny.lock").read_text()), signal.SIGKILL)
        assert container.wait(DEADLINE) == Exited(128 + signal.SIGKILL)
        poll(lambda: not processes(marker), "no process left")
        container.stop()
        assert made.output("echo again") == "again\n"


@pytest.mark.skipif(os.environ.get("INSIDE") == "1", reason="it is running just now")
def test_namespaces_keep_the_contract_without_root(tmp_path: Path) -> None:
    """The whole contract again, as a user who is not root and has no capability."""
    settings = diagnosis.read_settings()
    if settings.get(diagnosis.APPARMOR) == 1 or settings.get(diagnosis.CLONE) == 0:
        pytest.skip("this machine's settings keep users without root from making namespaces")
    unshare = shutil.which("unshare")
    assert unshare
    become = (unshare, "--user", "--map-user=1234", "--map-group=1234")
    run = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--runtime=namespace")
    result = subprocess.run(
        [*become, *run, f"--basetemp={tmp_path / 'inside'}", __file__],
        cwd=PROJECT,
        env={**os.environ, "INSIDE": "1", "DOCKER_HOST": "unix:///nonexistent"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
    assert " passed" in result.stdout
    assert stat.S_ISDIR((tmp_path / "inside").stat().st_mode)
