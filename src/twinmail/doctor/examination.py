"""All checks, at once: each has its own time, so that a host that never answers keeps nobody waiting."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from twinmail.doctor import account, outside, own, receiving, servers
from twinmail.doctor.finding import Finding, State
from twinmail.doctor.patient import Patient
from twinmail.errors import PermanentError, TwinmailError

SECONDS = 60.0

_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError")
_ACTION = re.compile(r"perform: ?([a-z0-9-]+:[A-Za-z*]+)")

Ask = Callable[[Patient], Iterable[Finding]]


class NoCheck(PermanentError):
    """There is no check with this name."""


@dataclass(frozen=True)
class Check:
    """A check.

    Attributes:
        about: what it looks at, in half a sentence; docs/doctor.md has the same.
        absent: why it says nothing of a local system; empty if it does.
    """

    name: str
    about: str
    ask: Ask
    absent: str = ""


CHECKS = (
    Check("configuration", "twinmail.toml: what is allowed in it and seldom meant", own.configuration),
    Check(
        "secrets",
        "the operator's store: complete, readable by its owner alone",
        own.secrets,
        "the local system keeps its own",
    ),
    Check("credentials", "who we are to AWS, and in which region", account.credentials),
    Check("clock", "this machine's clock beside that of AWS", account.clock),
    Check(
        "sending",
        "SES: sandbox, enforcement, quota; the plan of the account",
        account.sending,
        "the local SES sends for everybody",
    ),
    Check(
        "identities",
        "each domain at SES: verified, DKIM, envelope sender, configuration set",
        account.identities,
        "the local SES signs nothing",
    ),
    Check("stack", "deployed, whole, and what the configuration says now", own.stack),
    Check("rules", "the active receipt rule set: ours, on, with our recipients, scanning", receiving.rules),
    Check("bucket", "its policy, public access, versions, notifications", receiving.bucket),
    Check("queues", "each server's queue: there, subscribed, open to the topic", receiving.queues),
    Check("dead letters", "what the function gave up on", receiving.dead_letters),
    Check("alarms", "whether somebody hears of them, and which ring", own.alarms),
    Check("servers", "what they say, how far behind the log, last message, disk", servers.servers),
    Check("images", "what runs on each server beside the pins", servers.images),
    Check("ports", "each port that people need, from this network", outside.ports),
    Check("certificates", "trusted, for the right name, valid for long enough", outside.certificates),
    Check("dns", "every record, as ./inv dns --check", outside.dns, "a local system has no names"),
    Check(
        "keys",
        "how old the access keys of syncers and relays are",
        account.keys,
        "they are made at each start",
    ),
    Check("cost", "what a month costs beside the budget", own.cost),
)


def chosen(names: Sequence[str]) -> tuple[Check, ...]:
    """The checks *names*; all if there are none.

    Raises:
        NoCheck: see there.
    """
    known = {one.name.replace(" ", "-"): one for one in CHECKS}
    for name in names:
        if name.replace(" ", "-") not in known:
            raise NoCheck(f"--only {name}: expected one of {', '.join(known)}")
    return tuple(known[name.replace(" ", "-")] for name in names) or CHECKS


def examine(
    patient: Patient,
    checks: Sequence[Check],
    seconds: float = SECONDS,
    begun: Callable[[str], None] = lambda name: None,
) -> tuple[Finding, ...]:
    """The findings of *checks*, in their order; what takes longer than *seconds* cannot be told."""
    results: dict[str, tuple[Finding, ...]] = {}
    threads = []
    for one in checks:
        begun(one.name)
        # Daemons: one that hangs must not keep the process alive.
        thread = threading.Thread(
            target=lambda one=one: results.update({one.name: ask(patient, one)}), name=one.name, daemon=True
        )
        thread.start()
        threads.append(thread)
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer in {seconds:.0f} s"
    return tuple(
        finding
        for one in checks
        for finding in results.get(one.name, (Finding(one.name, one.name, State.UNKNOWN, late),))
    )


def ask(patient: Patient, check: Check) -> tuple[Finding, ...]:
    """The findings of *check*; whatever fails is a finding too."""
    if patient.local and check.absent:
        return (Finding(check.name, check.name, State.ELSEWHERE, check.absent),)
    try:
        return tuple(check.ask(patient))
    except ClientError as error:
        code = error.response["Error"]["Code"]
        text = " ".join(str(error).split())[:300]
        action = _ACTION.search(text)
        allow = action[1] if action else f"it ({error.operation_name})"
        remedy = (
            f"let this user {allow}: ./inv deploy policy prints all that it takes" if code in _DENIED else ""
        )
        return (Finding(check.name, check.name, State.UNKNOWN, text, remedy),)
    except (BotoCoreError, TwinmailError, OSError, ValueError, KeyError) as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return (Finding(check.name, check.name, State.UNKNOWN, text),)
