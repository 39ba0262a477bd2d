"""All checks, at once: each has its own time, so that a host that never answers keeps nobody waiting."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

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
        by_server: whether each server is asked on its own, so that one waits for none of the others.
    """

    name: str
    about: str
    ask: Ask
    absent: str = ""
    by_server: bool = False


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
    Check(
        "alarms",
        "whether somebody hears of them, and which ring",
        own.alarms,
        "nobody is told of a local system",
    ),
    Check(
        "servers",
        "what they say, how far behind the log, last message, disk",
        servers.servers,
        by_server=True,
    ),
    Check(
        "images",
        "what runs on each server beside the pins",
        servers.images,
        "a local system runs what was built last",
        by_server=True,
    ),
    Check("ports", "each port that people need, from this network", outside.ports, by_server=True),
    Check(
        "certificates",
        "trusted, for the right name, valid for long enough",
        outside.certificates,
        by_server=True,
    ),
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


@dataclass
class _Part:
    """A check, or what it looks at of one server; it is in a thread of its own.

    Attributes:
        findings: what is known already.
    """

    check: Check
    patient: Patient
    subject: str
    findings: list[Finding] = field(default_factory=list)
    done: bool = False

    def run(self, ended: "SimpleQueue[None]") -> None:
        try:
            for one in ask(self.patient, self.check):
                self.findings.append(one)
        finally:
            self.done = True
            ended.put(None)


def examine(
    patient: Patient,
    checks: Sequence[Check],
    seconds: float = SECONDS,
    waiting: Callable[[Sequence[str]], None] = lambda names: None,
) -> tuple[Finding, ...]:
    """The findings of *checks*, in their order; what takes longer than *seconds* cannot be told.

    Args:
        waiting: is told the names of the checks that are not done, whenever these change.
    """
    parts = [part for one in checks for part in _parts(patient, one)]
    ended: SimpleQueue[None] = SimpleQueue()
    waiting(tuple(one.name for one in checks))
    for one in parts:
        # Daemons: one that hangs must not keep the process alive.
        threading.Thread(target=one.run, args=(ended,), name=one.subject, daemon=True).start()
    deadline = time.monotonic() + seconds
    while any(not one.done for one in parts):
        try:
            ended.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            break
        waiting(tuple(dict.fromkeys(one.check.name for one in parts if not one.done)))
    late = f"no answer in {seconds:.0f} s"
    return tuple(
        finding
        for one in parts
        for finding in (
            *one.findings,
            *(() if one.done else (Finding(one.check.name, one.subject, State.UNKNOWN, late),)),
        )
    )


def _parts(patient: Patient, check: Check) -> list[_Part]:
    if not check.by_server or (patient.local and check.absent):
        return [_Part(check, patient, check.name)]
    return [_Part(check, patient.at(name), name) for name in patient.servers]


def ask(patient: Patient, check: Check) -> Iterable[Finding]:
    """The findings of *check*; whatever fails is a finding too."""
    if patient.local and check.absent:
        yield Finding(check.name, check.name, State.ELSEWHERE, check.absent)
        return
    subject = patient.servers[0] if check.by_server and len(patient.servers) == 1 else check.name
    try:
        yield from check.ask(patient)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        text = " ".join(str(error).split())[:300]
        action = _ACTION.search(text)
        allow = action[1] if action else f"call {error.operation_name}"
        remedy = (
            f"let this user {allow}: ./inv deploy policy prints all that it takes" if code in _DENIED else ""
        )
        yield Finding(check.name, subject, State.UNKNOWN, text, remedy)
    # What a server or AWS says may have any form.
    except (BotoCoreError, TwinmailError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        yield Finding(check.name, subject, State.UNKNOWN, text)
