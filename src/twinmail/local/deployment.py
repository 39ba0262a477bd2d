"""Deploys the cloud stack to LocalStack, with the very code and template that AWS gets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twinmail import stack
from twinmail.config import Config
from twinmail.function_zip import build_function

CHECKOUT = Path(__file__).resolve().parents[3]


def deploy(config: Config, config_file: Path, session: Any, say: Callable[[str], None]) -> None:
    """Bring the stack to what *config* says; repeating it changes nothing.

    Raises:
        StackError, StackTimeout: CloudFormation's part.
    """
    function = build_function(CHECKOUT / "src", CHECKOUT / "lambda" / "handler.py", config_file)
    cloudformation = session.client("cloudformation")
    stack.upload_code(session.client("s3"), config, function)
    plan = stack.plan(cloudformation, CHECKOUT / "lambda" / "stack.yaml", config, function)
    stack.apply(cloudformation, plan, lambda event: say(f"  {event}") if "complete" in event else None)
    stack.activate(session.client("ses"), config)
