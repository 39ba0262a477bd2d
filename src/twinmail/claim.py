"""Who sends what two servers both could: one claim in S3, and what it lets a server do; pure.

A claim is written before anything is sent, and only over the version that was read, so one server has it. It
goes from *claimed* by way of *sending* to *sent*. A server that died with the claim in hand is replaced after
`LEASE`; one that died in the moment of sending may have sent: an answer is then given up (never twice), a
redirect is sent again (never lost).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from twinmail import versioned_json
from twinmail.errors import PermanentError

VERSION = 1

LEASE = timedelta(minutes=10)
"""How long a claim is its server's alone; longer than the longest call."""

_REMEMBERED = 20


class ClaimDamaged(PermanentError):
    """The octets are not a claim that this version understands."""


class State(Enum):
    """How far the claim's server came."""

    CLAIMED = "claimed"
    SENDING = "sending"
    SENT = "sent"
    REFUSED = "refused"


class Verdict(Enum):
    """What a server may do."""

    TAKE = "take"  # write `Claim.taken`, then send
    WAIT = "wait"  # look again later
    DONE = "done"  # nothing is left to do


@dataclass(frozen=True)
class Claim:
    """A claim.

    Attributes:
        ses_id: the message that is answered or redirected.
        server: who has it.
        at: since when.
        until: no other message gets an answer before.
        sent: SES's id of what was sent.
        before: messages that had the claim before, the latest last.
    """

    ses_id: str
    server: str
    at: datetime
    state: State
    until: datetime
    sent: str = ""
    before: tuple[str, ...] = ()

    def now(self, state: State, at: datetime, sent: str = "") -> "Claim":
        """The same in another state."""
        return replace(self, state=state, at=at, sent=sent)

    def to_bytes(self) -> bytes:
        """Encode as canonical JSON."""
        document = {
            "version": VERSION,
            "ses_id": self.ses_id,
            "server": self.server,
            "at": _moment(self.at),
            "state": self.state.value,
            "until": _moment(self.until),
            "sent": self.sent,
            "before": list(self.before),
        }
        return versioned_json.write(document)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Claim":
        """Decode *data*.

        Raises:
            ClaimDamaged: it is damaged, or of another version.
        """
        try:
            document = versioned_json.read(data, VERSION)
            return cls(
                ses_id=_text(document, "ses_id"),
                server=_text(document, "server"),
                at=_time(document, "at"),
                state=State(document["state"]),
                until=_time(document, "until"),
                sent=_text(document, "sent"),
                before=tuple(str(one) for one in document["before"])[-_REMEMBERED:],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ClaimDamaged(f"claim: damaged: {type(error).__name__}: {error}") from error


def taken(before: Claim | None, ses_id: str, server: str, at: datetime, until: datetime) -> Claim:
    """The claim of *server* for the message *ses_id*, over the one *before*."""
    past: tuple[str, ...] = ()
    if before is not None:
        past = before.before if before.ses_id == ses_id else (*before.before, before.ses_id)[-_REMEMBERED:]
    return Claim(ses_id, server, at, State.SENDING, until, before=past)


def judge(
    claim: Claim | None, ses_id: str, server: str, at: datetime, *, again: bool, unsent: bool = False
) -> Verdict:
    """What *server* may do about the message *ses_id*, *at* this time.

    *again* is whether twice is better than never; *unsent* whether this very process knows that SES did not
    take it although the claim says *sending*.
    """
    if claim is None:
        return Verdict.TAKE
    if claim.ses_id != ses_id:
        answered = ses_id in claim.before or at < claim.until
        return Verdict.DONE if answered else Verdict.TAKE
    if claim.state in (State.SENT, State.REFUSED):
        return Verdict.DONE
    own, over = claim.server == server, at - claim.at >= LEASE
    if claim.state is State.CLAIMED:
        return Verdict.TAKE if own or over else Verdict.WAIT
    if own and (unsent or again):
        return Verdict.TAKE
    if own or over:
        return Verdict.TAKE if again else Verdict.DONE
    return Verdict.WAIT


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document[name]
    if not isinstance(value, str):
        raise ClaimDamaged(f"claim: {name}: expected a string, got {value!r}")
    return value


def _time(document: Mapping[str, Any], name: str) -> datetime:
    moment = datetime.fromisoformat(_text(document, name))
    if moment.tzinfo is None:
        raise ClaimDamaged(f"claim: {name}: expected a time zone, got {document[name]!r}")
    return moment.astimezone(UTC)
