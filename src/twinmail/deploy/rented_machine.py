"""The machine of a server at Lightsail and the way to it: its key, the calls that make it, then SSH.

Who answers at its address is known by the host keys that Lightsail recorded from inside of AWS: they come by
the same authenticated API as everything else here, so nothing is trusted because it happened to answer first.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twinmail.config import Config
from twinmail.deploy import lightsail, ssh, ssh_key
from twinmail.deploy.lightsail import Found, LightsailError, LightsailUnavailable, Step, Wanted
from twinmail.deploy.ssh import Machine, SshFailed, SshUnreachable
from twinmail.errors import PermanentError, TransientError
from twinmail.secret_store import SecretStore

Say = Callable[[str], None]

READY_SECONDS = 900.0
"""From the start of a machine to the end of its first boot, at most; it takes two or three minutes."""

_LOOK = """\
state=$(cloud-init status 2>/dev/null | head -n 1)
if [ -e {ready} ]; then echo ready; exit; fi
printf '%s\\n' "${{state:-status: unknown}}"
tail -n 4 /var/log/cloud-init-output.log 2>/dev/null || :
"""
_OVER = ("status: done", "status: error", "status: disabled")


class FirstBootError(PermanentError):
    """The first boot ended without having done everything."""


class NotReady(TransientError):
    """The machine is not ready yet; the same command goes on waiting."""


@dataclass(frozen=True)
class Plan:
    """What would change at Lightsail.

    Attributes:
        new_key: whether the SSH key is still to be made.
    """

    wanted: Wanted
    found: Found
    new_key: bool
    steps: tuple[Step, ...]

    def lines(self) -> tuple[str, ...]:
        """One line a change; none if everything is as it should be."""
        if not self.new_key:
            return tuple(one.text for one in self.steps)
        # Its name follows from a key that is not there yet.
        rest = tuple(one.text for one in self.steps if one.method != "import_key_pair")
        return ("make an SSH key, and import it", *rest)


@dataclass(frozen=True)
class RentedMachine:
    """The machine of *server*.

    Attributes:
        client: boto3's for Lightsail, or one with its interface.
        folder: where its host keys are written down, on this machine.
        ssh: the program, and options for it.
        ready: file on the machine that its first boot ends with.
        pause: seconds from look to look.
    """

    config: Config
    server: str
    client: Any
    store: SecretStore
    folder: Path
    ssh: tuple[str, ...] = ("ssh",)
    ready: str = lightsail.READY
    pause: float = 5.0

    def plan(self) -> Plan:
        """What would change; nothing is changed, and no key is made.

        Raises:
            LightsailError: what is there cannot become what is wanted.
            LightsailUnavailable: transient.
            SecretStoreError, SshKeyError: see there.
        """
        private = self.store.get(ssh_key.name(self.server))
        # A key for the time being: no more than its name is different.
        key = ssh_key.public(private or ssh_key.make(), self.server)
        wanted = lightsail.wanted(self.config, self.server, key)
        found = lightsail.read(self.client, wanted)
        if private is None and found.instance:
            raise LightsailError(
                f"instance {wanted.name} is there, and its SSH key {ssh_key.name(self.server)} is not in "
                f"{self.store.root}; copy that folder from where you deployed before, or delete the instance "
                "and run the same command: the new one gets the mail from S3"
            )
        return Plan(wanted, found, private is None, lightsail.plan(wanted, found))

    def apply(self, plan: Plan, say: Say) -> Machine:
        """Do what *plan* says, and return the machine when its first boot has done everything.

        Raises:
            LightsailUnavailable, NotReady, NotWritten: transient; the same command goes on.
            FirstBootError, LightsailError: see there.
        """
        wanted, steps = plan.wanted, plan.steps
        if plan.new_key:
            say(f"making the SSH key {ssh_key.name(self.server)}")
            private = ssh_key.make()
            # Kept before it is of use: a machine whose key is lost is a lost machine.
            self.store.put(ssh_key.name(self.server), private)
            wanted = lightsail.wanted(self.config, self.server, ssh_key.public(private, self.server))
            steps = lightsail.plan(wanted, replace(plan.found, key=False))
        lightsail.apply(self.client, wanted, steps, say, self.pause)
        return self._wait(wanted, say)

    def look(self, plan: Plan) -> Machine | None:
        """The machine, if it is there, answers and is ready; nobody waits for it.

        Raises:
            LightsailError, LightsailUnavailable: see there.
            SshUnreachable: it does not answer, and nothing in *plan* would change that.
        """
        if plan.found.instance is None or (plan.found.static_ip or {}).get("attachedTo") != plan.wanted.name:
            return None
        try:
            machine = self._machine(plan.wanted)
            return machine if self._state(machine)[0] == "ready" else None
        except (SshUnreachable, LightsailUnavailable):
            if plan.steps:
                return None
            raise

    def _machine(self, wanted: Wanted) -> Machine:
        details = lightsail.access(self.client, wanted)
        identity = self.store.path(ssh_key.name(self.server))
        options = ssh.options(self.folder, wanted.name, details.host_keys, identity)
        host = f"{details.user}@{lightsail.address(self.client, wanted)}"
        return Machine(host, (*self.ssh, *options[1:]), sudo=details.user != "root")

    def _state(self, machine: Machine) -> list[str]:
        return machine.run(_LOOK.format(ready=self.ready)).decode(errors="replace").splitlines()

    def _wait(self, wanted: Wanted, say: Say) -> Machine:
        deadline = time.monotonic() + READY_SECONDS
        told = ""
        while True:
            try:
                machine = self._machine(wanted)
                state, *log = self._state(machine)
            except (LightsailUnavailable, SshUnreachable, SshFailed) as error:
                # Its address, its host keys, its users: they come one after another.
                state, log = "no answer yet", [str(error)]
            if state == "ready":
                return machine
            if state in _OVER:
                raise FirstBootError(
                    f"instance {wanted.name}: its first boot ended without {self.ready}:\n  "
                    + "\n  ".join(log)
                    + "\nsee /var/log/cloud-init-output.log there; then delete the instance and run the "
                    "same command: the new one gets the mail from S3"
                )
            if time.monotonic() > deadline:
                raise NotReady(
                    f"instance {wanted.name}: not ready after {READY_SECONDS:.0f} s: {state}\n  "
                    + "\n  ".join(log)
                    + "\nrun the same command again"
                )
            if state != told:
                say(f"waiting for the first boot of {wanted.name}: {state}")
                told = state
            time.sleep(self.pause)
