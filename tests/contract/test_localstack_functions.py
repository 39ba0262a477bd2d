"""How functions run in LocalStack: what a caller sees of every way in which one can end, retries, and the log."""

import io
import json
import uuid
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.edge_process import poll
from tests.localstack_process import LocalStackProcess

ROLE = "arn:aws:iam::000000000000:role/function-test"
ENVIRONMENTS = 4

CODE = """
import os, time
import boto3

def handler(event, context):
    print("got", event)
    if "sleep" in event:
        time.sleep(event["sleep"])
    if "exit" in event:
        os._exit(event["exit"])
    if "signal" in event:
        os.kill(os.getpid(), event["signal"])
    if "fill" in event:
        held = [bytearray(1 << 20) for _ in range(event["fill"])]
        time.sleep(30)
    if "raise" in event:
        raise ValueError(event["raise"])
    if "count" in event:
        # One object an attempt; the first so many of them fail.
        s3, attempts = boto3.client("s3"), event["count"]
        prefix = f"{context.aws_request_id}/"
        tried = s3.list_objects_v2(Bucket=attempts, Prefix=prefix).get("KeyCount", 0)
        s3.put_object(Bucket=attempts, Key=f"{prefix}{tried}", Body=b"")
        if tried < event["fail"]:
            os._exit(1) if event.get("crash") else 1 / 0
    left = context.get_remaining_time_in_millis()
    return {"pid": os.getpid(), "left": left, "region": os.environ["AWS_REGION"], "name": context.function_name}
"""


class Function:
    """A function of its own for one test."""

    def __init__(self, localstack: LocalStackProcess, code: str, **options: Any) -> None:
        self.name = f"function-{uuid.uuid4().hex[:12]}"
        self.client = localstack.client("lambda")
        self._logs = localstack.client("logs")
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("index.py", code)
        self.client.create_function(
            **{
                "FunctionName": self.name,
                "Runtime": "python3.13",
                "Architectures": ["arm64"],
                "Handler": "index.handler",
                "Role": ROLE,
                "Timeout": 30,
                "MemorySize": 256,
                "Code": {"ZipFile": archive.getvalue()},
                **options,
            }
        )
        self.client.get_waiter("function_active_v2").wait(FunctionName=self.name)

    def call(self, event: dict[str, Any]) -> tuple[Any, str | None]:
        """Invoke it and wait; return the answer and the kind of error."""
        answer = self.client.invoke(FunctionName=self.name, Payload=json.dumps(event).encode())
        return json.loads(answer["Payload"].read()), answer.get("FunctionError")

    def send(self, event: dict[str, Any]) -> None:
        """Invoke it without waiting."""
        answer = self.client.invoke(
            FunctionName=self.name, InvocationType="Event", Payload=json.dumps(event).encode()
        )
        assert answer["StatusCode"] == 202

    def log(self, text: str) -> list[str]:
        """The lines of its log, once one of them has *text*."""

        def lines() -> list[str] | None:
            found = self._logs.filter_log_events(logGroupName=f"/aws/lambda/{self.name}")["events"]
            messages = [one["message"] for one in found]
            return messages if any(text in one for one in messages) else None

        group = {"logGroupNamePrefix": f"/aws/lambda/{self.name}"}
        poll(lambda: self._logs.describe_log_groups(**group)["logGroups"] or None, "the log group")
        return poll(lines, f"a log line with {text!r}")


Make = Callable[..., Function]


@pytest.fixture(scope="module")
def make(localstack: LocalStackProcess) -> Make:
    return lambda code=CODE, **options: Function(localstack, code, **options)


@pytest.fixture(scope="module")
def function(make: Make) -> Function:
    """One that several tests use one after another, as they find it."""
    return make(Timeout=2)


@pytest.fixture
def attempts(localstack: LocalStackProcess) -> Any:
    """A bucket that holds an object for every attempt."""
    name = f"attempts-{uuid.uuid4().hex[:12]}"
    s3 = localstack.client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})

    class Attempts:
        bucket = name

        def count(self) -> int:
            return int(s3.list_objects_v2(Bucket=name)["KeyCount"])

    return Attempts()


@pytest.fixture
def queue(localstack: LocalStackProcess) -> Any:
    """A queue for what failed."""
    name, sqs = f"failed-{uuid.uuid4().hex[:12]}", localstack.client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]

    class Queue:
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

        def receive(self) -> Any:
            wanted = {"QueueUrl": url, "WaitTimeSeconds": 1, "MessageAttributeNames": ["All"]}
            (message,) = poll(lambda: sqs.receive_message(**wanted).get("Messages"), "a dead letter")
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return message

        def is_empty(self) -> bool:
            return "Messages" not in sqs.receive_message(QueueUrl=url)

    return Queue()


def test_answer(function: Function) -> None:
    answer, error = function.call({"hello": "ü"})
    assert error is None
    assert (answer["region"], answer["name"]) == ("eu-central-1", function.name)
    assert 0 < answer["left"] <= 2000
    assert any("got {'hello': 'ü'}" in line for line in function.log("REPORT RequestId"))


def test_a_warm_process_is_used_again(function: Function) -> None:
    first, _ = function.call({})
    second, _ = function.call({})
    assert first["pid"] == second["pid"]


def test_an_exception_is_an_error_of_the_function(function: Function) -> None:
    answer, error = function.call({"raise": "no such thing"})
    assert (error, answer["errorType"], answer["errorMessage"]) == (
        "Unhandled",
        "ValueError",
        "no such thing",
    )
    assert function.call({})[1] is None


def test_time_out(function: Function) -> None:
    answer, error = function.call({"sleep": 60})
    assert (error, answer["errorType"]) == ("Unhandled", "Sandbox.Timedout")
    assert answer["errorMessage"].endswith("Error: Task timed out after 2.00 seconds")
    assert any("got {'sleep': 60}" in line for line in function.log("Task timed out after 2.00 seconds"))
    assert function.call({})[1] is None


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"exit": 3}, "Runtime exited with error: exit status 3"),
        ({"exit": 0}, "Runtime exited without providing a reason"),
        ({"signal": 9}, "Runtime exited with error: signal: killed"),
    ],
)
def test_crash(function: Function, event: dict[str, int], message: str) -> None:
    answer, error = function.call(event)
    assert (error, answer["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert answer["errorMessage"].endswith(f"Error: {message}")
    assert function.call({})[1] is None


def test_too_much_memory(make: Make) -> None:
    function = make(MemorySize=128)
    answer, error = function.call({"fill": 250})
    assert (error, answer["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert answer["errorMessage"].endswith("signal: killed")
    assert function.call({})[1] is None


def test_an_error_of_the_module_is_the_answer_of_every_invocation(make: Make) -> None:
    function = make("print('importing')\nraise RuntimeError('cannot start')\n")
    for _ in range(2):
        answer, error = function.call({})
        assert (error, answer["errorType"], answer["errorMessage"]) == (
            "Unhandled",
            "RuntimeError",
            "cannot start",
        )
    assert any("importing" in line for line in function.log("importing"))


def test_a_module_that_exits(make: Make) -> None:
    answer, error = make("raise SystemExit(4)").call({})
    assert (error, answer["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert answer["errorMessage"].endswith("exit status 4")


def test_a_missing_handler(make: Make) -> None:
    answer, error = make(Handler="index.other").call({})
    assert (error, answer["errorType"]) == ("Unhandled", "Runtime.HandlerNotFound")


def test_concurrent_invocations_share_a_few_processes(make: Make) -> None:
    function = make()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: function.call({"sleep": 0.05}), range(32)))
    assert [error for _, error in answers] == [None] * 32
    assert 1 < len({answer["pid"] for answer, _ in answers}) <= ENVIRONMENTS


@pytest.mark.parametrize("crash", [False, True])
def test_a_failing_event_is_tried_three_times_and_then_a_dead_letter(
    make: Make, attempts: Any, queue: Any, crash: bool
) -> None:
    function = make(DeadLetterConfig={"TargetArn": queue.arn})
    event = {"count": attempts.bucket, "fail": 9, "crash": crash}
    function.send(event)
    message = queue.receive()
    assert json.loads(message["Body"]) == event
    assert attempts.count() == 3
    assert queue.is_empty()


def test_an_event_that_succeeds_at_last_is_no_dead_letter(make: Make, attempts: Any, queue: Any) -> None:
    function = make(DeadLetterConfig={"TargetArn": queue.arn})
    function.send({"count": attempts.bucket, "fail": 2})
    poll(lambda: True if attempts.count() == 3 else None, "three attempts")
    function.log("'fail': 2}")
    assert queue.is_empty()


def test_the_number_of_retries_and_the_destination_are_configurable(
    make: Make, attempts: Any, queue: Any
) -> None:
    function = make()
    function.client.put_function_event_invoke_config(
        FunctionName=function.name,
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": queue.arn}},
    )
    function.send({"count": attempts.bucket, "fail": 9})
    record = json.loads(queue.receive()["Body"])
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 1
    assert record["responsePayload"]["errorType"] == "ZeroDivisionError"
    assert attempts.count() == 1


def test_new_code_is_what_runs(make: Make) -> None:
    function = make("def handler(event, context): return 'old'")
    assert function.call({}) == ("old", None)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("index.py", "def handler(event, context): return 'new'")
    function.client.update_function_code(FunctionName=function.name, ZipFile=archive.getvalue())
    function.client.get_waiter("function_updated_v2").wait(FunctionName=function.name)
    assert function.call({}) == ("new", None)


def test_many_events_all_arrive(make: Make, attempts: Any) -> None:
    function = make()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: function.send({"count": attempts.bucket, "fail": 0}), range(60)))
    poll(lambda: True if attempts.count() == 60 else None, "60 events")
