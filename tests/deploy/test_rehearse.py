"""``./inv rehearse`` as its user runs it: the whole story, and Ctrl-C in the middle of it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.deploy.conftest import ROOT
from twinmail.local.state import State
from twinmail.oci import push
from twinmail.oci.digests import Digests
from twinmail.rehearsal import stage, story
from twinmail.runtime.docker import STATE_LABEL
from twinmail.runtime.emulation import host_platform

COMMAND = [sys.executable, str(ROOT / "tasks.py"), "rehearse"]


def are_pinned() -> bool:
    """Whether the images that were built in this checkout are those of ``images/digests.json``."""
    layouts, platform = State.of_checkout(ROOT).images, host_platform()
    return all(
        push.plan(name, layouts / name).manifests[platform].digest == platforms[platform]["manifest"]
        for name, platforms in Digests.load(ROOT).images.items()
    )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    if shutil.which("podman") is None or os.geteuid() != 0:
        pytest.skip("needs podman, and root for it: sh .ci/podman")
    yield tmp_path / "state"
    # Whatever the outcome.
    assert not (tmp_path / "state").exists()
    engine = docker.from_env()
    project = stage.project(tmp_path / "state")
    for label in (f"com.docker.compose.project={project}", f"{STATE_LABEL}={tmp_path / 'state' / 'local'}"):
        assert engine.containers.list(all=True, filters={"label": label}) == []
        assert engine.volumes.list(filters={"label": label}) == []
    assert str(tmp_path) not in subprocess.run(["ps", "axww"], capture_output=True, text=True).stdout
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_the_first_day(folder: Path) -> None:
    # Where the built images are the pinned ones, as in CI, nothing else may be rehearsed.
    strict = ["--pinned"] if are_pinned() else []
    done = subprocess.run(
        [*COMMAND, *strict, "--state", folder, "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [one["name"] for one in told["steps"]] == [*(one.name for one in story.STEPS), "clean-up"]
    for one in told["steps"]:
        assert one["result"].startswith("done: "), one
        assert one["seconds"] >= 0, one
    assert told["seconds"] >= max(one["seconds"] for one in told["steps"]) > 0
    results = {one["name"]: one["result"] for one in told["steps"]}
    not_those = "" if strict else "not "
    assert results["images"] == f"done: 4 images for servers, {not_those}those of images/digests.json"
    assert results["mail in"] == "done: 3 messages on backup and primary, byte for byte"
    assert "6 messages on backup and primary, byte for byte" in results["backup rebuilt"]
    assert "9 messages on backup and primary, byte for byte" in results["primary rebuilt"]


def test_what_is_killed_is_cleared_away_and_ctrl_c_leaves_nothing(folder: Path) -> None:
    killed = play_until_the_backup_starts(folder, signal.SIGKILL)
    assert folder.exists(), killed
    stopped = play_until_the_backup_starts(folder, signal.SIGINT)
    assert "removing what an earlier run left" in stopped
    assert "clean-up: done" in stopped
    assert stopped.endswith("interrupted\n")


def play_until_the_backup_starts(folder: Path, number: signal.Signals) -> str:
    """What a run says that is sent the signal *number* while Compose makes containers, over SSH."""
    with subprocess.Popen(
        [*COMMAND, "--state", folder], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if "waiting until all of it is healthy" in line:
                process.send_signal(number)
                if number == signal.SIGKILL:
                    break
    told = "".join(seen)
    assert process.returncode == {signal.SIGINT: 130}.get(number, -number), told
    return told
