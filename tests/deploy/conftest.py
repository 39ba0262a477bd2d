"""What the tests of deployments share: the programs they start."""

from collections.abc import Callable
from pathlib import Path

import pytest

from twinmail.config import Environment
from twinmail.oci.tool import tool as find

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tool() -> Callable[[str], Path]:
    """``tool("kubectl")``: the path of a program from the locked packages (see `twinmail.oci.tool`)."""
    mirror = Environment.read().debian_mirror
    return lambda name: find(name, ROOT, mirror)
