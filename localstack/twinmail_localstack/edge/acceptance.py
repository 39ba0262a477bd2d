"""From an accepted message to its performed actions: when the sender gets its 250, and what is retried.

SES answers 250 once it has the message safe, performs the actions after that, and retries what fails for
four hours. The edge has no storage of its own, so a message is safe once an S3 action stored it:

- 250 is sent after the first S3 action, or after the last action where there is none;
- what fails before that is tried a few times, then the sender gets 451 and keeps the message; what may be
  stored of it all the same is removed again, or the message would be there twice when the sender comes back;
- what fails after that is retried for four hours, in order, then dropped with a log line. A retry may repeat
  an action that did happen, so events repeat, as SES's do.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinmail_localstack.edge.actions import ActionError, Actions, Message, Outcome
from twinmail_localstack.edge.log import log
from twinmail_localstack.edge.receipt import Step, following
from twinmail_localstack.edge.reception import Reception
from twinmail_localstack.edge.rules import Rules
from twinmail_localstack.edge.verdict import judge

UNAVAILABLE = (BotoCoreError, ClientError, ActionError)


@dataclass(frozen=True)
class Patience:
    """How long failed actions are retried.

    Attributes:
        attempts: before the message is safe; the sender is waiting.
        first: seconds before the second attempt; each wait doubles.
        longest: seconds of the longest wait.
        total: seconds after which an action of a safe message expires.
    """

    attempts: int = 3
    first: float = 0.2
    longest: float = 30.0
    total: float = 4 * 3600.0

    def wait(self, failures: int) -> float:
        """Seconds before the next attempt, half of them at random."""
        full = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return full * (0.5 + random.random() / 2)


PATIENT = Patience()


class NotAccepted(Exception):
    """The message is not safe anywhere; the sender must keep it."""


class Acceptance:
    """Accepts messages; `drain` waits for actions that are still going on."""

    def __init__(
        self,
        rules: Rules,
        actions: Actions,
        executor: Executor,
        region: str,
        patience: Patience = PATIENT,
    ) -> None:
        self._rules = rules
        self._actions = actions
        self._executor = executor
        self._region = region
        self._patience = patience
        self._running: set[asyncio.Task[None]] = set()

    async def accept(self, reception: Reception) -> None:
        """Return when *reception* is safe; its remaining actions go on by themselves.

        The plan is made from the rule set as it is now: later changes apply to later messages.

        Raises:
            NotAccepted: it is not, and nothing more will happen to it.
        """
        try:
            rule_set = await self._rules.current()
        except UNAVAILABLE as error:
            raise NotAccepted("the receipt rules cannot be read") from error
        if not rule_set.rules:
            # There was one when its recipients were taken: LocalStack has been started anew since.
            raise NotAccepted("no receipt rule set is active")
        steps = rule_set.plan(reception.rcpt_to)
        loop = asyncio.get_running_loop()
        scanned = rule_set.scans(reception.rcpt_to)
        verdicts = await loop.run_in_executor(
            self._executor, judge, reception.content, scanned, reception.own
        )
        safe: asyncio.Future[None] = loop.create_future()
        self._start(self._perform(Message(reception, verdicts, self._region), steps, safe))
        # The sender may hang up; the actions must not end with its session.
        await asyncio.shield(safe)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _perform(self, message: Message, steps: tuple[Step, ...], safe: asyncio.Future[None]) -> None:
        position = 0
        performed: list[str] = []
        while position < len(steps):
            step = steps[position]
            outcome = await self._attempt(message, step, safe, self._actions.perform)
            if outcome is None:
                return
            performed.append(f"{step.rule}:{type(step.action).__name__}")
            message = outcome.message
            if outcome.stored:
                # Before its topic is told: a sender that gets 451 sends again what is stored already.
                _settle(safe)
                if await self._attempt(message, step, safe, self._actions.announce) is None:
                    return
            position = following(steps, position, outcome.disposition)
        _settle(safe)
        log("performed", ses_id=message.reception.ses_id, actions=performed)

    async def _attempt(
        self,
        message: Message,
        step: Step,
        safe: asyncio.Future[None],
        perform: Callable[[Message, Step], Outcome],
    ) -> Outcome | None:
        """Perform one action, again and again if need be; None if it is given up."""
        loop = asyncio.get_running_loop()
        started, failures = loop.time(), 0
        while True:
            try:
                return await loop.run_in_executor(self._executor, perform, message, step)
            except UNAVAILABLE as error:
                failures += 1
                details = {
                    "ses_id": message.reception.ses_id,
                    "rule": step.rule,
                    "action": type(step.action).__name__,
                    "failures": failures,
                    "error": str(error),
                }
                log("action failed", **details)
                if not safe.done():
                    if failures >= self._patience.attempts:
                        safe.set_exception(NotAccepted(str(error)))
                        # Nobody may be waiting any more; the log has it.
                        safe.exception()
                        self._start(self._withdraw(message, step))
                        return None
                elif loop.time() - started > self._patience.total:
                    log("action expired", **details)
                    return None
                await asyncio.sleep(self._patience.wait(failures))

    async def _withdraw(self, message: Message, step: Step) -> None:
        """Remove what a failed action may have done: its answer can be lost although it did it."""
        loop = asyncio.get_running_loop()
        started, failures = loop.time(), 0
        while loop.time() - started <= self._patience.total:
            try:
                await loop.run_in_executor(self._executor, self._actions.withdraw, message, step)
            except UNAVAILABLE:
                failures += 1
                await asyncio.sleep(self._patience.wait(failures))
            else:
                log("withdrawn", ses_id=message.reception.ses_id, rule=step.rule)
                return

    async def drain(self, seconds: float, report: Callable[[int], None]) -> None:
        """Wait for the actions going on, *seconds* at most, then *report* how many are left."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        report(len(self._running))


def _settle(safe: asyncio.Future[None]) -> None:
    if not safe.done():
        safe.set_result(None)
