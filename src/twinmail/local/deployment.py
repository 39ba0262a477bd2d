"""Deploys the cloud stack to LocalStack, with the very code and template that AWS gets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinmail import stack
from twinmail.config import Config
from twinmail.errors import TransientError
from twinmail.function_zip import build_function

CHECKOUT = Path(__file__).resolve().parents[3]


class NotDeployed(TransientError):
    """The stack could not be deployed here and now."""


def deploy(config: Config, config_file: Path, session: Any, say: Callable[[str], None]) -> None:
    """Bring the stack to what *config* says; repeating it changes nothing.

    Raises:
        StackError, StackTimeout: CloudFormation's part.
        NotDeployed: LocalStack did not answer, or refused a call.
    """
    try:
        _deploy(config, config_file, session, say)
    except (BotoCoreError, ClientError) as error:
        raise NotDeployed(f"stack {config.stack}: {error}; see the log of LocalStack") from error


def _deploy(config: Config, config_file: Path, session: Any, say: Callable[[str], None]) -> None:
    function = build_function(CHECKOUT / "src", CHECKOUT / "lambda" / "handler.py", config_file)
    cloudformation = session.client("cloudformation")
    s3 = session.client("s3")
    stack.upload_code(s3, config, function)
    plan = stack.plan(cloudformation, CHECKOUT / "lambda" / "stack.yaml", config, function, s3)
    stack.apply(cloudformation, plan, lambda event: say(f"  {event}") if "complete" in event else None)
    stack.activate(session.client("ses"), config)
