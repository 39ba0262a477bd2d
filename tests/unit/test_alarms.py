"""Alarms and the budget of the stack: within what is free, each with its answer to silence, each with a runbook line."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint

from tests.cloud import CONFIG
from twinmail import stack
from twinmail.config import Config
from twinmail.cost.bill import bill
from twinmail.cost.prices import Prices
from twinmail.cost.quantities import month
from twinmail.cost.resources import counted
from twinmail.function_zip import FunctionZip
from twinmail.stack_template import render

PROJECT = Path(__file__).parents[2]
TEMPLATE = (PROJECT / "lambda" / "stack.yaml").read_text()
EXAMPLE = Config.load(PROJECT / "twinmail.toml")
FUNCTION = FunctionZip(b"zip", "0" * 64)

# Namespace, metric, dimension, and what silence means: good, unknown, or a finding of its own.
WATCHED = {
    "receipt-retried": ("AWS/SES", "PublishFailure", "RuleName", "notBreaching"),
    "receipt-lost": ("AWS/SES", "PublishExpired", "RuleName", "notBreaching"),
    "function-errors": ("AWS/Lambda", "Errors", "FunctionName", "notBreaching"),
    "function-throttled": ("AWS/Lambda", "Throttles", "FunctionName", "notBreaching"),
    "dead-letters": ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "notBreaching"),
    "queue-age-primary": ("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", "notBreaching"),
    "queue-age-backup": ("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", "notBreaching"),
    "findings": ("Twinmail", "ReconcilerFindings", "Stack", "breaching"),
    "bounce-rate": ("AWS/SES", "Reputation.BounceRate", None, "ignore"),
    "complaint-rate": ("AWS/SES", "Reputation.ComplaintRate", None, "ignore"),
}


_RULE = {"Fn::Sub": "${Prefix}-receive"}
_QUEUES = {
    "dead-letters": "DeadLetterQueue",
    "queue-age-primary": "QueuePrimary",
    "queue-age-backup": "QueueBackup",
}
# Statistic, seconds of a period, periods, comparison, threshold, and of what: as docs/alarms.md tells it.
RAISED = {
    "receipt-retried": ("Sum", 300, 1, ">", 0, _RULE),
    "receipt-lost": ("Sum", 300, 1, ">", 0, _RULE),
    "function-errors": ("Sum", 900, 1, ">=", 3, {"Ref": "Function"}),
    "function-throttled": ("Sum", 300, 3, ">", 0, {"Ref": "Function"}),
    "dead-letters": ("Maximum", 300, 1, ">", 0, None),
    "queue-age-primary": ("Maximum", 300, 3, ">", 3600, None),
    "queue-age-backup": ("Maximum", 300, 3, ">", 3600, None),
    "findings": ("Maximum", 3600, 1, ">", 0, {"Ref": "Prefix"}),
    "bounce-rate": ("Average", 3600, 1, ">=", 0.05, None),
    "complaint-rate": ("Average", 3600, 1, ">=", 0.001, None),
}
_COMPARISONS = {"GreaterThanThreshold": ">", "GreaterThanOrEqualToThreshold": ">="}


def alarms(config: Config) -> dict[str, dict[str, Any]]:
    """Properties by name without the stack's."""
    found = render(TEMPLATE, config)["Resources"].values()
    own = [one["Properties"] for one in found if one["Type"] == "AWS::CloudWatch::Alarm"]
    return {one["AlarmName"]["Fn::Sub"].removeprefix("${Prefix}-"): one for one in own}


def test_each_metric_is_watched_and_its_silence_understood() -> None:
    found = alarms(EXAMPLE)
    assert found.keys() == WATCHED.keys()
    for name, (namespace, metric, dimension, missing) in WATCHED.items():
        one = found[name]
        assert (one["Namespace"], one["MetricName"], one["TreatMissingData"]) == (namespace, metric, missing)
        assert [each["Name"] for each in one.get("Dimensions", ())] == ([dimension] if dimension else [])


def test_each_is_raised_when_its_page_says_so_and_by_nothing_else() -> None:
    for name, one in alarms(EXAMPLE).items():
        statistic, period, periods, comparison, threshold, of = RAISED[name]
        told = (one["Statistic"], one["Period"], one["EvaluationPeriods"], one["Threshold"])
        assert told == (statistic, period, periods, threshold), name
        assert _COMPARISONS[one["ComparisonOperator"]] == comparison, name
        if name in _QUEUES:
            of = {"Fn::GetAtt": [_QUEUES[name], "QueueName"]}
        assert [each["Value"] for each in one.get("Dimensions", ())] == ([of] if of else []), name
        assert one.get("ActionsEnabled", True) is True and "DatapointsToAlarm" not in one, name


def test_alarms_are_the_ten_free_ones() -> None:
    found = alarms(EXAMPLE)
    # What is billed is each metric that an alarm looks at, and a short period costs more.
    assert not [one for one in found.values() if "Metrics" in one or one["Period"] < 60]
    assert len(found) == counted(TEMPLATE, EXAMPLE)[0] <= Prices.load()["alarm"].free == 10


def test_another_server_costs_another_alarm_and_the_bill_says_so() -> None:
    more = replace(
        EXAMPLE, servers={**EXAMPLE.servers, "third": replace(EXAMPLE.servers["primary"], name="third")}
    )
    prices = Prices.load()
    (line,) = [
        one for one in bill(more, month(more, *counted(TEMPLATE, more)), prices).lines if one.item == "alarms"
    ]
    assert line.quantity == 11 and line.amount == prices["alarm"].usd


def test_alarms_and_their_end_are_told_to_the_operator() -> None:
    resources = render(TEMPLATE, CONFIG)["Resources"]
    for one in alarms(CONFIG).values():
        assert one["AlarmActions"] == one["OKActions"] == [{"Ref": "AlarmTopic"}]
    subscription = resources["AlarmSubscription"]
    assert subscription["Condition"] == "Told"
    assert subscription["Properties"] == {
        "TopicArn": {"Ref": "AlarmTopic"},
        "Protocol": "email",
        "Endpoint": {"Ref": "Operator"},
    }
    assert resources["AlarmTopic"]["Properties"]["TopicName"] == {"Fn::Sub": "${Prefix}-alarms"}
    assert CONFIG.alarm_topic == "tests-alarms"


def test_budget_is_that_of_the_configuration() -> None:
    properties = render(TEMPLATE, CONFIG)["Resources"]["Budget"]["Properties"]
    assert properties["Budget"]["BudgetLimit"] == {"Amount": {"Ref": "MonthUsd"}, "Unit": "USD"}
    assert properties["Budget"]["TimeUnit"] == "MONTHLY"
    # As `./inv cost` computes: before tax, and not what credits leave of it.
    assert properties["Budget"]["CostTypes"] == {
        "IncludeTax": False,
        "IncludeCredit": False,
        "IncludeRefund": False,
    }
    condition, notifications, nobody = properties["NotificationsWithSubscribers"]["Fn::If"]
    assert (condition, nobody) == ("Told", {"Ref": "AWS::NoValue"})
    kinds = {one["Notification"]["NotificationType"]: one for one in notifications}
    assert set(kinds) == {"FORECASTED", "ACTUAL"}
    for one in kinds.values():
        assert one["Notification"]["ThresholdType"] == "PERCENTAGE"
        assert one["Notification"]["ComparisonOperator"] == "GREATER_THAN"
        assert one["Notification"]["Threshold"] == 100
        assert one["Subscribers"] == [{"SubscriptionType": "EMAIL", "Address": {"Ref": "Operator"}}]
    # Two budgets of one name cannot be, and another operator makes another budget before the first one goes.
    assert "BudgetName" not in properties["Budget"]


def test_operator_budget_and_days_reach_the_stack() -> None:
    told = stack.parameters(EXAMPLE, FUNCTION)
    assert told["Operator"] == EXAMPLE.operator
    assert (told["MonthUsd"], told["LogDays"], told["DeletedDays"], told["ArchiveDays"]) == (
        "10.00",
        "30",
        "30",
        "0",
    )
    assert stack.parameters(replace(EXAMPLE, operator=None), FUNCTION)["Operator"] == ""


@pytest.mark.parametrize("name", ["example", "everything", "nobody"])
def test_template_is_clean_for_every_configuration(name: str) -> None:
    everything = {
        one: replace(server, submission=True, webmail=True) for one, server in EXAMPLE.servers.items()
    }
    config = {
        "example": EXAMPLE,
        "everything": replace(EXAMPLE, servers=everything),
        "nobody": replace(EXAMPLE, operator=None, aliases={}),
    }[name]
    assert not lint(json.dumps(render(TEMPLATE, config)), config=ManualArgs(regions=[config.region]))


def test_page_says_of_each_alarm_what_to_do() -> None:
    page = (PROJECT / "docs" / "alarms.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Za-z-]+)` \| (.+) \|$", page, re.MULTILINE))
    expected = {re.sub("^queue-age-.*", "queue-age-SERVER", one) for one in alarms(EXAMPLE)}
    assert rows.keys() == expected
    assert all(len(row.split(" | ")) == 3 for row in rows.values())
