"""``./inv config``: is the configuration right, and where does an address lead?"""

import json
from pathlib import Path
from typing import Any

from twinmail.tasks.command import command

PROJECT = Path(__file__).resolve().parents[3]


@command(
    help={
        "address": "say to which mailboxes this address leads",
        "config": "the configuration to check (default: twinmail.toml of this checkout)",
        "json": "print one JSON object",
    }
)
def config(context: Any, address: str = "", config: str = "", json_: bool = False) -> None:
    """Check twinmail.toml and show how addresses are routed."""
    from rich.console import Console
    from rich.table import Table

    from twinmail.config import FILE, Config
    from twinmail.hints import hints
    from twinmail.routing import route

    loaded = Config.load(Path(config) if config else PROJECT / FILE)
    if address:
        routing = route(loaded, [address])
        if json_:
            print(json.dumps({"address": address, "mailboxes": routing.mailboxes}))
        elif routing.mailboxes:
            print(f"{address} → {', '.join(routing.mailboxes)}")
        else:
            print(f"{address} is refused: no mailbox, alias or catch-all takes it")
        return
    owners: dict[str, tuple[str, ...]] = dict(loaded.aliases)
    owners |= {one: (box.name,) for box in loaded.mailboxes.values() for one in box.addresses}
    if json_:
        told = {"domains": loaded.domains, "addresses": owners, "servers": list(loaded.servers)}
        print(json.dumps({**told, "hints": hints(loaded)}))
        return
    table = Table("address", "mailboxes", title=f"{FILE}: right")
    for one, names in sorted(owners.items()):
        table.add_row(one, ", ".join(names))
    Console().print(table)
    for hint in hints(loaded):
        print(f"hint: {hint}")
