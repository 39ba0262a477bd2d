"""The cloud and the access keys of its users, as one plan."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twinmail.config import Config
from twinmail.deploy import credentials
from twinmail.deploy.cloud import Cloud, CloudPlan
from twinmail.deploy.credentials import Needed
from twinmail.secret_store import SecretStore

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What would change.

    Attributes:
        config: what was planned for.
        needed: keys that are to be made.
    """

    config: Config
    cloud: CloudPlan
    needed: tuple[Needed, ...]

    def lines(self) -> tuple[str, ...]:
        """One line a change; none if everything is as it should be."""
        keys = (f"make an access key of {one.user}, kept as {one.secret}" for one in self.needed)
        return (*self.cloud.lines(self.config), *keys)


@dataclass(frozen=True)
class CloudPart:
    """What is in AWS.

    Attributes:
        session: boto3's, or with its interface.
        store: where keys are kept; None where servers have others.
    """

    config: Config
    cloud: Cloud
    session: Any
    store: SecretStore | None

    @property
    def name(self) -> str:
        """For messages."""
        return f"cloud: stack {self.config.stack}"

    def plan(self, keep: bool = False) -> Plan:
        """What would change; with *keep* for `apply`, else nothing of it is left.

        Raises:
            TwinmailError: see `Cloud.plan` and `credentials.plan`.
        """
        found = self.cloud.plan(keep)
        return Plan(self.config, found, credentials.plan(self.config, self.store) if self.store else ())

    def apply(self, plan: Plan, say: Say) -> None:
        """Do what *plan*, which was kept, says.

        Raises:
            TwinmailError: see `Cloud.apply` and `credentials.make`; the same command goes on.
        """
        if plan.cloud.lines(self.config):
            self.cloud.apply(plan.cloud, say)
        for one in plan.needed:
            assert self.store is not None
            credentials.make(self.session.client("iam"), one, self.store)
            say(f"made an access key of {one.user}")
