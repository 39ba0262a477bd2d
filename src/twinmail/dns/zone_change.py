"""Does to Route 53 what `twinmail.dns.route53` planned.

Source: Route 53 API Reference, ChangeResourceRecordSets and GetChange; Developer Guide, "Quotas".
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinmail.config import Config
from twinmail.dns import health_check, hosted_zone, route53
from twinmail.dns.route53 import Change, Plan
from twinmail.dns.wanted import Wanted
from twinmail.errors import TransientError

Say = Callable[[str], None]

RECORDS, CHARACTERS = 1000, 32_000
"""Of one request at most; those of an UPSERT count twice."""
INSYNC_SECONDS = 300.0
"""Until all name servers of Route 53 have a change, at most; it takes up to a minute."""
_POLL_SECONDS = 3.0
_DONE = "INSYNC"


class Route53Unavailable(TransientError):
    """Route 53 refused a call or did not answer; the same command goes on where this one stopped."""


def look(client: Any, config: Config, wanted: Wanted) -> Plan:
    """Read what Route 53 has, and plan.

    Raises:
        ZoneError: see `twinmail.dns.hosted_zone.read`.
        Route53Unavailable: transient.
    """
    try:
        zones = hosted_zone.read(client, route53.names(config, wanted))
        checks = health_check.read(client, config)
    except (BotoCoreError, ClientError) as error:
        raise Route53Unavailable(f"Route 53: {error}; run the same command again") from error
    return route53.plan(config, wanted, zones, checks)


def apply(client: Any, config: Config, plan: Plan, say: Say, pause: float = _POLL_SECONDS) -> None:
    """Make the changes of *plan*, and return when every name server of Route 53 has them.

    Args:
        pause: seconds from look to look.

    Raises:
        Route53Unavailable: transient; what was written stays.
    """
    done = 0
    try:
        # First, because the records name it.
        check = _check(client, config, plan, say)
        waiting = []
        for batch in batches(plan.changes):
            zone, documents = batch[0].zone, [_document(one, check) for one in batch]
            waiting.append(_write(client, zone, batch, documents))
            done += len(batch)
            for one in batch:
                say(one.line)
        _wait(client, waiting, say, pause)
        # Last, when no name server answers by them any more.
        for surplus in plan.surplus:
            client.delete_health_check(HealthCheckId=surplus.id)
            say(f"remove health check {surplus.id}")
    except (BotoCoreError, ClientError) as error:
        raise Route53Unavailable(
            f"Route 53: {error}; {done} of {len(plan.changes)} changes are written; "
            "run the same command again, it goes on there"
        ) from error


def batches(changes: Sequence[Change]) -> Iterator[tuple[Change, ...]]:
    """*changes* in as few requests as the quotas allow: each of one zone, in their order."""
    zones = tuple(dict.fromkeys(one.zone for one in changes))
    for zone in zones:
        batch: list[Change] = []
        records = characters = 0
        for one in (change for change in changes if change.zone == zone):
            values = [record["Value"] for record in one.document.get("ResourceRecords", ())]
            times = 2 if one.action == "UPSERT" else 1
            more, longer = times * len(values), times * sum(map(len, values))
            if batch and (records + more > RECORDS or characters + longer > CHARACTERS):
                yield tuple(batch)
                batch, records, characters = [], 0, 0
            batch.append(one)
            records, characters = records + more, characters + longer
        yield tuple(batch)


def _check(client: Any, config: Config, plan: Plan, say: Say) -> str:
    if plan.check is None:
        return ""
    if plan.kept is None:
        made = health_check.create(client, config, plan.check)
        say(f"add    health check {made}")
        return made
    if health_check.differs(plan.kept, plan.check):
        health_check.update(client, plan.kept, plan.check)
        say(f"change health check {plan.kept.id}")
    return plan.kept.id


def _document(change: Change, check: str) -> dict[str, Any]:
    return {**change.document, "HealthCheckId": check} if change.checked else change.document


def _write(client: Any, zone: str, batch: Sequence[Change], documents: Sequence[dict[str, Any]]) -> str:
    answer = client.change_resource_record_sets(
        HostedZoneId=zone,
        ChangeBatch={
            "Comment": "twinmail",
            "Changes": [
                {"Action": one.action, "ResourceRecordSet": document}
                for one, document in zip(batch, documents, strict=True)
            ],
        },
    )
    return str(answer["ChangeInfo"]["Id"]).rpartition("/")[2]


def _wait(client: Any, waiting: Sequence[str], say: Say, pause: float) -> None:
    started = time.monotonic()
    for change in waiting:
        while (state := client.get_change(Id=change)["ChangeInfo"]["Status"]) != _DONE:
            passed = time.monotonic() - started
            if passed > INSYNC_SECONDS:
                raise Route53Unavailable(
                    f"Route 53: the changes are written, and {state} after {passed:.0f} s; "
                    "look later with: ./inv dns --check"
                )
            say(f"waiting until every name server has it: {state}, {passed:.0f} s")
            time.sleep(pause)
    if waiting:
        say("every name server has it")
