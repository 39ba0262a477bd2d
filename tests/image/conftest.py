"""Containers of the built images, once for each runtime of this machine."""

from collections.abc import Callable, Iterator

import pytest
from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from tests.image.dovecot import PASSWORD, Dovecot
from tests.image.roundcube import Roundcube, client
from tests.image.webmail_client import WebmailClient
from twinmail.local.state import State
from twinmail.oci.layout import DEBUG
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.interface import Container, ContainerSpec, Runtime
from twinmail.runtime.select import available, choose
from twinmail.tasks.config import PROJECT

IMAGES = State.of_checkout(PROJECT).images


class ExecBackend(BaseBackend):  # type: ignore[misc]
    """testinfra over `Container.exec`, whatever the runtime; it needs a shell, so a ``:debug`` image."""

    NAME = "exec"

    def __init__(self, container: Container) -> None:
        super().__init__(container.name)
        self._container = container

    def run(self, command: str, *args: str, **_: object) -> CommandResult:
        line = self.get_command(command, *args)
        result = self._container.exec(["/bin/sh", "-c", line])
        return self.result(result.code, self.encode(line), result.output, b"")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "runtime_name" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--runtime")
        names = available() if wanted in (None, "all") else [wanted]
        metafunc.parametrize("runtime_name", names, scope="session")


@pytest.fixture(scope="session")
def runtime(runtime_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    runtime = choose(runtime_name, tmp_path_factory.mktemp(f"image-{runtime_name}"))
    yield runtime
    assert not runtime.remove_leftovers()


@pytest.fixture(scope="session")
def dovecot(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    """Dovecot as it is shipped."""
    server = Dovecot(runtime, IMAGES / "dovecot", host_platform(), tmp_path_factory.mktemp("dovecot"))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def debug_dovecot(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    """The same with a shell, for looking inside while it serves."""
    folder = tmp_path_factory.mktemp("debug-dovecot")
    server = Dovecot(runtime, IMAGES / "dovecot", host_platform(), folder, reference=DEBUG)
    try:
        yield server.start("debug-dovecot")
    finally:
        server.stop()


@pytest.fixture(scope="session")
def roundcube(
    runtime: Runtime, dovecot: Dovecot, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Roundcube]:
    """The webmail as it is shipped."""
    folder = tmp_path_factory.mktemp("roundcube")
    server = Roundcube(runtime, IMAGES / "roundcube", host_platform(), folder, dovecot)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def debug_roundcube(
    runtime: Runtime, dovecot: Dovecot, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Roundcube]:
    """The same with a shell, after somebody has read mail."""
    folder = tmp_path_factory.mktemp("debug-roundcube")
    server = Roundcube(runtime, IMAGES / "roundcube", host_platform(), folder, dovecot, reference=DEBUG)
    try:
        client(server.start("debug-roundcube")).log_in("ann", PASSWORD)
        yield server
    finally:
        server.stop()


@pytest.fixture
def browser(roundcube: Roundcube) -> WebmailClient:
    return client(roundcube)


@pytest.fixture
def ann(browser: WebmailClient) -> WebmailClient:
    assert "task-mail" in browser.log_in("ann", PASSWORD).text
    return browser


@pytest.fixture(scope="session")
def inside(runtime: Runtime) -> Iterator[Callable[[str], Host]]:
    """``inside(image)`` is a testinfra host in a container of the image's ``:debug`` variant."""
    started: dict[str, Container] = {}

    def host(image: str) -> Host:
        if image not in started:
            started[image] = runtime.start(
                ContainerSpec(
                    name=f"inside-{image}",
                    layout=IMAGES / image,
                    platform=host_platform(),
                    entrypoint=("/usr/bin/tini", "--", "/usr/bin/sleep"),
                    command=("3600",),
                    reference=DEBUG,
                )
            )
        return Host(ExecBackend(started[image]))

    yield host
    for container in started.values():
        container.stop()
