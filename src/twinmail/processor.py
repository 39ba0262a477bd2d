"""What happens to a message that SES accepted: from ``incoming/`` to a manifest entry, exactly once.

Events repeat, come concurrently and out of order, and any attempt may die between any two writes. So every
write is repeatable, and their order is fixed:

1. ``processed/``: the raw bytes below trace headers; the same bytes under the same key at each attempt.
2. the claim in the index: the first attempt to put it fixes the name of the manifest entry.
3. the items of the index, by conditional put.
4. the manifest entry, last: an entry means that the message is complete. It is never written over.

A message that cannot be read, or whose items the index never takes, is *parked*: delivered all the same, as
SES stored it, with what is known of it from its envelope, and remembered with the reason.
"""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import IO, Any

from twinmail import layout
from twinmail.config import Config
from twinmail.errors import TransientError
from twinmail.index import UNROUTED, Index, IndexRefused, Parked
from twinmail.manifest import INBOX, JUNK, Delivery, Entry
from twinmail.message import SCAN_BYTES, Metadata, read_metadata
from twinmail.routing import route
from twinmail.ses_event import Receipt
from twinmail.time_limit import time_limit

STEPS = ("received", "processed", "claimed", "indexed", "committed")
"""Points between two writes, in order; a `Checkpoint` is called at each with its name."""

Checkpoint = Callable[[str], None]

CLAIM_USE = timedelta(minutes=10)
CLAIM_LIFE = timedelta(minutes=13)
"""A claim is used until the first age and replaced after the second; see `Processor._claim`.

An entry must not be committed much later than its name says, because the servers look back for late ones only
so far. In between nothing is committed: the function ends after 2 minutes, so at the second age no attempt
that used the old claim can still be running, and there is one entry. Lambda's own retries fit into the first.
"""

READ_SECONDS = 20.0
"""How long reading the metadata may take. Milliseconds are usual; the function has two minutes for all."""

_CHUNK = 1024 * 1024
_IN_MEMORY = 4 * 1024 * 1024

FAIL = "FAIL"
INFECTED = "virus verdict"
NO_RECIPIENT = "no mailbox for the recipients"


class MessageMissing(TransientError):
    """The object of an announced message is not there (yet); the event is tried again."""


class ClaimBusy(TransientError):
    """Another attempt may still use the claim, but it is too old to be used now; the event is tried again."""


@dataclass(frozen=True)
class Decision:
    """What to do with a message; see `decide`.

    Attributes:
        key: where the message for IMAP goes.
        deliveries: who gets it.
        placements: the items of the index; also names who would have got a withheld message.
        unknown: recipients that no mailbox has.
        withheld: why nobody gets it, or empty.
        imported: see `twinmail.manifest.Entry`.
    """

    key: str
    deliveries: tuple[Delivery, ...]
    placements: tuple[Delivery, ...]
    unknown: tuple[str, ...]
    withheld: str = ""
    imported: bool = False


@dataclass(frozen=True)
class Outcome:
    """What `Processor.process` did.

    Attributes:
        entry: what was committed; None if an earlier attempt had, and nothing was written.
        unknown: recipients that no mailbox has.
        parked: what could not be processed as always, or empty.
    """

    entry: Entry | None
    manifest_key: str
    unknown: tuple[str, ...] = ()
    parked: str = ""


def decide(config: Config, receipt: Receipt) -> Decision:
    """Route by the envelope and the verdicts: spam to Junk, a virus to quarantine."""
    routing = route(config, receipt.recipients)
    folder = JUNK if receipt.verdicts.get("spam") == FAIL else INBOX
    deliveries = tuple(Delivery(mailbox, folder) for mailbox in routing.mailboxes)
    placements = deliveries or (Delivery(UNROUTED, folder),)
    if receipt.verdicts.get("virus") == FAIL:
        key = layout.quarantine_key(receipt.ses_id, receipt.arrived)
        return Decision(key, (), placements, routing.unknown, INFECTED)
    key = layout.processed_key(receipt.ses_id, receipt.arrived)
    return Decision(key, deliveries, placements, routing.unknown, "" if deliveries else NO_RECIPIENT)


def trace_headers(config: Config, receipt: Receipt) -> bytes:
    """The fields above the raw bytes (RFC 5321, 4.4), a pure function of the event.

    No recipient is named: all mailboxes share the object, and a Bcc must stay one. Received comes last: a
    message that begins with white space continues it, and cannot add to the verdicts.
    """
    verdicts = " ".join(f"{name}={_token(value)}" for name, value in sorted(receipt.verdicts.items()))
    lines = [f"X-Twinmail-Verdicts: {verdicts}"] if verdicts else []
    lines += [
        f"Received: from amazonses.com by {config.bucket}.s3.{config.region}.amazonaws.com (twinmail)",
        f"\tid {receipt.ses_id}; {format_datetime(receipt.arrived.astimezone(UTC))}",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def _token(value: str) -> str:
    return "".join(one for one in value if (one.isascii() and one.isalnum()) or one in "_-")[:32] or "NONE"


def _continue(step: str) -> None:
    """The checkpoint of production: nothing."""


@dataclass(frozen=True)
class Processor:
    """Processes messages with a boto3 S3 client and the index.

    Args:
        read: the metadata of a message by its first octets; whatever it raises, the message is delivered.
    """

    config: Config
    s3: Any
    index: Index
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    checkpoint: Checkpoint = _continue
    read: Callable[[bytes], Metadata] = read_metadata

    def process(self, receipt: Receipt) -> Outcome:
        """Bring the message of *receipt* into the log.

        Raises:
            MessageMissing, ClaimBusy: transient.
            botocore.exceptions.ClientError: a service refused or was not available; the caller's retry helps.
        """
        return self._bring(receipt, decide(self.config, receipt), self._chunks(receipt))

    def recover(self, receipt: Receipt) -> Outcome:
        """As `process`, for a *receipt* that was read out of the stored message and not told by SES.

        Such a receipt may differ from the one in an event that is late. So it has an object of its own, and
        whichever entry is written first is the message's.

        Raises:
            MessageMissing, ClaimBusy, botocore.exceptions.ClientError: as in `process`.
        """
        decision = decide(self.config, receipt)
        if decision.withheld != INFECTED:
            decision = replace(decision, key=layout.recovered_key(receipt.ses_id, receipt.arrived))
        return self._bring(receipt, decision, self._chunks(receipt))

    def committed(self, ses_id: str) -> str | None:
        """The key of the manifest entry of *ses_id*; None if there is none yet."""
        claimed = self.index.claimed(ses_id)
        return claimed if claimed and self._exists(claimed) else None

    def add(
        self, ses_id: str, arrived: datetime, recipient: str, mailboxes: Sequence[str], message: bytes
    ) -> Outcome:
        """Bring a *message* that was written here into the log; the same *ses_id* a second time adds nothing.

        Raises:
            ClaimBusy: transient.
            botocore.exceptions.ClientError: as in `process`.
        """
        receipt = Receipt(ses_id, arrived, "", (recipient,), {})
        deliveries = tuple(Delivery(one) for one in mailboxes)
        decision = Decision(layout.processed_key(ses_id, arrived), deliveries, deliveries, ())
        return self._bring(receipt, decision, iter((trace_headers(self.config, receipt), message)))

    def add_imported(self, ses_id: str, arrived: datetime, delivery: Delivery, message: bytes) -> Outcome:
        """Bring a *message* of an older account into the log, as it is: nothing is written above it.

        The same *ses_id* a second time adds nothing, also when *message* has other octets then.

        Raises:
            ClaimBusy: transient.
            botocore.exceptions.ClientError: as in `process`.
        """
        receipt = Receipt(ses_id, arrived, "", (), {})
        key = layout.imported_key(ses_id, arrived, hashlib.sha256(message).hexdigest())
        decision = Decision(key, (delivery,), (delivery,), (), imported=True)
        return self._bring(receipt, decision, iter((message,)))

    def _bring(self, receipt: Receipt, decision: Decision, chunks: Iterator[bytes]) -> Outcome:
        claimed = self.index.claimed(receipt.ses_id)
        if claimed and self._exists(claimed):
            return Outcome(None, claimed)
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as body:
            entry, start = self._receive(receipt, decision, chunks, body)
            self.checkpoint("received")
            self.s3.put_object(
                Bucket=self.config.bucket,
                Key=decision.key,
                Body=body,
                ContentType="message/rfc822",
                Metadata=entry.to_metadata(),
            )
        self.checkpoint("processed")
        manifest_key = self._claim(receipt.ses_id, claimed)
        self.checkpoint("claimed")
        parked = self._add_to_index(entry, decision, start)
        self.checkpoint("indexed")
        # Last. Concurrent duplicates write these same bytes under this same key.
        committed = self._commit(manifest_key, entry)
        self.checkpoint("committed")
        return Outcome(entry if committed else None, manifest_key, decision.unknown, parked)

    def _add_to_index(self, entry: Entry, decision: Decision, start: bytes) -> str:
        """Index *entry*; return what kept it from being read or indexed, or nothing.

        Only what can work another time is raised: nothing else may keep the message from its mailboxes.
        """
        metadata, reasons = Metadata(), []
        try:
            with time_limit(READ_SECONDS):
                metadata = self.read(start)
        except Exception as error:  # noqa: BLE001  whatever it is, the same octets would raise it again
            reasons.append(f"reading it: {type(error).__name__}: {error}")
        bare = replace(entry, mail_from="", rcpt_to=(), verdicts={})
        for one, found in ((entry, metadata), (bare, Metadata())):
            try:
                self.index.add(one, decision.placements, found, decision.withheld)
                break
            except IndexRefused as error:
                reasons.append(f"indexing it: {error}")
        reason = "; ".join(reasons)
        if reason:
            # A message that not even this is taken of is in the function's log, with its reason.
            with contextlib.suppress(IndexRefused):
                self.index.park(Parked(entry.ses_id, entry.arrived, reason))
        return reason

    def _commit(self, key: str, entry: Entry) -> bool:
        """Write *entry*, and return whether nobody else did: servers may have read the first one."""
        try:
            self.s3.put_object(
                Bucket=self.config.bucket,
                Key=key,
                Body=entry.to_bytes(),
                ContentType="application/json",
                IfNoneMatch="*",
            )
        except self.s3.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailed":
                raise
            return False
        return True

    def _claim(self, ses_id: str, claimed: str | None) -> str:
        """The manifest key for *ses_id*: the claimed one, or a new one if there is none or it is too old."""
        now = self.now()
        fresh = layout.manifest_key(ses_id, now)
        if claimed is None:
            return self.index.claim(ses_id, fresh)
        age = now - layout.ManifestKey.parse(claimed).committed
        if age <= CLAIM_USE:
            return claimed
        if age <= CLAIM_LIFE:
            raise ClaimBusy(
                f"{ses_id}: claimed as {claimed} {age.total_seconds():.0f} s ago; "
                f"expected at most {CLAIM_USE.total_seconds():.0f} s; tried again later"
            )
        return self.index.renew(ses_id, claimed, fresh)

    def _receive(
        self, receipt: Receipt, decision: Decision, chunks: Iterator[bytes], body: IO[bytes]
    ) -> tuple[Entry, bytes]:
        """Copy the message into *body*, trace headers first; memory does not grow with its size.

        The second result is its beginning.
        """
        digest, size, start = hashlib.sha256(), 0, bytearray()
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            body.write(chunk)
            start += chunk[: SCAN_BYTES - len(start)]
        body.seek(0)
        entry = Entry(
            ses_id=receipt.ses_id,
            key=decision.key,
            size=size,
            sha256=digest.hexdigest(),
            arrived=receipt.arrived,
            mail_from=receipt.mail_from,
            rcpt_to=receipt.recipients,
            deliveries=decision.deliveries,
            verdicts=receipt.verdicts,
            imported=decision.imported,
        )
        return entry, bytes(start)

    def _chunks(self, receipt: Receipt) -> Iterator[bytes]:
        key = layout.incoming_key(receipt.ses_id)
        try:
            answer = self.s3.get_object(Bucket=self.config.bucket, Key=key)
        except self.s3.exceptions.NoSuchKey as error:
            raise MessageMissing(f"s3://{self.config.bucket}/{key}: not there; SES announced it") from error
        yield trace_headers(self.config, receipt)
        yield from answer["Body"].iter_chunks(_CHUNK)

    def _exists(self, key: str) -> bool:
        listed = self.s3.list_objects_v2(Bucket=self.config.bucket, Prefix=key, MaxKeys=1)
        return any(one["Key"] == key for one in listed.get("Contents", ()))
