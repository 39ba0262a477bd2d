"""The audit's contract, against LocalStack."""

import pytest

from tests.audit_contract import AuditContract
from tests.contract.deployed import Deployed
from tests.log_contract import Store


@pytest.fixture(scope="module")
def store(deployed: Deployed) -> Store:
    return Store(deployed.config, deployed.session.client("s3"), deployed.session.client("dynamodb"))


class TestAudit(AuditContract):
    """The contract, with LocalStack behind it."""
