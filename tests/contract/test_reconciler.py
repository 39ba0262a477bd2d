"""The reconciler's contract, against LocalStack; and the function as the schedule starts it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.deployed import Deployed
from tests.edge_process import poll
from tests.log_contract import Store
from tests.log_simulator import until
from tests.reconciler_contract import ReconcilerContract, Witnessed, notice
from twinmail import layout, metric
from twinmail.reconciler.turn import METRIC

QUEUE = "tests-reconciler-contract"


@pytest.fixture(scope="module")
def store(deployed: Deployed) -> Store:
    return Store(deployed.config, deployed.session.client("s3"), deployed.session.client("dynamodb"))


@pytest.fixture(scope="module")
def witnessed(deployed: Deployed, store: Store) -> Witnessed:
    sqs = deployed.session.client("sqs")
    sqs.create_queue(QueueName=QUEUE)
    return Witnessed(store, sqs, QUEUE)


class TestReconciler(ReconcilerContract):
    """The contract, with LocalStack behind it."""

    @pytest.fixture(autouse=True)
    def nothing_of_others(self, store: Store) -> None:
        """What earlier tests stored and never processed could be in the part of the bucket that a turn lists."""
        for key in store.keys(layout.INCOMING):
            store.s3.delete_object(Bucket=store.config.bucket, Key=key)


@pytest.fixture
def no_delay(deployed: Deployed) -> Iterator[Any]:
    """The queue of the stack, which hands out notices at once."""
    sqs = deployed.session.client("sqs")
    url = sqs.get_queue_url(QueueName=deployed.config.arrivals_queue)["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "0"})
    yield url
    sqs.purge_queue(QueueUrl=url)
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "300"})


def schedule(at: datetime) -> bytes:
    """The event of EventBridge's schedule."""
    event = {"source": "aws.events", "detail-type": "Scheduled Event", "time": at.isoformat(), "detail": {}}
    return json.dumps(event).encode()


def findings(deployed: Deployed) -> float | None:
    """The sum of the metric that the alarm looks at; None before there is any."""
    now = datetime.now(UTC)
    points = deployed.session.client("cloudwatch").get_metric_statistics(
        Namespace=metric.NAMESPACE,
        MetricName=METRIC,
        Dimensions=[{"Name": metric.STACK, "Value": deployed.config.stack}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=1),
        Period=3600,
        Statistics=["Sum"],
    )["Datapoints"]
    return sum(one["Sum"] for one in points) if points else None


def test_function_recovers_what_ses_told_the_topic_of_and_counts_it(
    deployed: Deployed, store: Store, no_delay: str
) -> None:
    receipt = store.receive()
    sns = deployed.session.client("sns")
    (topic,) = [
        one["TopicArn"]
        for one in sns.list_topics()["Topics"]
        if one["TopicArn"].endswith(f":{deployed.config.stack}-arrivals")
    ]
    before = findings(deployed) or 0
    sns.publish(TopicArn=topic, Message=notice(receipt))
    client = deployed.session.client("lambda")

    def recovered() -> bool | None:
        answer = client.invoke(FunctionName=deployed.config.function, Payload=schedule(datetime.now(UTC)))
        assert not answer.get("FunctionError"), answer["Payload"].read()
        return bool(store.entries(receipt)) or None

    poll(recovered, "the entry of the message")
    assert len(store.entries(receipt)) == 1
    poll(lambda: True if (findings(deployed) or 0) == before + 1 else None, "the metric")


def test_schedule_starts_the_function(deployed: Deployed) -> None:
    events, logs = deployed.session.client("events"), deployed.session.client("logs")
    rule = f"{deployed.config.stack}-reconciler"
    made = events.describe_rule(Name=rule)
    assert made["ScheduleExpression"] == "cron(0/15 * * * ? *)" and made["State"] == "ENABLED"
    group = f"/aws/lambda/{deployed.config.function}"

    def turns() -> int:
        found = logs.filter_log_events(logGroupName=group)["events"]
        return len([one for one in found if '"reconciled"' in one["message"]])

    targets = events.list_targets_by_rule(Rule=rule)["Targets"]
    assert [one["Arn"].rpartition(":")[2] for one in targets] == [deployed.config.function]
    # The same on another schedule, since nobody waits for a quarter of an hour.
    before, soon = turns(), f"{rule}-soon"
    events.put_rule(Name=soon, ScheduleExpression="rate(1 minute)", State="ENABLED")
    events.put_targets(Rule=soon, Targets=targets)
    try:
        until(lambda: turns() > before, "a turn of the schedule", 90)
    finally:
        events.remove_targets(Rule=soon, Ids=[one["Id"] for one in targets])
        events.delete_rule(Name=soon)
