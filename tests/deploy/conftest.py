"""What the tests of deployments share: the programs they start."""

from collections.abc import Callable
from pathlib import Path

import pytest

from twinmail.config import Environment
from twinmail.oci.tool import tool as find
from twinmail.runtime.select import available

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what talks to a Docker engine where none answers."""
    if "docker" in available():
        return
    reason = pytest.mark.skip(reason="no Docker engine answers on this machine; sh .ci/docker makes one")
    for item in items:
        needs = ("docker", "run_backup")
        if isinstance(item, pytest.Function) and any(hasattr(item.module, one) for one in needs):
            item.add_marker(reason)


@pytest.fixture(scope="session")
def tool() -> Callable[[str], Path]:
    """``tool("kubectl")``: the path of a program from the locked packages (see `twinmail.oci.tool`)."""
    mirror = Environment.read().debian_mirror
    return lambda name: find(name, ROOT, mirror)
