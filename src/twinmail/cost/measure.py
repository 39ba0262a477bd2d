"""What the last 30 days used, measured where asking is free.

CloudWatch's own metrics, listings and descriptions cost nothing or next to nothing. Cost Explorer would know
the bill itself, but takes $0.01 for each question, and S3's request metrics $0.30 a month each: neither is
asked, so requests to S3 stay computed.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinmail import layout
from twinmail.config import Config
from twinmail.cost.quantities import DAYS, FUNCTION_MB, GIB, Quantities

WINDOW = timedelta(days=30)
_DAY = 86400
_SCALE = DAYS / WINDOW.days
_SIZE_DAYS = 4
# The second holds what `retention.archive_days` moved.
_STORAGE_TYPES = ("StandardStorage", "GlacierInstantRetrievalStorage")

Client = Callable[[str], Any]


class Measurement:
    """Asks AWS in the place of assuming.

    Args:
        client: makes the client of a service.

    Attributes:
        problems: what could not be measured, and why; it stays assumed.
    """

    def __init__(self, config: Config, client: Client, now: datetime) -> None:
        self._config = config
        self._client = client
        self._now = now
        self.problems: list[str] = []

    def of(self, assumed: Quantities) -> Quantities:
        """*assumed*, with what was measured in its place."""
        used = assumed
        for what, ask in (
            ("messages", self._messages),
            ("storage", self._bucket),
            ("index", self._table),
            ("function", self._function),
            ("queues", self._queues),
            ("logs", self._logs),
            ("SES's plan", self._plan),
            ("zones", self._zones),
        ):
            try:
                used = used.measured(**ask())
            except (BotoCoreError, ClientError) as error:
                self.problems.append(f"{what}: assumed, not measured: {' '.join(str(error).split())[:200]}")
        return used

    def _messages(self) -> dict[str, object]:
        arrived = [
            one["Size"] for part in (layout.PROCESSED, layout.QUARANTINE) for one in self._recent(part)
        ]
        sent = sum(1 for _ in self._recent(layout.SENT))
        found: dict[str, object] = {
            "messages_in": len(arrived) * _SCALE,
            "messages_out": sent * _SCALE,
        }
        if arrived:
            found["message_gb"] = sum(arrived) / len(arrived) / GIB
        return found

    def _recent(self, prefix: str) -> Iterator[Any]:
        """The objects under *prefix* of the window, by the days in their keys."""
        first = f"{prefix}{self._now - WINDOW:%Y/%m/%d}/"
        pages = (
            self._client("s3")
            .get_paginator("list_objects_v2")
            .paginate(Bucket=self._config.bucket, Prefix=prefix, StartAfter=first)
        )
        for page in pages:
            yield from page.get("Contents", ())

    def _bucket(self) -> dict[str, object]:
        octets = bucket_octets(self._config, self._client, self._now)
        return {"bucket_gb": octets / GIB}

    def _table(self) -> dict[str, object]:
        table = self._config.table
        told = self._client("dynamodb").describe_table(TableName=table)["Table"]
        indexes = told.get("GlobalSecondaryIndexes", ())
        octets = told.get("TableSizeBytes", 0) + sum(one.get("IndexSizeBytes", 0) for one in indexes)
        found: dict[str, object] = {"table_gb": octets / GIB}
        for name, metric in (
            ("table_writes", "ConsumedWriteCapacityUnits"),
            ("table_reads", "ConsumedReadCapacityUnits"),
        ):
            dimensions = [{"TableName": table}]
            dimensions += [
                {"TableName": table, "GlobalSecondaryIndexName": one["IndexName"]} for one in indexes
            ]
            sums = [self._sum("AWS/DynamoDB", metric, one) for one in dimensions]
            if any(one is not None for one in sums):
                found[name] = sum(one or 0.0 for one in sums) * _SCALE
        return found

    def _function(self) -> dict[str, object]:
        name = self._config.function
        told = self._client("lambda").get_function_configuration(FunctionName=name)
        memory = told.get("MemorySize", FUNCTION_MB) / 1024
        found: dict[str, object] = {}
        calls = self._sum("AWS/Lambda", "Invocations", {"FunctionName": name})
        milliseconds = self._sum("AWS/Lambda", "Duration", {"FunctionName": name})
        if calls is not None:
            found["function_calls"] = calls * _SCALE
        if milliseconds is not None:
            found["function_gb_seconds"] = milliseconds / 1000 * memory * _SCALE
        return found

    def _queues(self) -> dict[str, object]:
        # Of answers that hold several messages each counts: rather too much than too little.
        metrics = ("NumberOfEmptyReceives", "NumberOfMessagesReceived", "NumberOfMessagesDeleted")
        sums = [
            self._sum("AWS/SQS", metric, {"QueueName": self._config.queue(server)})
            for server in self._config.servers
            for metric in metrics
        ]
        if all(one is None for one in sums):
            return {}
        return {"queue_requests": sum(one or 0.0 for one in sums) * _SCALE}

    def _logs(self) -> dict[str, object]:
        group = f"/aws/lambda/{self._config.function}"
        octets = self._sum("AWS/Logs", "IncomingBytes", {"LogGroupName": group})
        return {} if octets is None else {"log_gb": octets / GIB * _SCALE}

    def _plan(self) -> dict[str, object]:
        account = self._client("sesv2").get_account()
        plan = account.get("PricingAttributes", {}).get("CurrentPlan")
        return {"sending_plan": plan} if plan else {}

    def _zones(self) -> dict[str, object]:
        if not self._config.dns.route53:
            return {}
        pages = self._client("route53").get_paginator("list_hosted_zones").paginate()
        names = [one["Name"].rstrip(".") for page in pages for one in page["HostedZones"]]
        return {"zones": float(sum(name in self._config.domains for name in names))}

    def _sum(self, namespace: str, metric: str, dimensions: dict[str, str]) -> float | None:
        """The sum over the window; None if CloudWatch has nothing."""
        points = _points(
            self._client("cloudwatch"), namespace, metric, dimensions, self._now - WINDOW, self._now, "Sum"
        )
        return sum(one["Sum"] for one in points) if points else None


def bucket_octets(config: Config, client: Client, now: datetime) -> int:
    """Octets in the bucket, earlier versions included: as CloudWatch says each day, else all are listed."""
    sizes = []
    for kind in _STORAGE_TYPES:
        dimensions = {"BucketName": config.bucket, "StorageType": kind}
        start = now - timedelta(days=_SIZE_DAYS)
        points = _points(client("cloudwatch"), "AWS/S3", "BucketSizeBytes", dimensions, start, now, "Average")
        sizes += [max(points, key=lambda one: one["Timestamp"])["Average"]] if points else []
    if sizes:
        return int(sum(sizes))
    pages = client("s3").get_paginator("list_object_versions").paginate(Bucket=config.bucket)
    return sum(one["Size"] for page in pages for one in page.get("Versions", ()))


def _points(
    cloudwatch: Any,
    namespace: str,
    metric: str,
    dimensions: dict[str, str],
    start: datetime,
    end: datetime,
    statistic: str,
) -> list[Any]:
    """Daily figures. GetMetricStatistics: a million questions a month are free, unlike with GetMetricData."""
    answer = cloudwatch.get_metric_statistics(
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        StartTime=start,
        EndTime=end,
        Period=_DAY,
        Statistics=[statistic],
    )
    return list(answer.get("Datapoints", ()))
