"""One chaos run: the system with its proxies, mail while faults come and go, the drain, and the verdict."""

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinmail import imap
from twinmail.chaos import cloud_faults
from twinmail.chaos.fault import Fault
from twinmail.chaos.letters import CONFIG, Letter
from twinmail.chaos.mail_client import seen
from twinmail.chaos.proxy import Proxy
from twinmail.chaos.reconciler import Reconciler
from twinmail.chaos.schedule import RESTARTED, Window, schedule
from twinmail.chaos.server_faults import Servers
from twinmail.chaos.traffic import Batch, Heard, Traffic
from twinmail.chaos.verdict import Verdict, missing, verdict
from twinmail.errors import TwinmailError
from twinmail.local import pki
from twinmail.local.accounts import passwords
from twinmail.local.state import LOOPBACK, State
from twinmail.local.system import LocalSystem
from twinmail.runtime.interface import Runtime

Say = Callable[[str], None]

LEAST_SECONDS, MOST_SECONDS = 2.0, 8.0
"""How long a window is open: until its messages are accepted, within these."""

_DRAIN_SECONDS = 600.0
_ACCEPTED_SECONDS = 300.0
_HEAL_SECONDS = 900.0
# Messages that may wait for the function when a window begins, and how long that is waited for.
_BACKLOG, _PACE_SECONDS = 150, 20.0
# A message arrives twice with a notice that comes late; shorter than in production, so that a run ends.
_ARRIVALS = {"DelaySeconds": "20", "VisibilityTimeout": "60"}
_VOLUME_MB, _VOLUME_KB_A_MESSAGE = 64, 80


@dataclass
class Result:
    """What a run came to.

    Attributes:
        sent: messages accepted with 250.
        faults: how often each took effect.
        windows: how often each was there.
        seconds: from the first message to the last of them delivered.
    """

    seed: int
    sent: int
    verdict: Verdict
    faults: Mapping[str, int]
    windows: Mapping[str, int]
    heard: Mapping[str, int]
    seconds: float

    @property
    def idle(self) -> tuple[str, ...]:
        """Faults that never took effect: nothing is known of them."""
        return tuple(sorted(name for name, count in self.faults.items() if not count))

    def to_json(self) -> dict[str, Any]:
        """One object for scripts."""
        return {
            "sent": self.sent,
            "lost": len(self.verdict.lost),
            "duplicated": len(self.verdict.duplicated),
            "changed": len(self.verdict.changed),
            "unasked": len(self.verdict.unasked),
            "seed": self.seed,
            "faults": dict(self.faults),
            "windows": dict(self.windows),
            "attempts": dict(self.heard),
            "seconds": round(self.seconds, 1),
        }


@dataclass
class Run:
    """A system in *folder*, to be sent messages while faults come and go.

    Attributes:
        endpoint, proxies, seed: see `twinmail.chaos.cloud_faults.System`.
    """

    folder: Path
    images: State
    runtime: Runtime
    platform: str
    messages: int
    seed: int
    say: Say
    proxies: dict[str, Proxy] = field(default_factory=dict)
    _volumes: dict[str, Path] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def endpoint(self) -> str:
        """LocalStack itself."""
        return self.system.endpoint

    def __enter__(self) -> "Run":
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def faults(self) -> dict[str, Fault]:
        """Every fault that this machine can have, by name."""
        found: list[Fault] = [*cloud_faults.faults(self), *Servers(self.system, self._volumes).faults()]
        return {one.name: one for one in found}

    def run(self, names: Sequence[str]) -> Result:
        """Send all messages while the faults *names* come and go; drain; compare.

        Raises:
            KeyError: this machine cannot have one of them.
            TwinmailError: the system could not be healed.
        """
        faults = self.faults()
        chosen = {name: faults[name] for name in names}
        plan = schedule(sorted(names), self.messages, self.seed)
        traffic = Traffic(LOOPBACK, self.system.ports["edge"])
        reconciler = Reconciler(self.system.session(), self.system.config, self.say)
        began = time.monotonic()
        with reconciler.scheduled():
            try:
                batches = [
                    self._window(one, number, len(plan), chosen, traffic, reconciler)
                    for number, one in enumerate(plan)
                ]
                self._until(lambda: all(one.done for one in batches), _ACCEPTED_SECONDS, "accepting")
            finally:
                traffic.close()
                self._heal(chosen.values())
        self.say("drain")
        self._drain(traffic, reconciler)
        found = verdict(traffic.attempts, self._mail)
        if found.clean:
            found = seen(traffic.attempts, self._accounts(), self.seed)
        counts = traffic.counts()
        return Result(
            seed=self.seed,
            sent=counts[Heard.ACCEPTED],
            verdict=found,
            faults={name: one.happened for name, one in chosen.items()},
            windows={name: sum(name in one.faults for one in plan) for name in chosen},
            heard={one.value: count for one, count in counts.items()},
            seconds=time.monotonic() - began,
        )

    # The system

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "twinmail.toml"
        config.write_text(CONFIG.replace("PLATFORM", self.platform))
        state = State(root=self.folder / "local", images=self.images.images, layers=self.images.layers)
        self.system = LocalSystem(
            state,
            config,
            self.runtime,
            self.platform,
            ephemeral_ports=True,
            syncer_options=("--poll-seconds", "2"),
        )
        port = self.system.ports["localstack"]
        for name in (cloud_faults.FUNCTION, "edge", *(f"{one}-syncer" for one in self.system.config.servers)):
            self.proxies[name] = Proxy(port, self.seed).start()
            self._stack.callback(self.proxies[name].stop)
        function = self.proxies[cloud_faults.FUNCTION].url
        self.system.localstack_options = (*cloud_faults.OPTIONS, "--function-endpoint", function)
        self.system.endpoints = {
            name: one.url for name, one in self.proxies.items() if name != cloud_faults.FUNCTION
        }
        self._make_volume("backup")
        self._stack.callback(self.system.stop)
        self.system.start()
        self._hasten()

    def _hasten(self) -> None:
        """Let notices of arrivals come sooner: a LocalStack that is new has the queue as deployed."""
        sqs = self.system.session().client("sqs")
        url = sqs.get_queue_url(QueueName=self.system.config.arrivals_queue)["QueueUrl"]
        sqs.set_queue_attributes(QueueUrl=url, Attributes=_ARRIVALS)

    def _make_volume(self, server: str) -> None:
        """A small file system for the Maildirs of *server*, if we may make one."""
        path = self.system.state.maildirs(server)
        path.mkdir(parents=True, exist_ok=True)
        size = _VOLUME_MB + self.messages * _VOLUME_KB_A_MESSAGE // 1024
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "twinmail-chaos", str(path)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            self.say(
                "no file system of its own can be made here (root may): no fault of volumes but slow ones"
            )
            return
        self._stack.callback(subprocess.run, ["umount", "-l", str(path)], check=False)
        self._volumes[server] = path

    def _accounts(self) -> dict[str, dict[str, imap.Account]]:
        tls = pki.client_context(self.system.ca)
        return {
            server: {
                name: imap.Account(LOOPBACK, self.system.ports[f"{server}-imaps"], name, secret, tls)
                for name, secret in passwords(self.system.state).items()
            }
            for server in self.system.config.servers
        }

    @property
    def _mail(self) -> dict[str, Path]:
        return {name: self.system.state.maildirs(name) for name in self.system.config.servers}

    # Mail and faults

    def _window(
        self,
        window: Window,
        number: int,
        many: int,
        faults: Mapping[str, Fault],
        traffic: Traffic,
        reconciler: Reconciler,
    ) -> Batch:
        counts = traffic.counts()
        self.say(
            f"window {number + 1} of {many}: {', '.join(window.faults) or 'no fault'}; "
            f"{counts[Heard.ACCEPTED]} of {self.messages} accepted"
        )
        for name in window.faults:
            self._try(faults[name].begin, name)
        if RESTARTED in window.faults:
            self._hasten()
        began = time.monotonic()
        batch = traffic.send(Letter.of(self.seed, one) for one in range(window.first, window.last))
        least = began + LEAST_SECONDS * (0.5 + random.Random(f"{self.seed}/{number}").random())
        while time.monotonic() < least or (not batch.done and time.monotonic() < began + MOST_SECONDS):
            time.sleep(0.05)
        # The last one first: of two at the same volume the second one is in the way of healing the first.
        for name in reversed(window.faults):
            self._try(faults[name].end, name)
        self._pace(traffic, reconciler)
        return batch

    def _pace(self, traffic: Traffic, reconciler: Reconciler) -> None:
        """Let the function catch up, so that the next faults meet mail on its way and not one long queue."""
        deadline = time.monotonic() + _PACE_SECONDS
        with suppress(BotoCoreError, ClientError):
            while time.monotonic() < deadline:
                if traffic.counts()[Heard.ACCEPTED] - len(reconciler.in_log()) <= _BACKLOG:
                    return
                time.sleep(0.5)

    def _try(self, act: Callable[[], None], name: str) -> None:
        """What cannot be brought about, or healed now, is said; at the end it must be."""
        try:
            act()
        except TwinmailError as error:
            self.say(f"{name}: {error}")

    def _heal(self, faults: Iterable[Fault]) -> None:
        for one in reversed(list(faults)):
            with suppress(TwinmailError):
                one.end()
        for proxy in self.proxies.values():
            proxy.mend()
        for name in self.system.ended():
            self.system.restart(name)
        for server in self.system.config.servers:
            self.system.wait_for_dovecot(server)
            self._wait_for_syncer(server)

    def _wait_for_syncer(self, server: str) -> None:
        """With patience: one whose ledger is gone looks at all mail before it says that it is ready."""
        deadline = time.monotonic() + _HEAL_SECONDS
        while True:
            try:
                self.system.wait_for_syncer(server)
                return
            except TwinmailError as error:
                if time.monotonic() > deadline:
                    raise
                self.say(f"{server}: the syncer is not ready yet: {str(error).splitlines()[0]}")

    # The drain

    def _drain(self, traffic: Traffic, reconciler: Reconciler) -> None:
        """Have the reconciler bring what was missed, and wait until nothing more comes."""
        reconciler.bring({one.ses_id for one in traffic.attempts if one.heard is Heard.ACCEPTED})
        self._until(lambda: not missing(traffic.attempts, self._mail), _DRAIN_SECONDS, "drain: delivering")
        self._until(reconciler.quiet, _DRAIN_SECONDS, "drain: settling")

    def _until(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait; what is not done in time is found by the verdict."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                self.say(f"{what}: not done in {seconds:.0f} s")
                return
            time.sleep(0.2)
