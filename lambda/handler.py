"""The entry points of the Lambda functions.

SES invokes `handle` for each message it stored, SNS for what became of sent ones, a schedule for what was
left out. Another schedule invokes `compact`.
"""

from functools import partial
from pathlib import Path
from typing import Any

import boto3
import botocore.config

from twinmail import invocation
from twinmail.config import FILE, Config
from twinmail.index import Index
from twinmail.processor import Processor
from twinmail.reconciler import turn
from twinmail.reconciler.arrivals import Arrivals
from twinmail.sending_report import SendingReport

CONFIG = Config.load(Path(__file__).with_name(FILE))

# The function has two minutes: a service that hangs must leave time to try again.
CALLS = botocore.config.Config(
    connect_timeout=5, read_timeout=15, retries={"mode": "standard", "total_max_attempts": 4}
)
S3 = boto3.client("s3", config=CALLS)
PROCESSOR = Processor(CONFIG, S3, Index(boto3.client("dynamodb", config=CALLS), CONFIG.table))
REPORT = SendingReport(CONFIG, S3, PROCESSOR)
LOG = partial(print, flush=True)


def handle(event: dict[str, Any], context: Any) -> None:
    """Process everything in *event*; an error makes Lambda retry the whole event, which is safe."""
    if turn.is_schedule(event):
        # Here alone: no message waits for what only a turn needs.
        arrivals = Arrivals(boto3.client("sqs", config=CALLS), CONFIG.arrivals_queue)
        turn.start(event, context.get_remaining_time_in_millis, PROCESSOR, arrivals, LOG)
    else:
        invocation.run(event, PROCESSOR.process, REPORT.report, LOG)


def compact(event: dict[str, Any], context: Any) -> None:
    """Fold past days into packs; what an error leaves undone is done in the next turn."""
    from twinmail.packs import compactor, originals

    many = CALLS.merge(botocore.config.Config(max_pool_connections=originals.AT_ONCE))
    s3 = boto3.client("s3", config=many)
    compactor.start(event, context.get_remaining_time_in_millis, CONFIG, s3, LOG)
