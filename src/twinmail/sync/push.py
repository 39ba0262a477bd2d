"""Push: the queue announces entries within a second of their commit."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

from twinmail.sync import notice
from twinmail.sync.carrier import Carrier
from twinmail.sync.log import Log
from twinmail.sync.outage import Outage, pause
from twinmail.sync.outcome import Outcome
from twinmail.sync.source import Notification, Queue, QueueUnavailable
from twinmail.sync.steps import Checkpoint, no_checkpoint

ORIGIN = "push"
# Each is at least one entry in flight or waiting; more would only time out while they wait.
_OUTSTANDING = 64
_RELEASE_CAP_SECONDS = 120.0


class Push:
    """Receives from *queue*, has the entries carried, and acknowledges what is durably delivered.

    What is announced of the shared state goes to *poke*; who misses that looks by itself before long.

    Attributes:
        connected: set once the queue was found.
    """

    def __init__(
        self,
        queue: Queue,
        carrier: Carrier,
        bucket: str,
        log: Log,
        outage: Outage,
        checkpoint: Checkpoint = no_checkpoint,
        poke: Callable[[str], None] = lambda key: None,
    ) -> None:
        self.connected = threading.Event()
        self._queue = queue
        self._carrier = carrier
        self._bucket = bucket
        self._log = log
        self._outage = outage
        self._checkpoint = checkpoint
        self._poke = poke
        self._outstanding = 0
        self._changed = threading.Condition()

    def run(self, stopping: threading.Event) -> None:
        """Receive until *stopping*."""
        while not stopping.is_set():
            try:
                if not self.connected.is_set() or self._outage.trouble:
                    self._queue.connect()
                    self._outage.worked()
                    self.connected.set()
                self.turn(stopping)
            except QueueUnavailable as error:
                self._outage.failed(error)
            # While the store or the disk fails, taking notices would only make them wait out of sight.
            stopping.wait(max(self._outage.pause(), self._carrier.store.pause(), self._carrier.disk.pause()))

    def turn(self, stopping: threading.Event) -> None:
        """Receive once and hand over what was received.

        Raises:
            QueueUnavailable.
        """
        with self._changed:
            while self._outstanding >= _OUTSTANDING and not stopping.is_set():
                self._changed.wait(1.0)
        if stopping.is_set():
            return
        received = self._queue.receive()
        self._outage.worked()
        for one in received:
            self._accept(one)

    def drain(self, seconds: float) -> bool:
        """Wait until every notice in hand is acknowledged or handed back, and return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._outstanding == 0, max(0.0, seconds))

    def _accept(self, notification: Notification) -> None:
        told = notice.read(notification.body, self._bucket)
        if told.junk:
            self._log.warning("junk", notes=list(told.junk)[:10], body=notification.body[:500])
        for key in told.state:
            self._poke(key)
        if not told.keys:
            self._queue.acknowledge(notification)
            return
        with self._changed:
            self._outstanding += 1
        futures = [self._carrier.carry(key, ORIGIN) for key in told.keys]
        left = len(futures)
        lock = threading.Lock()

        def ended(_: "Future[Outcome]") -> None:
            nonlocal left
            with lock:
                left -= 1
                last = left == 0
            if last:
                self._settle(notification, [one.result() for one in futures])

        for future in futures:
            future.add_done_callback(ended)

    def _settle(self, notification: Notification, outcomes: list[Outcome]) -> None:
        """All entries of *notification* ended; this runs in the thread of the last."""
        try:
            # Durable delivery and ledger first: acknowledging is the last step.
            if all(one.settled for one in outcomes):
                self._queue.acknowledge(notification)
                self._checkpoint("acknowledged")
            elif Outcome.STOPPED in outcomes:
                # The next start need not wait for it.
                self._queue.release(notification, 0)
            else:
                seconds = int(pause(notification.attempt, base=2.0, cap=_RELEASE_CAP_SECONDS))
                self._queue.release(notification, seconds)
        except QueueUnavailable as error:
            # It will be announced again, and the ledger will know it.
            self._outage.failed(error)
        finally:
            with self._changed:
                self._outstanding -= 1
                self._changed.notify_all()
