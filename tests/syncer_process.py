"""The real syncer in a process of its own, on a bucket and a queue of its own in LocalStack."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.localstack_process import REGION, LocalStackProcess
from tests.log_simulator import entry_of, until
from twinmail.layout import manifest_key
from twinmail.manifest import Entry

PROJECT = Path(__file__).parents[1]


class Log:
    """A bucket that tells a topic about manifest entries, and the queue of one server behind it."""

    def __init__(self, cloud: LocalStackProcess, raw: bool = True) -> None:
        self.stack = f"t{uuid.uuid4().hex[:12]}"
        self.bucket = f"{self.stack}-mail"
        self.endpoint = cloud.endpoint
        self._s3, self._sqs, self._sns = map(cloud.client, ("s3", "sqs", "sns"))
        self._raw = raw
        self._number = 0
        self._queue = ""
        self.make()

    def make(self) -> None:
        """Make everything that is not there."""
        self._s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        topic = self._sns.create_topic(Name=f"{self.stack}-manifest")["TopicArn"]
        self._queue = self._sqs.create_queue(QueueName=f"{self.stack}-primary")["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        attributes = {"RawMessageDelivery": "true"} if self._raw else {}
        self._sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=attributes)
        rules = [{"Name": "prefix", "Value": "manifest/"}]
        told = {
            "TopicArn": topic,
            "Events": ["s3:ObjectCreated:*"],
            "Filter": {"Key": {"FilterRules": rules}},
        }
        self._s3.put_bucket_notification_configuration(
            Bucket=self.bucket, NotificationConfiguration={"TopicConfigurations": [told]}
        )

    def remove(self) -> None:
        """Remove the bucket with all that is in it, and the queue."""
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            for one in page.get("Contents", ()):
                self._s3.delete_object(Bucket=self.bucket, Key=one["Key"])
        self._s3.delete_bucket(Bucket=self.bucket)
        self._sqs.delete_queue(QueueUrl=self._queue)

    def add(self, body: bytes = b"Subject: x\n\nbody\n", mailboxes: tuple[str, ...] = ("ann",)) -> str:
        """Commit one message, and return its SES message id."""
        self._number += 1
        ses_id, now = f"m{self._number:04}", datetime.now(UTC)
        self.commit(entry_of(ses_id, body, now, mailboxes), body)
        return ses_id

    def commit(self, entry: Entry, body: bytes) -> None:
        """Commit *entry*, whose message is *body*."""
        self._s3.put_object(Bucket=self.bucket, Key=entry.key, Body=body)
        key = manifest_key(entry.ses_id, datetime.now(UTC))
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=entry.to_bytes())

    def waiting(self) -> int:
        """Notices that were not acknowledged."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    @property
    def configuration(self) -> str:
        return (
            f'region = "{REGION}"\nstack = "{self.stack}"\nbucket = "{self.bucket}"\n'
            'domains = ["example.org"]\n[mailboxes.ann]\naddresses = ["*@example.org"]\n'
            '[servers.primary]\nplatform = "linux/amd64"\nhost = "primary.example.org"\n'
        )


class SyncerProcess:
    """The syncer of *log*, started and ended at will on the same folders.

    Attributes:
        inside: where the folders are, as this test sees them (another place than the syncer's, if that
            has a mount namespace of its own).
    """

    def __init__(self, log: Log, root: Path, wrapper: Sequence[str] = ()) -> None:
        self.log = log
        self.root = self.inside = root
        self._wrapper = tuple(wrapper)
        self._output = root.parent / f"{root.name}.log"
        self.config = root.parent / f"{root.name}.toml"
        self.config.write_text(log.configuration)
        for name in ("mail", "state"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._seen = 0

    def start(self, *options: str) -> "SyncerProcess":
        self._seen = self._output.stat().st_size if self._output.exists() else 0
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PROJECT / "src"),
            "AWS_ENDPOINT_URL": self.log.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "MALLOC_ARENA_MAX": "2",
        }
        command = [
            *(*self._wrapper, sys.executable, "-m", "twinmail.sync"),
            *("--config", str(self.config), "--server", "primary"),
            *("--mail", str(self.root / "mail"), "--state", str(self.root / "state")),
            *("--health-port", "0", "--poll-seconds", "0.5", *options),
        ]
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(command, env=environment, stderr=output)
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def wait(self, seconds: float = 60) -> int:
        """Wait for its end, and return the exit code (negative: a signal)."""
        assert self._process is not None
        code = self._process.wait(seconds)
        self._process = None
        return code

    def stop(self) -> int:
        """End it by SIGTERM, and return the exit code; it has 5 seconds (and the machine may be slow)."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        return self.wait(20)

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of this run about *event*."""
        with self._output.open("rb") as file:
            file.seek(self._seen)
            lines = [json.loads(line) for line in file.read().splitlines() if line.startswith(b"{")]
        return [line for line in lines if line["event"] == event]

    def status(self) -> dict[str, Any]:
        """What its health port tells; empty while it does not listen."""
        with contextlib.suppress(IndexError, urllib.error.URLError, ConnectionError, TimeoutError):
            address = self.said("started")[0]["health"]
            with urllib.request.urlopen(f"http://{address}/status", timeout=10) as answer:
                return dict(json.loads(answer.read()))
        return {}

    def files(self, mailbox: str = "ann") -> list[Path]:
        """The messages of *mailbox*, wherever they are in it."""
        return sorted((self.inside / "mail" / mailbox / "Maildir").rglob("*.twinmail,*"))

    def until_files(self, count: int, mailbox: str = "ann") -> None:
        until(lambda: len(self.files(mailbox)) == count, f"{count} files for {mailbox}", 60)

    def until_settled(self) -> None:
        """Wait until the log was listed and audited to its end, and nothing is in flight."""
        until(lambda: self.status().get("ready") and self.said("audited"), "listed", 60)
        until(lambda: self.status()["backlog"] == 0, "carried", 60)

    def until_acknowledged(self) -> None:
        """Wait until the queue is empty; not after a kill, which leaves notices invisible for minutes."""
        until(lambda: self.log.waiting() == 0, "acknowledged", 60)
