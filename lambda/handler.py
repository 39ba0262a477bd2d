"""The entry point of the Lambda function: SES invokes it for every message it has stored."""

import json
import time
from pathlib import Path
from typing import Any

import boto3

from twinmail import layout
from twinmail.config import FILE, Config
from twinmail.index import Index
from twinmail.processor import Processor
from twinmail.ses_event import receipts

CONFIG = Config.load(Path(__file__).with_name(FILE))
PROCESSOR = Processor(CONFIG, boto3.client("s3"), Index(boto3.client("dynamodb"), CONFIG.table))


def handle(event: dict[str, Any], context: object) -> None:
    """Process every message of *event*; an error makes Lambda retry the whole event, which is safe."""
    for receipt in receipts(event):
        if receipt.ses_id == layout.SETUP_NOTIFICATION:
            continue
        started = time.monotonic()
        outcome = PROCESSOR.process(receipt)
        line = {
            "event": "repeated" if outcome.repeated else "committed",
            "ses_id": receipt.ses_id,
            "manifest": outcome.manifest_key,
            "deliveries": [f"{one.mailbox}/{one.folder}" for one in outcome.entry.deliveries]
            if outcome.entry
            else [],
            "unknown": outcome.unknown,
            "milliseconds": round((time.monotonic() - started) * 1000),
        }
        print(json.dumps(line), flush=True)
