"""The processor's contract, against LocalStack."""

import pytest

from tests.contract.deployed import Deployed
from tests.log_contract import LogContract, Store
from tests.report_contract import ReportContract


@pytest.fixture(scope="module")
def store(deployed: Deployed) -> Store:
    return Store(deployed.config, deployed.session.client("s3"), deployed.session.client("dynamodb"))


class TestProcessor(LogContract):
    """The contract, with LocalStack behind it."""


class TestReport(ReportContract):
    """The contract, with LocalStack behind it."""
