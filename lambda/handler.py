"""The entry point of the Lambda function: SES invokes it for every message it has stored."""

from pathlib import Path
from typing import Any

import boto3
import botocore.config

from twinmail import invocation
from twinmail.config import FILE, Config
from twinmail.index import Index
from twinmail.processor import Processor

CONFIG = Config.load(Path(__file__).with_name(FILE))

# The function has two minutes: a service that hangs must leave time to try again.
CALLS = botocore.config.Config(
    connect_timeout=5, read_timeout=15, retries={"mode": "standard", "total_max_attempts": 4}
)
PROCESSOR = Processor(
    CONFIG, boto3.client("s3", config=CALLS), Index(boto3.client("dynamodb", config=CALLS), CONFIG.table)
)


def handle(event: dict[str, Any], context: object) -> None:
    """Process every message of *event*; an error makes Lambda retry the whole event, which is safe."""
    invocation.run(event, PROCESSOR.process, lambda line: print(line, flush=True))
