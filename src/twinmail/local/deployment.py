"""Deploys the cloud stack to LocalStack, with the very code and template that AWS gets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twinmail.config import Config
from twinmail.deploy.cloud import Cloud


def deploy(config: Config, config_file: Path, session: Any, say: Callable[[str], None]) -> None:
    """Bring the stack to what *config* says; repeating it changes nothing.

    Raises:
        StackError, StackTimeout: CloudFormation's part.
        NotDeployed: LocalStack did not answer, or refused a call.
    """
    cloud = Cloud.of(config, config_file, session)
    cloud.apply(cloud.plan(keep=True), lambda event: say(f"  {event}") if "complete" in event else None)
