"""The programs that deployments start: locked, unpacked, and running on this machine."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from twinmail.errors import PermanentError

ROOT = Path(__file__).resolve().parents[2]
LOCK = json.loads((ROOT / "tests/tools/image.lock").read_text())
VERSIONS = {one["name"]: one["version"] for one in LOCK["platforms"]["linux/amd64"]["packages"]}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("kubectl", ("version", "--client")),
        ("kustomize", ("version",)),
        ("docker-compose", ("version",)),
        ("docker-registry", ("--version",)),
    ],
)
def test_each_runs_in_the_locked_version(
    tool: Callable[[str], Path], name: str, arguments: tuple[str, ...]
) -> None:
    done = subprocess.run([tool(name), *arguments], capture_output=True, text=True, check=True)
    # Debian's kustomize is built without being told its version, and says so.
    told = "(devel)" if name == "kustomize" else VERSIONS[name].partition("-")[0].partition("+")[0]
    assert told in done.stdout + done.stderr


def test_asking_again_finds_the_same_file(tool: Callable[[str], Path]) -> None:
    assert tool("kubectl") == tool("kubectl")


def test_an_unknown_program_is_told_with_those_that_exist(tool: Callable[[str], Path]) -> None:
    with pytest.raises(PermanentError) as caught:
        tool("helm")
    assert str(caught.value) == (
        "no tool 'helm'; known: kubectl, kustomize, docker-compose, docker-registry, pebble"
    )
