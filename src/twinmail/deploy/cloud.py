"""The cloud: what would change, and the change, up to the active receipt rule set."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinmail import stack
from twinmail.config import Config
from twinmail.errors import TransientError
from twinmail.function_zip import FunctionZip, build_function

Say = Callable[[str], None]

ROOT = Path(__file__).resolve().parents[3]
"""The checkout: the template and the function's sources are in it."""


class NotDeployed(TransientError):
    """The cloud did not answer, or refused a call; doing it again goes on where it stopped."""


@dataclass(frozen=True)
class CloudPlan:
    """What a deployment would do.

    Attributes:
        stack: change set that waits.
        active: the active receipt rule set, or empty; if it is not ours, ours takes its place.
    """

    stack: stack.Plan
    active: str

    def lines(self, config: Config) -> tuple[str, ...]:
        """One line a change; none if everything is as it should be."""
        changes = [
            f"{'replace' if one.replacement else one.action.lower():<8} {one.logical_id} ({one.kind})"
            for one in self.stack.changes
        ]
        if self.active != config.rule_set:
            place = f", in place of {self.active}" if self.active else ""
            changes.append(f"activate the receipt rule set {config.rule_set}{place}")
        return tuple(changes)


@dataclass(frozen=True)
class Cloud:
    """The cloud that *session* (boto3's, or with its interface) reaches, for *config*.

    Attributes:
        function: the function's zip, of the present sources.
    """

    config: Config
    session: Any
    function: FunctionZip

    @classmethod
    def of(cls, config: Config, config_file: Path, session: Any) -> "Cloud":
        """Build the function for *config*, which was read from *config_file*."""
        return cls(config, session, build_function(ROOT / "src", ROOT / "lambda" / "handler.py", config_file))

    def plan(self, keep: bool) -> CloudPlan:
        """See what would change; with *keep* for `apply`, else nothing of it is left.

        Raises:
            StackError, StackTimeout, TemplateError, SendingPolicyError: see `twinmail.stack.plan`.
            NotDeployed: transient.
        """
        try:
            return self._plan(keep)
        except (BotoCoreError, ClientError) as error:
            raise self._failure(error) from error

    def apply(self, plan: CloudPlan, say: Say) -> None:
        """Make the changes of *plan*, saying each event.

        Raises:
            StackError, StackTimeout: see `twinmail.stack.apply`.
            NotDeployed: transient.
        """
        try:
            stack.apply(self.session.client("cloudformation"), plan.stack, say)
            stack.activate(self.session.client("ses"), self.config)
        except (BotoCoreError, ClientError) as error:
            raise self._failure(error) from error

    def _plan(self, keep: bool) -> CloudPlan:
        cloudformation, s3 = self.session.client("cloudformation"), self.session.client("s3")
        if keep:
            stack.upload_code(s3, self.config, self.function)
        change = stack.plan(
            cloudformation, ROOT / "lambda" / "stack.yaml", self.config, self.function, s3, keep
        )
        if not keep and change.change_set:
            stack.forget(cloudformation, change)
        active = self.session.client("ses").describe_active_receipt_rule_set().get("Metadata", {})
        return CloudPlan(change, active.get("Name", ""))

    def _failure(self, error: Exception) -> NotDeployed:
        place = f"stack {self.config.stack} in {self.config.region}"
        return NotDeployed(f"{place}: {error}; check the credentials and the region")
