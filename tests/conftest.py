"""What all tests share: the choice of container runtimes."""

import pytest

RUNTIMES = ("namespace", "docker")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--runtime",
        choices=(*RUNTIMES, "all"),
        default=None,
        help="container runtime of the tests that start containers (default: each that this machine has)",
    )
