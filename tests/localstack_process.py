"""A fresh LocalStack in its image, for tests: started, stopped, killed and started again on the same state."""

import contextlib
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3

from twinmail.local.state import State
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.interface import Container, ContainerSpec, Exited, Mount, Runtime
from twinmail.tasks.config import PROJECT

IMAGES = State.of_checkout(PROJECT).images
REGION = "eu-central-1"
DEADLINE = 120.0
POLL = 0.05


def free_port() -> int:
    """A TCP port of the loopback address that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class LocalStackProcess:
    """One LocalStack.

    Attributes:
        state: the folder of the host that it sees as its volume.
        endpoint: URL for every AWS service.
        container: what runs, or ran last.
    """

    def __init__(
        self,
        runtime: Runtime,
        folder: Path,
        name: str = "localstack",
        record: bool = False,
        options: Sequence[str] = (),
        port: int | None = None,
    ) -> None:
        self._runtime = runtime
        self._name = name
        self._options = (*options, *(("--record",) if record else ()))
        self.state = folder / "state"
        self.port = port or free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.container: Container | None = None

    def start(self) -> "LocalStackProcess":
        """Start it and wait until it answers."""
        self.state.mkdir(exist_ok=True)
        self._runtime.prepare_volume(self.state)
        self.container = self._runtime.start(
            ContainerSpec(
                name=self._name,
                layout=IMAGES / "localstack",
                platform=host_platform(),
                command=(
                    "--listen",
                    f"127.0.0.1:{self.port}",
                    "--state",
                    "/var/lib/localstack",
                    *self._options,
                ),
                mounts=(Mount(self.state, "/var/lib/localstack"),),
            )
        )
        deadline = time.monotonic() + DEADLINE
        while not self._answers():
            status = self.container.status()
            assert not isinstance(status, Exited), f"LocalStack ended: {status}\n{self.log()}"
            assert time.monotonic() < deadline, f"no answer in {DEADLINE} s\n{self.log()}"
            time.sleep(POLL)
        return self

    def stop(self) -> None:
        """End it in order."""
        if self.container is not None:
            self.container.stop(timeout=30)

    def kill(self) -> None:
        """End it as a failure of power does."""
        assert self.container is not None
        self.container.kill()
        self.container.wait(DEADLINE)
        self.container.stop()

    def log(self) -> str:
        """Everything it wrote so far."""
        return self.container.logs().decode(errors="replace") if self.container is not None else ""

    def versioned_bucket(self, name: str) -> str:
        """Make a bucket as the template has it: what is read is one whole version, also beside writers."""
        s3 = self.client("s3")
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def client(self, service: str) -> Any:
        """A boto3 client of *service*."""
        session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
        return session.client(service, endpoint_url=self.endpoint)

    def _answers(self) -> bool:
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(f"{self.endpoint}/_localstack/health", timeout=10) as answer,
        ):
            return bool(answer.status == 200)
        return False
