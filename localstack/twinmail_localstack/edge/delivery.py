"""Delivering what SES took for sending: back in for our own addresses, events for all of it.

A message stays in LocalStack's outbox until everything about it is done. A repetition has the same ids, so
that whoever keeps to them sees nothing twice.
"""

import asyncio
import contextlib
import json
import threading
from concurrent.futures import CancelledError, Executor
from datetime import UTC, datetime
from typing import Any

from twinmail_localstack.edge.acceptance import UNAVAILABLE, Acceptance, NotAccepted
from twinmail_localstack.edge.event import timestamp
from twinmail_localstack.edge.headers import resent
from twinmail_localstack.edge.localstack import LocalStack, Unreachable
from twinmail_localstack.edge.log import log
from twinmail_localstack.edge.outgoing import Fate, bounce, complaint, fate, returned_id
from twinmail_localstack.edge.reception import Reception
from twinmail_localstack.edge.rules import Rules
from twinmail_localstack.edge.sending_event import SUBJECT, event
from twinmail_localstack.edge.verdict import FAIL, judge
from twinmail_localstack.sent import Sent

_PAUSE_SECONDS = 1.0
_WORKERS = 2


class Delivery:
    """Delivers what is in the outbox."""

    def __init__(
        self,
        localstack: LocalStack,
        rules: Rules,
        acceptance: Acceptance,
        sns: Any,
        executor: Executor,
        region: str,
    ) -> None:
        self._localstack = localstack
        self._rules = rules
        self._acceptance = acceptance
        self._sns = sns
        self._executor = executor
        self._region = region
        self._stopping = threading.Event()
        self._in_hand: set[asyncio.Task[Any]] = set()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin. The threads end with the process: a message that they hold is due again after a while."""
        for number in range(_WORKERS):
            thread = threading.Thread(target=self._work, args=(loop,), name=f"delivery-{number}", daemon=True)
            thread.start()

    async def drain(self, seconds: float) -> None:
        """Fetch nothing more, and wait for what is in hand, *seconds* at most."""
        self._stopping.set()
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=max(0.0, seconds))

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        failing = False
        while not self._stopping.is_set():
            try:
                sent = self._localstack.next_message()
                failing = False
            except Unreachable as error:
                if not failing:
                    log("outbox unavailable", error=str(error))
                failing = True
                self._stopping.wait(_PAUSE_SECONDS)
                continue
            if sent is not None and not self._stopping.is_set():
                with contextlib.suppress(RuntimeError, CancelledError):
                    asyncio.run_coroutine_threadsafe(self._deliver(sent), loop).result()

    async def _deliver(self, sent: Sent) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._in_hand.add(task)
        again = False
        try:
            await self._perform(sent)
        except (*UNAVAILABLE, NotAccepted) as error:
            again = True
            log("not delivered yet", message_id=sent.ses_id, error=str(error))
        except Exception as error:  # noqa: BLE001  one message must not keep the others from being delivered
            log("delivery failed", message_id=sent.ses_id, error=repr(error))
        finally:
            self._in_hand.discard(task)
        try:
            await self._in_thread(self._localstack.done, sent.ses_id, again)
        except Unreachable as error:
            log("outbox unavailable", error=str(error))

    async def _perform(self, sent: Sent) -> None:
        rules = await self._rules.current()
        if not rules.rules:
            # Between a start and a deployment: nobody is unknown yet.
            raise NotAccepted("no receipt rule set is active")
        await self._publish(sent, "Send", {})
        verdicts = await self._in_thread(judge, sent.data, True, True)
        if verdicts.virus == FAIL:
            await self._publish(sent, "Reject", {"reason": "Bad content"})
            return
        fates = {
            one: fate(one, lambda address: bool(rules.matching(address)), sent.identities)
            for one in sent.destinations
        }
        await self._return(sent, tuple(one for one, kind in fates.items() if kind is Fate.RETURNED))
        for recipient, kind in fates.items():
            await self._report(sent, recipient, kind)
        log("delivered", message_id=sent.ses_id, fates=[one.value for one in fates.values()])

    async def _report(self, sent: Sent, recipient: str, kind: Fate) -> None:
        stamp = timestamp(datetime.now(UTC))
        if kind in (Fate.BOUNCED, Fate.SUPPRESSED, Fate.UNKNOWN, Fate.AWAY):
            await self._publish(sent, "Bounce", bounce(sent, recipient, kind, self._region, stamp))
            return
        details = {
            "timestamp": stamp,
            "processingTimeMillis": 1,
            "recipients": [recipient],
            "smtpResponse": "250 2.6.0 Message received",
            "reportingMTA": f"a1-1.smtp-out.{self._region}.amazonses.com",
        }
        await self._publish(sent, "Delivery", details)
        if kind is Fate.COMPLAINED:
            await self._publish(sent, "Complaint", complaint(sent, recipient, stamp))

    async def _publish(self, sent: Sent, kind: str, details: dict[str, Any]) -> None:
        for report in sent.reports:
            if kind.lower() in report.events:
                text = json.dumps(event(kind, sent, details))
                await self._in_thread(self._send, report.topic, text)

    def _send(self, topic: str, text: str) -> None:
        self._sns.publish(TopicArn=topic, Message=text, Subject=SUBJECT)

    async def _return(self, sent: Sent, recipients: tuple[str, ...]) -> None:
        """Take the message in again for the recipients that our own rules match."""
        if not recipients:
            return
        now = datetime.now(UTC)
        host = f"a1-1.smtp-out.{self._region}.amazonses.com"
        await self._acceptance.accept(
            Reception(
                ses_id=returned_id(sent.ses_id, recipients),
                arrived=now,
                client="127.0.0.1",
                host=host,
                helo=host,
                # SES sends with an address of its own, so that bounces come to it.
                mail_from=f"{sent.ses_id}@{self._region}.amazonses.com",
                rcpt_to=recipients,
                content=resent(sent.data, sent.ses_id, self._region, now),
                own=True,
            )
        )

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)
