"""What the operator has in hand: who hears of alarms, what a month costs, what is not deployed yet."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.session
import jmespath
import pytest
from botocore.validate import ParamValidator

from tests.cloud import CONFIG
from twinmail import stack as stack_module
from twinmail.doctor import own, receiving
from twinmail.doctor.finding import State
from twinmail.doctor.patient import Patient

TOPIC = f"arn:aws:sns:eu-central-1:1:{CONFIG.alarm_topic}"


def subscription(arn: str, endpoint: str = "operator@example.com") -> dict[str, str]:
    return {"TopicArn": TOPIC, "Protocol": "email", "Endpoint": endpoint, "SubscriptionArn": arn}


@pytest.mark.parametrize(
    ("asked", "said", "remedy"),
    [
        ([], "operator@example.com is not asked to", "./inv deploy cloud"),
        ([subscription(f"{TOPIC}:1", "former@example.com")], "is not asked to", "./inv deploy cloud"),
        ([subscription("PendingConfirmation")], "has not confirmed it", "Subscription Confirmation"),
        ([subscription("Deleted")], "has not confirmed it", "Subscription Confirmation"),
    ],
)
def test_nobody_hears_of_alarms(asked: list[dict[str, str]], said: str, remedy: str) -> None:
    assert own.hearer_finding(CONFIG, [subscription(f"{TOPIC}:1")]).state is State.OK
    found = own.hearer_finding(CONFIG, asked)
    assert found.state is State.PROBLEM and said in found.text and remedy in found.remedy


def test_no_operator_is_named() -> None:
    found = own.hearer_finding(replace(CONFIG, operator=None), [])
    assert found.state is State.PROBLEM and "name an operator" in found.remedy


def test_an_alarm_that_rings() -> None:
    quiet = {"AlarmName": "tests-queue", "StateValue": "OK", "StateReason": ""}
    (found,) = own.alarm_findings([quiet])
    assert found.state is State.OK and found.text == "none of 1 rings"
    rings = {"AlarmName": "tests-errors", "StateValue": "ALARM", "StateReason": "3 errors"}
    (found,) = own.alarm_findings([quiet, rings])
    assert (found.state, found.subject, found.text) == (State.PROBLEM, "tests-errors", "3 errors")
    assert found.remedy == "see docs/alarms.md, tests-errors"


@pytest.mark.parametrize(("month", "state"), [(9.99, State.OK), (10.01, State.WARNING)])
def test_a_month_beside_the_budget(month: float, state: State) -> None:
    (found,) = own.cost(Patient(CONFIG, lambda service: None, False, {}, {}, month=lambda: month))
    assert found.state is state and f"{month:.2f} of 10.00 dollars" in found.text


class Stacks:
    """CloudFormation, with one stack."""

    def __init__(self, status: str) -> None:
        self.status = status

    def describe_stacks(self, **_: Any) -> dict[str, Any]:
        return {"Stacks": [{"StackStatus": self.status, "StackStatusReason": "because"}]}


@pytest.mark.parametrize(
    ("status", "changes", "state", "said"),
    [
        ("CREATE_COMPLETE", (), State.OK, "as the configuration says"),
        ("UPDATE_COMPLETE", ("add Rule",), State.WARNING, "not deployed yet: add Rule"),
        ("UPDATE_IN_PROGRESS", (), State.WARNING, "UPDATE_IN_PROGRESS"),
        ("UPDATE_ROLLBACK_FAILED", (), State.PROBLEM, "UPDATE_ROLLBACK_FAILED: because"),
        ("ROLLBACK_COMPLETE", (), State.PROBLEM, "ROLLBACK_COMPLETE: because"),
    ],
)
def test_the_stack(status: str, changes: tuple[str, ...], state: State, said: str) -> None:
    looked = Patient(CONFIG, lambda service: Stacks(status), False, {}, {}, changes=lambda: changes)
    (found,) = own.stack(looked)
    assert found.state is state and said in found.text


def test_a_remedy_for_what_was_changed_by_hand_is_one_that_aws_takes() -> None:
    """What is not there is the mode itself, in LocalStack; that it is AWS's is in its model."""
    text = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text("utf-8")
    assert '"Changed by hand" in docs/doctor.md' in receiving.BY_HAND and "\n## Changed by hand\n" in text
    query = re.search(r"--query \\\n *'([^']+)'", text)
    assert query
    stack = {"Parameters": [{"ParameterKey": "Prefix", "ParameterValue": "twinmail"}]}
    parameters = jmespath.search(query[1], {"Stacks": [stack]})
    assert parameters == [{"ParameterKey": "Prefix", "UsePreviousValue": True}]
    asked = {
        "StackName": "twinmail",
        "ChangeSetName": "by-hand",
        "UsePreviousTemplate": True,
        "Parameters": parameters,
        "Capabilities": stack_module.CAPABILITIES,
        "DeploymentMode": "REVERT_DRIFT",
    }
    model = botocore.session.get_session().get_service_model("cloudformation")
    shape = model.operation_model("CreateChangeSet").input_shape
    assert not ParamValidator().validate(asked, shape).has_errors()
    assert "REVERT_DRIFT" in shape.members["DeploymentMode"].enum
