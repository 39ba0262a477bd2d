"""``./inv status``: is everything well, on one screen."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.user import PLACE_HELP


@command(help=PLACE_HELP)
def status(context: Any, aws: bool = False, config: str = "", state: str = "", json_: bool = False) -> None:
    """Show how the system is: servers, queues, bounces. Exit code 1 if something is wrong."""
    from botocore.config import Config as Calls

    from twinmail.config import Config
    from twinmail.local.state import LOOPBACK
    from twinmail.status import collect
    from twinmail.tasks import place

    loaded = Config.load(place.config_file(config, state))
    system = place.find(loaded, state, aws)
    calls = Calls(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 1})
    # In AWS the servers' pages are on their own loopback; the queues say whether somebody fetches.
    ports = system.description.ports if system.description else {}
    servers = {name: f"{LOOPBACK}:{ports[f'{name}-health']}" for name in loaded.servers if ports}
    found = collect(
        loaded,
        system.description.endpoint if system.description else system.name,
        servers,
        system.session.client("sqs", config=calls),
        system.session.client("s3", config=calls),
    )
    if json_:
        sending = {
            "bounce_rate": found.sending.bounce_rate,
            "complaint_rate": found.sending.complaint_rate,
        }
        document = asdict(found)
        print(json.dumps({**document, "sending": {**document["sending"], **sending}}))
    else:
        _show(found)
    if found.problems:
        count = len(found.problems)
        raise PermanentError("" if json_ else f"{count} problem{'' if count == 1 else 's'}; see above")


def _show(found: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    servers = Table("server", "state", "delivered", "last message", "lag", "waiting")
    for one in found.servers:
        last = one.said.get("last") or {}
        servers.add_row(
            one.name,
            "[red]trouble[/red]" if one.problems else "well",
            str(one.said.get("delivered", "?")),
            str(last.get("ses_id", "none since it started") if one.said else "?")[:24],
            _lag(last),
            str(one.said.get("backlog", "?")),
        )
    if found.servers:
        console.print(servers)
    queues = Table("queue", "waiting", "in hand")
    for queue in (*found.queues, found.dead_letters):
        queues.add_row(queue.name, _count(queue.waiting), _count(queue.in_hand))
    console.print(queues)
    sending = found.sending
    console.print(
        f"sent in 30 days: {sending.sent}; bounced: {sending.bounces} ({sending.bounce_rate:.1%}), for now: "
        f"{sending.soft_bounces}; complaints: {sending.complaints} ({sending.complaint_rate:.1%}); not sent: "
        f"{sending.rejects}"
    )
    for one in sending.latest:
        recipients = ", ".join(one["to"])
        console.print(
            f"  {one['at']}  {one['kind']:<9}  {one['from']} → {recipients}: {one['why']}", markup=False
        )
    console.print(f"AWS: {found.endpoint}")
    for problem in found.problems:
        console.print(f"✗ {problem}", markup=False)
    if not found.problems:
        console.print("✓ all is well")


def _lag(last: Mapping[str, Any]) -> str:
    age = last.get("manifest_age_ms")
    return f"{age} ms" if isinstance(age, int) else "–"


def _count(value: int | None) -> str:
    return "?" if value is None else str(value)
