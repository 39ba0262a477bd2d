"""What all tests share: the choice of container runtimes, and whether a test may be skipped."""

from collections.abc import Generator

import pytest

RUNTIMES = ("namespace", "docker")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--runtime",
        choices=(*RUNTIMES, "all"),
        default=None,
        help="container runtime of the tests that start containers (default: each that this machine has)",
    )
    parser.addoption(
        "--no-skips",
        action="store_true",
        help="a test that is skipped has failed: for a machine that has all that the tests need",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--no-skips"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: must run here, and was skipped: {reason}"
    return report
