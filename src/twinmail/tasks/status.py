"""``./inv status``: is everything well, on one screen."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.user import PLACE_HELP

if TYPE_CHECKING:
    from twinmail.config import Config
    from twinmail.server_page import Page
    from twinmail.status import Slow, Status
    from twinmail.tasks.place import Place

SECONDS = 5.0
"""From one look to the next."""
SLOW_SECONDS = 600.0
"""The same for what changes slowly, and is long to ask for."""

_ANSWER = TypeVar("_ANSWER")


@command(help={**PLACE_HELP, "once": "print it once; without a terminal that is so anyway"})
def status(
    context: Any,
    once: bool = False,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Show how the system is, live until Ctrl-C. With --once, exit code 1 if something is wrong."""
    from botocore.config import Config as Calls

    from twinmail.config import Config
    from twinmail.status import collect
    from twinmail.tasks import place

    loaded = Config.load(place.config_file(config, state))
    system = place.find(loaded, state, aws)
    client = partial(
        system.session.client,
        config=Calls(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 1}),
    )
    servers, slow = server_pages(loaded, system), _slow(loaded, system, client)
    sqs, s3 = client("sqs"), client("s3")
    name = system.description.endpoint if system.description else system.name

    def look() -> "Status":
        return collect(loaded, name, servers, sqs, s3, slow=slow)

    if not json_ and not once and sys.stdout.isatty():
        _watch(look)
        return
    found = look()
    if json_:
        print(json.dumps(_document(found)))
    else:
        from rich.console import Console

        Console(highlight=False).print(screen(found))
    if found.problems:
        count = len(found.problems)
        raise PermanentError("" if json_ else f"{count} problem{'' if count == 1 else 's'}; see above")


def server_pages(config: "Config", system: "Place") -> Mapping[str, "Page"]:
    """The ways to what the servers of *system* say of themselves, by name."""
    from twinmail.local.state import LOOPBACK
    from twinmail.server_page import LocalPage

    if system.description is not None:
        ports = system.description.ports
        return {name: LocalPage(f"{LOOPBACK}:{ports[f'{name}-health']}") for name in config.servers if ports}
    from twinmail.deploy import reach
    from twinmail.deploy.primary import FOLDER
    from twinmail.secret_store import SecretStore
    from twinmail.tasks.config import PROJECT

    return reach.pages(config, SecretStore(PROJECT / ".twinmail" / "secrets"), PROJECT / FOLDER)


def month_usd(config: "Config", client: Callable[[str], Any]) -> float:
    """What a month costs as things are, in dollars before tax."""
    from twinmail.cost.bill import bill
    from twinmail.cost.measure import Measurement
    from twinmail.cost.prices import Prices
    from twinmail.cost.quantities import month
    from twinmail.cost.resources import counted
    from twinmail.tasks.cost import TEMPLATE

    used = month(config, *counted(TEMPLATE.read_text("utf-8"), config))
    return bill(config, Measurement(config, client, datetime.now(UTC)).of(used), Prices.load()).total


def _slow(config: "Config", system: "Place", client: Callable[[str], Any]) -> "Slow":
    from twinmail.cost.measure import bucket_octets
    from twinmail.deploy.served_certificate import ends
    from twinmail.local.state import LOOPBACK
    from twinmail.status import Slow

    certificates: dict[str, Callable[[], datetime]] = {}
    for name, server in config.servers.items():
        if system.description is None:
            certificates[name] = _remembered(partial(ends, server.host))
        elif system.description.ports:
            port = system.description.ports[f"{name}-imaps"]
            certificates[name] = _remembered(partial(ends, LOOPBACK, port, server.host))
    octets = _remembered(lambda: bucket_octets(config, client, datetime.now(UTC)))
    return Slow(octets, certificates, _remembered(partial(month_usd, config, client)))


def _remembered(ask: Callable[[], _ANSWER]) -> Callable[[], _ANSWER]:
    """*ask*, asked again only after `SLOW_SECONDS`; what failed is asked again the next time."""
    known: list[tuple[float, _ANSWER]] = []

    def answer() -> _ANSWER:
        if not known or time.monotonic() - known[0][0] > SLOW_SECONDS:
            known[:] = [(time.monotonic(), ask())]
        return known[0][1]

    return answer


def _watch(look: Callable[[], "Status"]) -> None:
    """Show what *look* finds until Ctrl-C, and leave the last of it on the terminal."""
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    found = None
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                found = look()
                live.update(screen(found), refresh=True)
                time.sleep(SECONDS)
    except KeyboardInterrupt:
        # The way out of a live view is no error.
        if found is not None:
            console.print(screen(found))


def _document(found: "Status") -> Mapping[str, Any]:
    document = asdict(found)
    rates = {"bounce_rate": found.sending.bounce_rate, "complaint_rate": found.sending.complaint_rate}
    return {**document, "sending": {**document["sending"], **rates}}


def screen(found: "Status") -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    certificates = {one.name: one.days for one in found.certificates}
    parts: list[Any] = []
    servers = Table("server", "state", "delivered", "last message", "lag", "waiting", "disk", "certificate")
    for one in found.servers:
        last = one.said.get("last") or {}
        days = certificates.get(one.name)
        servers.add_row(
            one.name,
            "[red]trouble[/red]" if one.problems else "well",
            str(one.said.get("delivered", "?")),
            _when(last) if one.said else "?",
            _lag(one.lag_seconds),
            str(one.said.get("backlog", "?")),
            _disk(one.said.get("disk") or {}),
            "?" if days is None else f"{days:.0f} days",
        )
    if found.servers:
        parts.append(servers)
    queues = Table("queue", "waiting", "in hand")
    for queue in (*found.queues, found.dead_letters):
        queues.add_row(queue.name, _count(queue.waiting), _count(queue.in_hand))
    parts.append(queues)
    sending = found.sending
    lines = [
        f"sent in 30 days: {sending.sent}; bounced: {sending.bounces} ({sending.bounce_rate:.1%}), for now: "
        f"{sending.soft_bounces}; complaints: {sending.complaints} ({sending.complaint_rate:.1%}); not sent: "
        f"{sending.rejects}"
    ]
    for said in sending.latest:
        lines.append(
            f"  {said['at']}  {said['kind']:<9}  {said['from']} → {', '.join(said['to'])}: {said['why']}"
        )
    stored = "?" if found.bucket_octets is None else f"{found.bucket_octets / 1e9:.2f} GB"
    price = "?" if found.month_usd is None else f"{found.month_usd:.2f}"
    lines.append(f"stored in the bucket: {stored}; a month: {price} of {found.budget_usd:.2f} dollars")
    lines.append(f"AWS: {found.endpoint}, {datetime.now(UTC):%H:%M:%S} UTC")
    lines += [f"✗ {problem}" for problem in found.problems] or ["✓ all is well"]
    # Of addresses and errors nothing may be taken for markup.
    return Group(*parts, *(Text(line) for line in lines))


def _when(last: Mapping[str, Any]) -> str:
    """Of the day and time alone, so that all columns have room on a narrow screen."""
    return f"{str(last['at'])[:16].replace('T', ' ')} UTC" if last.get("at") else "none since start"


def _lag(seconds: float | None) -> str:
    """In the largest unit of which there are two."""
    if seconds is None:
        return "?"
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _disk(disk: Mapping[str, int]) -> str:
    return f"{disk['free'] / 1e9:.1f} of {disk['total'] / 1e9:.1f} GB free" if disk.get("total") else "?"


def _count(value: int | None) -> str:
    return "?" if value is None else str(value)
