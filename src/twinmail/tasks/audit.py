"""``./inv audit``: every message that one part of the cloud knows and another does not, and its repair."""

import json
import sys
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import Any

from twinmail.errors import PermanentError, TwinmailError
from twinmail.period import Period
from twinmail.tasks.command import command
from twinmail.tasks.search import printable
from twinmail.tasks.user import PLACE_HELP


@command(
    help={
        **PLACE_HELP,
        "since": "only messages from then on: a day (2026-11-23), a time, or an age (90m, 12h, 7d, 4w)",
        "repair": "mend what can be mended",
        "packs": "read every pack, and compare each message in it with its sha256",
        "json": "print one JSON object a discrepancy, and one at the end",
    },
    auto_shortflags=False,
)
def audit(
    context: Any,
    since: str = "",
    repair: bool = False,
    packs: bool = False,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Compare what was stored, processed, logged, packed and indexed. Exit code 1 if a discrepancy stays."""
    from botocore.exceptions import BotoCoreError, ClientError

    from twinmail.audit import packs as pack_audit
    from twinmail.audit.auditor import Auditor
    from twinmail.audit.tally import Tally
    from twinmail.config import Config
    from twinmail.index import Index
    from twinmail.packs.archive import Archive
    from twinmail.processor import Processor
    from twinmail.tasks import place

    period = Period.parse(since, "", datetime.now(UTC))
    loaded = Config.load(place.config_file(config, state))
    system = place.find(loaded, state, aws)
    client = system.session.client
    auditor = Auditor(Processor(loaded, client("s3"), Index(client("dynamodb"), loaded.table)))
    found = repaired = 0
    try:
        with Tally() as tally:
            say = partial(print, file=sys.stderr)
            archive = Archive(client("s3"), loaded.bucket)
            for finding in chain(
                auditor.findings(tally, period.since, say),
                pack_audit.findings(archive, period.since, packs, say),
            ):
                found += 1
                document = {
                    "ses_id": finding.ses_id,
                    "kind": finding.kind.value,
                    "detail": finding.detail,
                    "remedy": finding.remedy,
                }
                if repair:
                    try:
                        auditor.repair(finding)
                        repaired += 1
                        document["repair"] = "done"
                    except TwinmailError as error:
                        document["repair"] = str(error)
                print(json.dumps(document) if json_ else _text(document), flush=True)
            count = tally.count
    except (BotoCoreError, ClientError) as error:
        raise PermanentError(f"{system.name}, bucket {loaded.bucket}: {error}") from error
    if json_:
        print(json.dumps({"messages": count, "discrepancies": found, "repaired": repaired}))
    else:
        print(f"{count:,} messages, {found:,} discrepancies" + (f", {repaired:,} repaired" if repair else ""))
    if found > repaired:
        raise PermanentError("" if json_ else f"{found - repaired:,} discrepancies stay")


def _text(document: dict[str, str]) -> str:
    lines = [f"{document['ses_id']}  {document['kind']}", f"  {document['detail']}"]
    lines.append(f"  repair: {document['repair']}" if "repair" in document else f"  {document['remedy']}")
    return "\n".join(map(printable, lines))
