"""The audit of the cloud side: `findings` looks, `repair` acts.

A listing takes minutes, and mail goes on meanwhile, so what the listings say is only a suspicion: each
message that differs is looked at again by itself before it is reported.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from twinmail import layout
from twinmail.audit import listings, packs
from twinmail.audit.finding import Finding, Kind
from twinmail.audit.tally import Known, Part, Tally
from twinmail.errors import PermanentError
from twinmail.index import PARKED, UNROUTED
from twinmail.lookup.witnesses import BY_SES_ID
from twinmail.manifest import Delivery, Entry, ManifestError
from twinmail.message import SCAN_BYTES, read_metadata
from twinmail.packs.archive import Archive
from twinmail.processor import Processor, decide, trace_headers
from twinmail.reconciler import envelope
from twinmail.reconciler.turn import GRACE
from twinmail.ses_event import Receipt

_CHUNK = 1 << 20
_IN_MEMORY = 4 << 20
_GONE = ("404", "NoSuchKey", "NotFound")


class NotRepaired(PermanentError):
    """The discrepancy stays; the text says why."""


@dataclass(frozen=True)
class Auditor:
    """Audits the bucket and the table of *processor*."""

    processor: Processor

    def findings(
        self, tally: Tally, since: datetime | None, say: Callable[[str], None] = lambda text: None
    ) -> Iterator[Finding]:
        """Every discrepancy since then; *say* hears of the progress.

        Raises:
            botocore.exceptions.ClientError: a service refused or was not available.
        """
        config, s3, dynamodb = self.processor.config, self.processor.s3, self.processor.index.client
        # What is younger is still on its way.
        until = self.processor.now() - GRACE
        for name, marks in (
            ("stored", listings.stored(s3, config, since, until)),
            ("in the log", listings.logged(s3, config, since)),
            ("processed", listings.processed(s3, config)),
            ("in packs", packs.packed(self._archive, since)),
            ("items of the index", listings.indexed(dynamodb, config)),
        ):
            say(f"{tally.add(marks):,} {name}")
        say(f"{tally.gather():,} messages")
        for known in tally.differing(whole=since is None):
            yield from self._confirmed(known)

    def _confirmed(self, known: Known) -> Iterator[Finding]:
        """What is wrong with the message now."""
        ses_id, index = known.ses_id, self.processor.index
        if not known.key:
            if self.processor.committed(ses_id):
                return
            kind = Kind.NOT_LOGGED if known.parts & Part.STORED else Kind.LEFT_OVER
            names = [str(part.name).lower() for part in Part if part & known.parts]
            if kind is Kind.NOT_LOGGED or not self._young(ses_id):
                yield Finding(ses_id, kind, f"only: {', '.join(names)}")
            return
        if known.entries > 1:
            yield Finding(ses_id, Kind.TWO_ENTRIES, f"{known.entries} entries, the last is {known.key}")
        try:
            entry = self._entry(known.key)
        except ManifestError as error:
            yield Finding(ses_id, Kind.DAMAGED, f"{known.key}: {error}")
            return
        if not known.parts & Part.PROCESSED and not self._kept(entry.key):
            yield Finding(ses_id, Kind.NO_MESSAGE, f"{known.key} names {entry.key}, which is not there")
        if not known.parts & Part.CLAIMED and not index.claimed(ses_id):
            yield Finding(ses_id, Kind.NOT_CLAIMED, known.key)
        if not known.parts & Part.INDEXED and not self._indexed(ses_id):
            yield Finding(ses_id, Kind.NOT_INDEXED, known.key)

    def repair(self, finding: Finding) -> None:
        """Mend *finding*; repeating it changes nothing.

        Raises:
            NotRepaired: it cannot be.
            botocore.exceptions.ClientError: a service refused or was not available.
        """
        if not finding.repairable:
            raise NotRepaired(finding.remedy)
        if finding.kind is Kind.NOT_LOGGED:
            self._log(finding.ses_id)
            return
        key = finding.detail.partition(" ")[0]
        entry = self._entry(key)
        if finding.kind is Kind.NOT_CLAIMED:
            self.processor.index.claim(finding.ses_id, key)
        elif finding.kind is Kind.NO_MESSAGE:
            self._make(entry)
        else:
            self._index(entry)

    def _log(self, ses_id: str) -> None:
        """Bring a message into the log, by the envelope that SES wrote above it."""
        bucket, key = self.processor.config.bucket, layout.incoming_key(ses_id)
        answer = self.processor.s3.get_object(
            Bucket=bucket, Key=key, Range=f"bytes=0-{envelope.START_BYTES - 1}"
        )
        receipt = envelope.receipt(
            self.processor.config, ses_id, answer["LastModified"], answer["Body"].read()
        )
        self.processor.recover(receipt)

    def _make(self, entry: Entry) -> None:
        """Write the object of *entry* again; the digest in the entry says whether it is the same."""
        s3, bucket = self.processor.s3, self.processor.config.bucket
        key = layout.incoming_key(entry.ses_id)
        if entry.imported or not self._exists(key):
            raise NotRepaired(
                f"{entry.key}: {key} is not there either; bring back an older version of one of them"
            )
        digest = hashlib.sha256()
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as body:
            chunks = s3.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(_CHUNK)
            for chunk in (trace_headers(self.processor.config, _receipt(entry)), *chunks):
                digest.update(chunk)
                body.write(chunk)
            if digest.hexdigest() != entry.sha256:
                raise NotRepaired(
                    f"{entry.key}: expected sha256 {entry.sha256}, got {digest.hexdigest()} of {key}; "
                    "bring back an older version of the object"
                )
            body.seek(0)
            s3.put_object(Bucket=bucket, Key=entry.key, Body=body, ContentType="message/rfc822")

    def _index(self, entry: Entry) -> None:
        """Add the items of *entry*."""
        start = self._start(entry.key)
        if start is None:
            raise NotRepaired(f"{entry.key} is not there; repair that first")
        placements, withheld = entry.deliveries, ""
        if not placements:
            decision = decide(self.processor.config, _receipt(entry))
            placements, withheld = decision.placements or (Delivery(UNROUTED),), decision.withheld
        self.processor.index.add(entry, placements, read_metadata(start), withheld)

    @property
    def _archive(self) -> Archive:
        return Archive(self.processor.s3, self.processor.config.bucket)

    def _entry(self, key: str) -> Entry:
        s3 = self.processor.s3
        try:
            octets = s3.get_object(Bucket=self.processor.config.bucket, Key=key)["Body"].read()
        except s3.exceptions.NoSuchKey:
            packed = self._archive.read(key)
            if packed is None:
                raise
            octets = b"".join(packed)
        return Entry.from_bytes(octets)

    def _kept(self, key: str) -> bool:
        """Whether the message *key* is there, by itself or in a pack."""
        return self._exists(key) or self._archive.find(key) is not None

    def _start(self, key: str) -> bytes | None:
        """The beginning of a message; None if it is nowhere."""
        bucket = self.processor.config.bucket
        if not self._exists(key):
            packed = self._archive.read(key)
            return None if packed is None else b"".join(packed)[:SCAN_BYTES]
        answer = self.processor.s3.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{SCAN_BYTES - 1}")
        return bytes(answer["Body"].read())

    def _exists(self, key: str) -> bool:
        s3 = self.processor.s3
        try:
            s3.head_object(Bucket=self.processor.config.bucket, Key=key)
        except s3.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in _GONE:
                return False
            raise
        return True

    def _indexed(self, ses_id: str) -> bool:
        items = self.processor.index.client.query(
            TableName=self.processor.config.table,
            IndexName=BY_SES_ID,
            KeyConditionExpression="ses_id = :id",
            ExpressionAttributeValues={":id": {"S": ses_id}},
        )["Items"]
        return any(one["mailbox"]["S"] != PARKED for one in items)

    def _young(self, ses_id: str) -> bool:
        """Whether a claim is so young that its attempt may still go on."""
        claimed = self.processor.index.claimed(ses_id)
        return (
            bool(claimed) and self.processor.now() - layout.ManifestKey.parse(str(claimed)).committed < GRACE
        )


def _receipt(entry: Entry) -> Receipt:
    return Receipt(entry.ses_id, entry.arrived, entry.mail_from, entry.rcpt_to, entry.verdicts)
