"""The compactor's contract, against LocalStack; and the function as the schedule starts it."""

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.compactor_contract import NOW, CompactorContract, Log, empty_log
from tests.contract.deployed import Deployed
from tests.edge_process import poll
from tests.log_contract import Store
from twinmail import metric
from twinmail.packs.compactor import METRIC


@pytest.fixture(scope="module")
def store(deployed: Deployed) -> Store:
    return Store(deployed.config, deployed.session.client("s3"), deployed.session.client("dynamodb"))


class TestCompactor(CompactorContract):
    """The contract, with LocalStack behind it."""


def schedule(days: int = 0) -> bytes:
    """The event of EventBridge's schedule, *days* from now."""
    at = (NOW + timedelta(days=days)).isoformat()
    event = {"source": "aws.events", "detail-type": "Scheduled Event", "time": at, "detail": {}}
    return json.dumps(event).encode()


def packed(deployed: Deployed) -> float:
    """The sum of the metric."""
    points = deployed.session.client("cloudwatch").get_metric_statistics(
        Namespace=metric.NAMESPACE,
        MetricName=METRIC,
        Dimensions=[{"Name": metric.STACK, "Value": deployed.config.stack}],
        StartTime=NOW - timedelta(hours=1),
        EndTime=NOW + timedelta(hours=1),
        Period=3600,
        Statistics=["Sum"],
    )["Datapoints"]
    return float(sum(one["Sum"] for one in points))


def test_function_packs_what_the_processor_wrote_and_counts_it(deployed: Deployed, store: Store) -> None:
    before = packed(deployed)
    with empty_log(store) as log:
        packs_what_was_written(deployed, store, log)
    poll(lambda: True if packed(deployed) == before + 3 else None, "the metric")


def packs_what_was_written(deployed: Deployed, store: Store, log: Log) -> None:
    receipts = [store.receive(verdicts={"virus": virus}) for virus in ("PASS", "FAIL", "PASS")]
    for receipt in receipts:
        store.processor().process(receipt)
    invoke = deployed.session.client("lambda").invoke
    for days in (1, 100, 101):
        answer = invoke(FunctionName=deployed.config.compactor, Payload=schedule(days))
        assert not answer.get("FunctionError"), answer["Payload"].read()
        assert len(log.indexes()) == (days > 1), "it waits for more until it is old enough"
    found = log.packed()
    assert len(found) == 6 and log.tagged() == set(found)
    for receipt in receipts:
        (entry,) = store.entries(receipt)
        assert found[entry.key] == store.body(entry.key)


def test_schedule_starts_the_compactor_each_night(deployed: Deployed) -> None:
    events, name = deployed.session.client("events"), deployed.config.compactor
    rule = events.describe_rule(Name=name)
    assert (rule["ScheduleExpression"], rule["State"]) == ("cron(23 2 * * ? *)", "ENABLED")
    targets = events.list_targets_by_rule(Rule=name)["Targets"]
    assert [one["Arn"].rpartition(":")[2] for one in targets] == [name]


def test_operator_hears_of_a_turn_that_fails(deployed: Deployed) -> None:
    client: Any = deployed.session.client
    sqs, sns, name = client("sqs"), client("sns"), "compactor-failed"
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    (topic,) = [
        one["TopicArn"]
        for one in sns.list_topics()["Topics"]
        if one["TopicArn"].endswith(f":{deployed.config.alarm_topic}")
    ]
    subscription = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)["SubscriptionArn"]
    try:
        client("lambda").invoke(
            FunctionName=deployed.config.compactor, InvocationType="Event", Payload=b'{"time": "never"}'
        )
        told = poll(
            lambda: sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5).get("Messages"), "what it says"
        )
        assert "NoSchedule" in told[0]["Body"] and deployed.config.compactor in told[0]["Body"]
    finally:
        sns.unsubscribe(SubscriptionArn=subscription)
        sqs.delete_queue(QueueUrl=url)
