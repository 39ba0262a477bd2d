"""``./inv audit``: every message that one part of the system knows and another does not, and its repair."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from twinmail.errors import PermanentError, TwinmailError
from twinmail.period import Period
from twinmail.tasks.command import command
from twinmail.tasks.search import printable
from twinmail.tasks.user import PLACE_HELP

if TYPE_CHECKING:
    from twinmail.audit.auditor import Auditor
    from twinmail.audit.finding import Finding
    from twinmail.audit.servers import Servers


@command(
    help={
        **PLACE_HELP,
        "since": "only messages from then on: a day (2026-11-23), a time, or an age (90m, 12h, 7d, 4w)",
        "repair": "mend what can be mended",
        "packs": "read every pack, and compare each message in it with its sha256",
        "deep": "have each server read every file, and compare its sha256",
        "cloud-only": "leave the servers out",
        "json": "print one JSON object a discrepancy, and one at the end",
    },
    auto_shortflags=False,
)
def audit(
    context: Any,
    since: str = "",
    repair: bool = False,
    packs: bool = False,
    deep: bool = False,
    cloud_only: bool = False,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Compare what was stored, processed, logged, indexed, delivered. Exit code 1 if a discrepancy stays."""
    from botocore.exceptions import BotoCoreError, ClientError

    from twinmail.audit import packs as pack_audit
    from twinmail.audit.auditor import Auditor
    from twinmail.audit.servers import Servers, batches
    from twinmail.audit.tally import Tally
    from twinmail.config import Config
    from twinmail.index import Index
    from twinmail.packs.archive import Archive
    from twinmail.processor import Processor
    from twinmail.reconciler.turn import GRACE
    from twinmail.tasks import place
    from twinmail.tasks.status import server_pages

    if deep and cloud_only:
        raise PermanentError("--deep and --cloud-only: servers read their files; give one of them")
    period = Period.parse(since, "", datetime.now(UTC))
    loaded = Config.load(place.config_file(config, state))
    system = place.find(loaded, state, aws)
    client = system.session.client
    auditor = Auditor(Processor(loaded, client("s3"), Index(client("dynamodb"), loaded.table)))
    found = repaired = 0
    unknown = {} if cloud_only else dict.fromkeys(loaded.servers, "twinmail.toml does not say where it runs")
    try:
        with Tally() as tally:
            say = partial(print, file=sys.stderr)
            archive = Archive(client("s3"), loaded.bucket)
            pages = {} if cloud_only else server_pages(loaded, system)
            servers = Servers(tally, pages, loaded.mailboxes, deep, say)
            until = datetime.now(UTC) - GRACE
            servers.listen()
            cloud = chain(
                auditor.findings(tally, period.since, say),
                pack_audit.findings(archive, period.since, packs, say),
            )
            # One by one: what is mended first may be what the next one is about.
            for batch in chain(([one] for one in cloud), batches(servers.findings(until))):
                answers = _repaired(auditor, servers, batch) if repair else [None] * len(batch)
                for finding, answer in zip(batch, answers, strict=True):
                    found += 1
                    document = _document(finding)
                    if answer is not None:
                        repaired += not answer
                        document["repair"] = answer or "done"
                    print(json.dumps(document) if json_ else _text(document), flush=True)
            unreachable = {
                **{name: unknown[name] for name in unknown if name not in pages},
                **servers.unreachable,
            }
            count = tally.count
    except (BotoCoreError, ClientError) as error:
        raise PermanentError(f"{system.name}, bucket {loaded.bucket}: {error}") from error
    for name, reason in unreachable.items():
        print(f"{name}: not audited: {reason}", file=sys.stderr)
    if json_:
        summary = {
            "messages": count,
            "discrepancies": found,
            "repaired": repaired,
            "not_audited": unreachable,
        }
        print(json.dumps(summary))
    else:
        print(f"{count:,} messages, {found:,} discrepancies" + (f", {repaired:,} repaired" if repair else ""))
    stay = [f"{found - repaired:,} discrepancies stay"] if found > repaired else []
    if unreachable:
        stay.append(f"not audited: {', '.join(unreachable)} (--cloud-only leaves servers out)")
    if stay:
        raise PermanentError("" if json_ else "; ".join(stay))


def _repaired(auditor: "Auditor", servers: "Servers", batch: "Sequence[Finding]") -> "Sequence[str | None]":
    """Of each finding an empty text if it was mended, else why not."""
    if batch[0].server:
        return servers.repair(batch)
    try:
        for one in batch:
            auditor.repair(one)
    except TwinmailError as error:
        return [str(error)]
    return [""]


def _document(finding: "Finding") -> dict[str, str]:
    document = {
        "ses_id": finding.ses_id,
        "kind": finding.kind.value,
        "detail": finding.detail,
        "remedy": finding.remedy,
    }
    if finding.server:
        document |= {"server": finding.server, "mailbox": finding.mailbox}
    return document


def _text(document: dict[str, str]) -> str:
    where = f" ({document['server']}, {document['mailbox']})" if "server" in document else ""
    lines = [f"{document['ses_id']}  {document['kind']}{where}", f"  {document['detail']}"]
    lines.append(f"  repair: {document['repair']}" if "repair" in document else f"  {document['remedy']}")
    return "\n".join(map(printable, lines))
