"""Metrics that functions write into their log, as CloudWatch takes them out of it; LocalStack does not.

Source: Amazon CloudWatch User Guide, "Specification: Embedded metric format".
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from localstack.aws.connect import connect_to
from localstack.runtime import hooks
from localstack.services.logs.provider import LogsProvider
from localstack.utils.patch import patch

LOG = logging.getLogger(__name__)

_MARK = '"_aws"'


def embedded(message: str) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    """The namespaces that a line of a log has metrics for, and the data for each; nothing if it has none."""
    if _MARK not in message:
        return
    try:
        document = json.loads(message)
        metadata = document["_aws"]
        at = datetime.fromtimestamp(metadata["Timestamp"] / 1000, UTC)
        for directive in metadata["CloudWatchMetrics"]:
            data = [
                {
                    "MetricName": metric["Name"],
                    "Dimensions": [{"Name": one, "Value": str(document[one])} for one in names],
                    "Timestamp": at,
                    "Value": float(document[metric["Name"]]),
                    "Unit": metric.get("Unit", "None"),
                }
                for metric in directive["Metrics"]
                for names in directive["Dimensions"]
            ]
            yield directive["Namespace"], data
    except (ValueError, KeyError, TypeError):
        # CloudWatch says nothing of it either: it stays a line of the log.
        return


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def take_metrics() -> None:
    """Look into every event that is put into a log."""

    @patch(LogsProvider.put_log_events)  # type: ignore[untyped-decorator]
    def put_log_events(original: Any, self: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
        answer = original(self, context, *args, **kwargs)
        events = kwargs.get("log_events") or (args[2] if len(args) > 2 else ())
        for namespace, data in (found for one in events for found in embedded(one["message"])):
            try:
                client = connect_to(aws_access_key_id=context.account_id, region_name=context.region)
                client.cloudwatch.put_metric_data(Namespace=namespace, MetricData=list(data))
            except Exception:
                LOG.exception("metrics of a log not put: %s", namespace)
        return answer
