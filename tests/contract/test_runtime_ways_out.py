"""Machines that do not let us make containers, made for real: the errors say so and name the ways out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from twinmail.errors import PermanentError
from twinmail.runtime import diagnosis
from twinmail.runtime.select import choose

PROJECT = Path(__file__).parents[2]
CHOOSE = """
import sys
from pathlib import Path
from twinmail.errors import TwinmailError
from twinmail.runtime import diagnosis
from twinmail.runtime.select import choose

try:
    print("chosen:", choose(sys.argv[1] or None, Path(sys.argv[2])).name)
except TwinmailError as error:
    print(type(error).__name__, error, sep="\\n")
"""
DOCKER = "  - use Docker: apt-get install docker.io, join the group docker, and pass --runtime docker"


def choice(name: str, state: Path, *prefix: str, docker_host: str = "unix:///nonexistent.sock") -> list[str]:
    """Lines that `CHOOSE` prints when started through the command *prefix*."""
    result = subprocess.run(
        [*prefix, sys.executable, "-c", CHOOSE, name, str(state)],
        env={"PYTHONPATH": str(PROJECT / "src"), "PATH": os.environ["PATH"], "DOCKER_HOST": docker_host},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def someone() -> tuple[str, ...]:
    """The prefix that makes a command run as a user who is not root and has no capabilities."""
    return (str(shutil.which("unshare")), "--user", "--map-user=1234", "--map-group=1234")


def nobody_special(limit: int) -> tuple[str, ...]:
    """The same, where no more than *limit* user namespaces are allowed."""
    # The setting belongs to the user namespace, so it is ours to change in one of our own.
    script = f'echo {limit} >/proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps=-all --inh-caps=-all "$@"'
    return (*someone(), "--keep-caps", "sh", "-c", script, "sh")


@pytest.mark.parametrize("name", ["", "namespace"])
def test_without_root_and_user_namespaces_the_error_names_the_ways_out(tmp_path: Path, name: str) -> None:
    lines = choice(name, tmp_path, *nobody_special(0))
    assert lines[:3] == [
        "RuntimeUnavailable",
        "cannot make containers in namespaces without root: unshare: No space left on device; ways out:",
        "  - run this as root",
    ]
    # Between them: what else this machine forbids.
    assert lines[-2:] == [
        "  - let users make namespaces: sudo sysctl -w user.max_user_namespaces=10000  (it is 0)",
        DOCKER,
    ]


def test_without_root_namespaces_are_enough(tmp_path: Path) -> None:
    settings = diagnosis.read_settings()
    if settings.get(diagnosis.APPARMOR) == 1 or settings.get(diagnosis.CLONE) == 0:
        pytest.skip("this machine's settings keep users without root from making namespaces")
    assert choice("", tmp_path, *nobody_special(8)) == ["chosen: namespace"]


def test_root_without_its_capabilities_is_told_so(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can drop root's capabilities")
    setpriv = str(shutil.which("setpriv"))
    assert choice("", tmp_path, setpriv, "--bounding-set=-all", "--inh-caps=-all") == [
        "RuntimeUnavailable",
        "cannot make containers in namespaces: Operation not permitted (/proc/self/uid_map). "
        "This is root, but without the capabilities of root; ways out:",
        "  - if this is a container itself: start it with --privileged",
        DOCKER,
    ]


def test_no_engine_is_named(tmp_path: Path) -> None:
    first, second = choice("docker", tmp_path)
    assert first == "RuntimeUnavailable"
    assert second.startswith("no Docker engine answers: ")
    assert second.endswith(
        "; install one (apt-get install docker.io) and join the group docker, or use --runtime namespace"
    )


def test_an_unknown_runtime_is_named(tmp_path: Path) -> None:
    with pytest.raises(PermanentError) as caught:
        choose("podman", tmp_path)
    assert str(caught.value) == "--runtime: expected docker or namespace, got 'podman'"
