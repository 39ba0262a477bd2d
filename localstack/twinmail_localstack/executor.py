"""Lambda functions as processes: the real zip, the real runtime client, no Docker.

A function may be declared for another platform than this machine's: its code is Python and runs on the
image's own interpreter, whose version is that of the declared runtime.
"""

import contextlib
import functools
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from localstack.config import GATEWAY_LISTEN
from localstack.runtime import hooks
from localstack.services.lambda_.invocation.assignment import AssignmentService
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor
from localstack.utils import platform, testutil
from localstack.utils.patch import patch

from twinmail_localstack import settings
from twinmail_localstack.faults import (
    FUNCTION,
    FUNCTION_COLD,
    FUNCTION_KILLED,
    FUNCTION_OUT_OF_MEMORY,
    FUNCTION_TIMED_OUT,
    faults,
)
from twinmail_localstack.sandbox import Function, Misfortune, Mishap, Sandbox

ENVIRONMENTS = 4
"""Execution environments of one function at a time. More processes only fight for the cores of a small
machine; further invocations wait, which does not count towards their time-out."""

_slots: defaultdict[str, threading.BoundedSemaphore] = defaultdict(
    lambda: threading.BoundedSemaphore(ENVIRONMENTS)
)
_slots_lock = threading.Lock()


class ProcessExecutor(RuntimeExecutor):  # type: ignore[misc]
    """One execution environment, as LocalStack's Lambda service sees it."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:
        super().__init__(id=id, function_version=function_version)
        self._sandbox: Sandbox | None = None

    def start(self, env_vars: dict[str, str]) -> None:
        """Start the process; a function that cannot start says so in its first invocation."""
        configuration = self.function_version.config
        environment = {name: str(value) for name, value in env_vars.items()}
        if endpoint := settings.current().function_endpoint:
            environment["AWS_ENDPOINT_URL"] = endpoint
        self._sandbox = Sandbox(
            Function(
                handler=configuration.handler,
                code=configuration.code.get_unzipped_code_location(),
                environment=environment,
                timeout=int(configuration.timeout),
                memory=int(configuration.memory_size),
            )
        )
        self._sandbox.start()

    def stop(self) -> None:
        """End the process."""
        if self._sandbox is not None:
            self._sandbox.stop()

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        """Run one invocation and return its result, errors of the function included."""
        assert self._sandbox is not None
        outcome = self._sandbox.invoke(
            payload["invoke-id"],
            payload["payload"].encode(),
            payload["invoked-function-arn"],
            payload["trace-id"],
            _mishap(),
        )
        return InvocationResult(payload["invoke-id"], outcome.payload, outcome.is_error, outcome.log)

    def get_logs(self) -> str:
        """Everything the process wrote."""
        return self._sandbox.log() if self._sandbox is not None else ""

    def get_address(self) -> str:
        """The process shares this machine's loopback network."""
        return str(GATEWAY_LISTEN[0].host)

    def get_endpoint_from_executor(self) -> str:
        """The address at which the function reaches LocalStack."""
        return str(GATEWAY_LISTEN[0].host)

    def get_runtime_endpoint(self) -> str:
        """Unused: each sandbox serves the runtime API itself."""
        return f"http://{self.get_endpoint_from_executor()}:{GATEWAY_LISTEN[0].port}"

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        """Unpack the zip."""
        function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        """Nothing to do: LocalStack deletes the unpacked zip together with the version's code."""


_MISFORTUNES = {
    FUNCTION_KILLED: Misfortune.KILLED,
    FUNCTION_TIMED_OUT: Misfortune.TIMED_OUT,
    FUNCTION_OUT_OF_MEMORY: Misfortune.OUT_OF_MEMORY,
    FUNCTION_COLD: Misfortune.COLD,
}


def _mishap() -> Mishap | None:
    """What is to befall the next invocation."""
    for name in FUNCTION:
        if (after := faults().draw(name)) is not None:
            return Mishap(_MISFORTUNES[name], after, functools.partial(faults().settle, name))
    return None


class ProcessExecutorPlugin(RuntimeExecutorPlugin):  # type: ignore[misc]
    """``LAMBDA_RUNTIME_EXECUTOR=process``."""

    name = "process"

    def load(self, *args: object, **kwargs: object) -> type[RuntimeExecutor]:
        _bound_environments()
        return ProcessExecutor


@hooks.on_infra_start()  # type: ignore[untyped-decorator]
def pack_in_python() -> None:
    """Keep LocalStack from the `zip` and `unzip` commands, which it expects on Debian and the image lacks."""
    # Whoever was imported before has a name of its own for it.
    platform.is_debian = testutil.is_debian = lambda: False


@functools.cache  # the plugin is asked for its executor with every new environment
def _bound_environments() -> None:
    @patch(AssignmentService.get_environment)  # type: ignore[untyped-decorator]
    @contextlib.contextmanager
    def get_environment(
        original: Any,
        service: AssignmentService,
        version_manager_id: str,
        function_version: FunctionVersion,
        provisioning_type: Any,
    ) -> Iterator[Any]:
        with _slots_lock:
            slots = _slots[version_manager_id]
        with slots, original(service, version_manager_id, function_version, provisioning_type) as environment:
            yield environment
