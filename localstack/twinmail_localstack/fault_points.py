"""Where LocalStack is made to do what `twinmail_localstack.faults` decides; imported only for chaos runs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from localstack.aws.api.lambda_ import TooManyRequestsException
from localstack.services.lambda_.invocation.event_manager import LambdaEventManager
from localstack.services.lambda_.invocation.version_manager import LambdaVersionManager
from localstack.services.sns.publisher import PublishDispatcher
from localstack.utils.patch import patch

from twinmail_localstack.faults import ANNOUNCEMENTS, ARRIVALS, EVENTS, FUNCTION_THROTTLED, faults

_OF_SES = b'"aws:ses"'
_TOPICS = {"-arrivals": ARRIVALS, "-manifest": ANNOUNCEMENTS}


def add() -> None:
    """Put every point in its place."""
    _events()
    _notices()
    _throttles()


def _events() -> None:
    @patch(LambdaEventManager.enqueue_event)  # type: ignore[untyped-decorator]
    def enqueue_event(original: Callable[..., None], manager: LambdaEventManager, invocation: Any) -> None:
        # To encode an invocation changes it; each delivery has one of its own.
        def deliver() -> None:
            original(manager, replace(invocation, trace_context=dict(invocation.trace_context)))

        if _OF_SES in invocation.payload:
            faults().pass_on(EVENTS, deliver)
        else:
            deliver()


def _notices() -> None:
    @patch(PublishDispatcher.publish_to_topic)  # type: ignore[untyped-decorator]
    def publish_to_topic(
        original: Callable[..., None], dispatcher: PublishDispatcher, ctx: Any, topic_arn: str
    ) -> None:
        def deliver() -> None:
            original(dispatcher, ctx, topic_arn)

        for ending, stream in _TOPICS.items():
            if topic_arn.endswith(ending):
                faults().pass_on(stream, deliver)
                return
        deliver()


def _throttles() -> None:
    @patch(LambdaVersionManager.invoke)  # type: ignore[untyped-decorator]
    def invoke(original: Callable[..., Any], manager: LambdaVersionManager, *, invocation: Any) -> Any:
        # Who waits for the answer gets 429; an event goes back to its queue, for up to six hours.
        if faults().draw(FUNCTION_THROTTLED) is not None:
            faults().happened(FUNCTION_THROTTLED)
            raise TooManyRequestsException(
                "Rate Exceeded.", Reason="ReservedFunctionConcurrentInvocationLimitExceeded", Type="User"
            )
        return original(manager, invocation=invocation)
