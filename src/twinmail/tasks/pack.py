"""``./inv pack``: a turn of the compactor by hand."""

import json
import sys
from datetime import UTC, datetime
from typing import Any

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.search import printable
from twinmail.tasks.user import PLACE_HELP

MB = 1 << 20


@command(
    help={**PLACE_HELP, "dry-run": "only say what would be written"},
    auto_shortflags=False,
)
def pack(
    context: Any,
    dry_run: bool = False,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Fold days that are over into packs, as is done each night. Exit code 1 if something is broken."""
    from botocore.config import Config as Settings
    from botocore.exceptions import BotoCoreError, ClientError

    from twinmail.config import Config
    from twinmail.packs.compactor import Compactor
    from twinmail.packs.originals import AT_ONCE
    from twinmail.tasks import place

    loaded = Config.load(place.config_file(config, state))
    if not loaded.packs.enabled:
        raise PermanentError("packs.enabled is false in twinmail.toml; set it to true first")
    system = place.find(loaded, state, aws)
    s3 = system.session.client("s3", config=Settings(max_pool_connections=AT_ONCE))
    try:
        done = Compactor(loaded, s3, datetime.now(UTC), write=_progress, dry=dry_run).run()
    except (BotoCoreError, ClientError) as error:
        raise PermanentError(
            f"{system.name}, bucket {loaded.bucket}: {error}; run it again, it goes on"
        ) from error
    if json_:
        print(
            json.dumps(
                {
                    "packs": done.packs,
                    "entries": done.entries,
                    "octets": done.octets,
                    "waiting": done.waiting,
                    "tagged": done.tagged,
                    "broken": done.broken,
                    "dry_run": dry_run,
                }
            )
        )
    else:
        verb = "would write" if dry_run else "wrote"
        packs, entries = _count(done.packs, "pack"), _count(done.entries, "entry", "entries")
        size = f"{done.octets / MB:.1f} MB"
        print(f"{verb} {packs}: {entries}, {size}; {_count(done.waiting, 'entry', 'entries')} wait for more")
    if done.broken:
        raise PermanentError(
            ""
            if json_
            else f"{_count(len(done.broken), 'object')} left out, see above; mend with: ./inv audit --repair"
        )


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _progress(line: str) -> None:
    """Show a person what the function would write into its log."""
    said = json.loads(line)
    if said.get("event") == "pack":
        print(f"{said['pack']}: {_count(said['entries'], 'entry', 'entries')}", file=sys.stderr, flush=True)
    elif said.get("event") == "not packed":
        print(printable(f"not packed: {said['error']}"), file=sys.stderr, flush=True)
