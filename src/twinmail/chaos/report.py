"""The table of a long run, for the documentation. Pure."""

from datetime import date
from typing import TYPE_CHECKING

from twinmail.chaos.catalogue import SENTENCES

if TYPE_CHECKING:
    from twinmail.chaos.run import Result


def markdown(result: "Result", day: date) -> str:
    """docs/fault-matrix.md: what was done to the system, and what came of it."""
    told = result.to_json()
    rows = "\n".join(
        f"| `{name}` | {SENTENCES[name]} | {result.windows[name]} | {count:,} |"
        for name, count in sorted(result.faults.items())
    )
    heard = result.heard
    idle = ", ".join(f"`{name}`" for name in result.idle)
    unknown = f"\nNothing is known of {idle}: it never took effect in this run.\n" if idle else ""
    return f"""\
# Faults, and what they did

Written on {day} by

```
./inv chaos --messages {told["sent"]} --seed {result.seed} --report docs/fault-matrix.md
```

Two servers, LocalStack and the function run for real on one machine. Senders write by SMTP, and try again
until they hear 250; meanwhile faults come and go, each alone first, then up to three at a time, and every
half a minute the reconciler has a turn. In the end all is healed, the reconciler has the turns it needs, and
every file in every mailbox is compared with what was sent; then each mailbox is listed by IMAP, and some of
its messages are fetched.

| | |
|---|---|
| messages accepted with 250 | {told["sent"]:,} |
| **lost** | **{told["lost"]}** |
| **there twice** | **{told["duplicated"]}** |
| changed | {told["changed"]} |
| there although their sender was told to keep them | {told["unasked"]} |
| attempts that were refused, and repeated | {heard["refused"]:,} |
| attempts whose answer was lost, and which may be there or not | {heard["unknown"]:,} |
| seconds | {told["seconds"]:,.0f} |

"Took effect" counts requests that met the fault, events that it caught, or processes that died of it.

| fault | what happens | windows | took effect |
|---|---|---|---|
{rows}
{unknown}
Not in here: a machine that loses power between two writes (tests kill the syncer between any two of its
steps), and the loss of SES or S3 themselves.
"""
