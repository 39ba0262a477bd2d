"""That each fault of the cloud really happens, as AWS has it, and is over when it ends."""

import io
import json
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.config import Config as BotoConfig
from botocore.exceptions import ClientError

from tests.edge_process import poll
from tests.localstack_process import LocalStackProcess, free_port
from twinmail.chaos import cloud_faults
from twinmail.chaos.cloud_faults import OPTIONS, NotSwitched, Point
from twinmail.chaos.proxy import Proxy
from twinmail.runtime.interface import Runtime

ROLE = "arn:aws:iam::000000000000:role/function-test"

CODE = """
import os, time
import boto3

s3 = boto3.client("s3")
cold = True

def handler(event, context):
    global cold
    first, cold = cold, False
    if "bucket" in event:
        name = f"{event['name']}/{context.aws_request_id}/"
        # One object an attempt, in the order in which they began.
        s3.put_object(Bucket=event["bucket"], Key=f"{name}{time.time():.6f}", Body=b"began")
    if "seconds" in event:
        time.sleep(event["seconds"])
    return {"cold": first, "endpoint": s3.meta.endpoint_url}
"""


def client(service: str, endpoint: str) -> Any:
    """A client that tries once."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="eu-central-1",
        config=BotoConfig(retries={"total_max_attempts": 1}),
    )


class Cloud:
    """A LocalStack with points for faults, a function in it, and the proxy between the two."""

    seed = 1

    def __init__(self, runtime: Runtime, folder: Any) -> None:
        # The proxy is there first: the function is told of it.
        port = free_port()
        self.proxy = Proxy(port).start()
        options = (*OPTIONS, "--function-endpoint", self.proxy.url)
        self.localstack = LocalStackProcess(runtime, folder, "localstack-faults", options=options, port=port)
        self.localstack.start()
        self.endpoint = self.localstack.endpoint
        self.proxies: Mapping[str, Proxy] = {cloud_faults.FUNCTION: self.proxy}
        self.function = self.localstack.client("lambda")
        self.s3 = self.localstack.client("s3")
        self.bucket = self.localstack.versioned_bucket(f"attempts-{uuid.uuid4().hex[:12]}")
        self.sqs = self.localstack.client("sqs")
        self.failed = self.sqs.create_queue(QueueName="failed")["QueueUrl"]
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("index.py", CODE)
        self.function.create_function(
            FunctionName="victim",
            Runtime="python3.13",
            Handler="index.handler",
            Role=ROLE,
            Timeout=30,
            MemorySize=256,
            Code={"ZipFile": archive.getvalue()},
            DeadLetterConfig={"TargetArn": "arn:aws:sqs:eu-central-1:000000000000:failed"},
        )
        self.function.get_waiter("function_active_v2").wait(FunctionName="victim")

    def call(self, **event: Any) -> tuple[Any, str | None]:
        """Invoke the function and wait; return the answer and the kind of error."""
        answer = self.function.invoke(FunctionName="victim", Payload=json.dumps(event).encode())
        return json.loads(answer["Payload"].read()), answer.get("FunctionError")

    def send(self, name: str, **event: Any) -> None:
        """Invoke it as SES does."""
        event = {"bucket": self.bucket, "name": name, "Records": [{"eventSource": "aws:ses"}], **event}
        self.function.invoke(
            FunctionName="victim", InvocationType="Event", Payload=json.dumps(event).encode()
        )

    def attempts(self, name: str) -> list[str]:
        """The keys of what attempts of the event *name* wrote, in order of their time."""
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"{name}/").get("Contents", ())
        return sorted((one["Key"] for one in listed), key=lambda key: key.rpartition("/")[2])

    def await_attempts(self, name: str, count: int) -> list[str]:
        """As `attempts`, once there are *count*."""
        return poll(
            lambda: found if len(found := self.attempts(name)) >= count else None, f"{count} of {name}"
        )

    def fault(self, name: str) -> Any:
        """The fault of that name, as the runner has it."""
        return next(one for one in cloud_faults.faults(self) if one.name == name)

    def point(self, name: str, **options: Any) -> Point:
        """A fault inside LocalStack, with a certain end."""
        chosen = {"seed": "1", "probability": 1.0, "seconds": 0.1, **options}
        return Point(name, self.endpoint, chosen)


@pytest.fixture(scope="module")
def cloud(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    found = Cloud(runtime, tmp_path_factory.mktemp("faults"))
    yield found
    found.proxy.stop()
    found.localstack.stop()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("function-killed", "Runtime.ExitError", "Runtime exited with error: signal: killed"),
        ("function-out-of-memory", "Runtime.ExitError", "Runtime exited with error: signal: killed"),
        ("function-timed-out", "Sandbox.Timedout", "Task timed out after 30.00 seconds"),
    ],
)
def test_a_function_ends_in_the_middle_and_its_event_is_tried_again(
    cloud: Cloud, name: str, kind: str, message: str
) -> None:
    fault = cloud.point(name, count=1)
    fault.begin()
    answer, error = cloud.call(seconds=5)
    assert (error, answer["errorType"]) == ("Unhandled", kind)
    assert answer["errorMessage"].endswith(f"Error: {message}")
    fault.end()
    assert fault.happened == 1
    # The event of SES: one attempt ends like that, the second one does not.
    fault = cloud.point(name, count=1, seconds=0.001)
    fault.begin()
    cloud.send(name, seconds=0.1)
    cloud.await_attempts(name, 1)
    fault.end()
    assert fault.happened == 1
    assert cloud.call()[1] is None


def test_an_event_whose_function_always_dies_is_a_dead_letter_after_three_attempts(cloud: Cloud) -> None:
    fault = cloud.point("function-killed", seconds=0.001)
    fault.begin()
    cloud.send("doomed", seconds=1)
    wanted = {"QueueUrl": cloud.failed, "WaitTimeSeconds": 1}
    (letter,) = poll(lambda: cloud.sqs.receive_message(**wanted).get("Messages"), "the dead letter")
    assert json.loads(letter["Body"])["name"] == "doomed"
    fault.end()
    assert fault.happened == 3


def test_a_cold_start(cloud: Cloud) -> None:
    cloud.call()
    assert cloud.call() == ({"cold": False, "endpoint": cloud.proxy.url}, None)
    fault = cloud.fault("function-cold")
    fault.begin()
    assert cloud.call()[0]["cold"] is True
    fault.end()
    assert cloud.call()[0]["cold"] is False
    assert fault.happened == 1


def test_a_throttled_function(cloud: Cloud) -> None:
    fault = cloud.point("function-throttled", count=3)
    fault.begin()
    with pytest.raises(ClientError) as caught:
        client("lambda", cloud.endpoint).invoke(FunctionName="victim", Payload=b"{}")
    assert caught.value.response["Error"]["Code"] == "TooManyRequestsException"
    # An event is accepted, and run once there is room; being throttled is no attempt.
    cloud.send("throttled")
    assert len(cloud.await_attempts("throttled", 1)) == 1
    fault.end()
    assert fault.happened == 3


def test_events_of_ses_are_dropped_duplicated_delayed_and_reordered(cloud: Cloud) -> None:
    # Active for one event alone, it happens, however small its share.
    dropped = cloud.point("events-dropped", probability=0.001)
    dropped.begin()
    cloud.send("dropped")
    dropped.end()
    assert dropped.happened == 1

    duplicated = cloud.point("events-duplicated", count=1)
    duplicated.begin()
    cloud.send("duplicated")
    keys = cloud.await_attempts("duplicated", 2)
    # One request to Lambda, two deliveries of it.
    assert len({one.rpartition("/")[0] for one in keys}) == 1
    duplicated.end()

    delayed = cloud.point("events-delayed", count=1, seconds=3600.0)
    delayed.begin()
    cloud.send("delayed")
    cloud.send("next")
    cloud.await_attempts("next", 1)
    assert not cloud.attempts("delayed")
    assert json.loads(cloud_faults.ask(cloud.endpoint, "GET"))["held"] == 1
    # What is held back comes when the fault ends.
    delayed.end()
    cloud.await_attempts("delayed", 1)

    reordered = cloud.point("events-reordered", seconds=3600.0)
    reordered.begin()
    for number in range(5):
        cloud.send(f"reordered/{number}")
    # Four environments: the first one to begin is one of the last to be sent.
    first = cloud.await_attempts("reordered", 5)[0]
    assert first.split("/")[1] != "0"
    reordered.end()
    assert (duplicated.happened, delayed.happened, reordered.happened) == (1, 1, 5)
    assert not cloud.attempts("dropped")
    cloud.send("healed")
    cloud.await_attempts("healed", 1)


@pytest.mark.parametrize("stream", ["arrivals", "announcements"])
def test_notices_are_dropped_duplicated_delayed_and_reordered(cloud: Cloud, stream: str) -> None:
    sns = cloud.localstack.client("sns")
    name = {"arrivals": "chaos-arrivals", "announcements": "chaos-manifest"}[stream]
    topic = sns.create_topic(Name=name)["TopicArn"]
    url = cloud.sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = f"arn:aws:sqs:eu-central-1:000000000000:{name}"
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})

    def receive(count: int) -> list[str]:
        found: list[str] = []

        def more() -> list[str] | None:
            wanted = {"QueueUrl": url, "WaitTimeSeconds": 1, "MaxNumberOfMessages": 1}
            for one in cloud.sqs.receive_message(**wanted).get("Messages", ()):
                cloud.sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
                found.append(one["Body"])
            return found if len(found) >= count else None

        return poll(more, f"{count} notices")

    def under(fate: str, texts: str, seconds: float = 0.1) -> Point:
        fault = cloud.point(f"{stream}-{fate}", seconds=seconds)
        fault.begin()
        for text in texts:
            sns.publish(TopicArn=topic, Message=text)
        return fault

    faults = [under("dropped", "a")]
    faults[0].end()
    faults.append(under("duplicated", "b"))
    assert receive(2) == ["b", "b"]
    faults[1].end()
    faults.append(under("delayed", "c", 3600.0))
    faults[2].end()
    assert receive(1) == ["c"]
    faults.append(under("reordered", "defgh", 3600.0))
    assert sorted(receive(5)) == list("defgh")
    faults[3].end()
    assert [one.happened for one in faults] == [1, 1, 1, 5]


def test_functions_see_trouble_through_their_proxy(cloud: Cloud) -> None:
    fault = cloud.fault("s3-503")
    fault.begin()
    for number in range(8):
        cloud.send(f"trouble/{number}")
    poll(lambda: True if fault.happened else None, "a request that met it")
    fault.end()
    # The client of the function tries again, and if that does not help, so does Lambda.
    for number in range(8):
        cloud.await_attempts(f"trouble/{number}", 1)


def test_an_entry_that_is_late_comes_after_younger_ones(cloud: Cloud) -> None:
    s3 = client("s3", cloud.proxy.url)
    found = cloud.fault("manifest-late")
    fault = replace(found, rule=replace(found.rule, probability=1.0, count=1, seconds=2.0))
    fault.begin()
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(s3.put_object, Bucket=cloud.bucket, Key="manifest/2026/11/22/1.json", Body=b"{}")
        poll(lambda: True if fault.happened else None, "the late one")
        s3.put_object(Bucket=cloud.bucket, Key="manifest/2026/11/22/2.json", Body=b"{}")
        assert not late.done()
        late.result()
    fault.end()
    times = [
        cloud.s3.head_object(Bucket=cloud.bucket, Key=f"manifest/2026/11/22/{one}.json")["LastModified"]
        for one in (1, 2)
    ]
    assert times[0] > times[1]


def test_every_fault_begins_and_ends_more_than_once(cloud: Cloud) -> None:
    everything = cloud_faults.faults(cloud)
    assert len({one.name for one in everything}) == len(everything) > 40
    for one in everything:
        one.begin()
        one.end()
        one.end()
    assert json.loads(cloud_faults.ask(cloud.endpoint, "GET"))["active"] == []


def test_no_such_control_without_the_option(localstack: LocalStackProcess) -> None:
    fault = Point("events-dropped", localstack.endpoint, {"seed": "1"})
    with pytest.raises(
        NotSwitched, match=r"expected 200 or 204, got 404; LocalStack has this only with --faults"
    ):
        fault.begin()
