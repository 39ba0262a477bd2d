"""One edge and one account for all tests of the edge."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.aws_account import REGION, Account, rule
from tests.edge_process import Client, EdgeProcess, poll, running_edge

Activate = Callable[..., None]


@pytest.fixture(scope="session")
def account(endpoint: str) -> Account:
    return Account(endpoint)


@pytest.fixture(scope="session")
def function(account: Account) -> str:
    return account.make_function()


# Not for the whole session: it takes what is sent out of LocalStack, where other modules look for it.
@pytest.fixture(scope="module")
def edge(account: Account) -> Iterator[EdgeProcess]:
    with running_edge(account.endpoint, ["--region", REGION]) as running:
        yield running


@pytest.fixture
def client(edge: EdgeProcess) -> Iterator[Client]:
    with Client(edge.inbound) as connected:
        yield connected


@pytest.fixture
def activate(account: Account, edge: EdgeProcess) -> Activate:
    """Make rules the active rule set, and wait until the edge knows them."""

    def make(*rules: dict[str, Any]) -> None:
        name, mark = f"edge-{uuid.uuid4().hex[:12]}", f"mark@{uuid.uuid4().hex}.test"
        account.ses.create_receipt_rule_set(RuleSetName=name)
        after: dict[str, str] = {}
        for one in (*rules, rule("mark", [mark], [])):
            account.ses.create_receipt_rule(RuleSetName=name, Rule=one, **after)
            after = {"After": one["Name"]}
        account.ses.set_active_receipt_rule_set(RuleSetName=name)
        with Client(edge.inbound) as probe:
            probe.docmd("MAIL", "FROM:<>")
            poll(lambda: True if probe.docmd("RCPT", f"TO:<{mark}>")[0] == 250 else None, "rule set")

    return make
