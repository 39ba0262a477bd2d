"""A number for CloudWatch as a line of the function's log: no call, and no permission, is needed for it.

Source: Amazon CloudWatch User Guide, "Specification: Embedded metric format". Pure.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

NAMESPACE = "Twinmail"
STACK = "Stack"
"""The one dimension of our metrics."""


def line(name: str, value: int, stack: str, at: datetime, about: Mapping[str, Any]) -> str:
    """The metric *name* of *stack*; *about* is for who reads the log."""
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [[STACK]],
        "Metrics": [{"Name": name, "Unit": "Count"}],
    }
    aws = {"Timestamp": int(at.timestamp() * 1000), "CloudWatchMetrics": [directive]}
    return json.dumps({"_aws": aws, STACK: stack, name: value, **about})
