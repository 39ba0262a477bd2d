"""The images of this checkout can be built again, and are the committed ones."""

from twinmail.config import Environment
from twinmail.oci.check import check
from twinmail.oci.fetch import Silent
from twinmail.oci.mirrors import Mirrors
from twinmail.oci.spec import PLATFORMS
from twinmail.tasks.config import PROJECT


class Quiet(Silent):
    """A progress that shows nothing."""

    def step(self, image: str, platform: str, text: str) -> None:
        """Nobody looks."""


def test_built_twice_they_are_equal_and_as_committed() -> None:
    mirrors = Mirrors.of_machine(PROJECT, Environment.read().debian_mirror)
    differences = check(PROJECT, [], PLATFORMS, mirrors, Quiet())
    assert not differences, "\n".join(differences)
