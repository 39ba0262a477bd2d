"""The cloud of a server under test: LocalStack with the stack, the SES edge, and what servers are told of it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deploy.conftest import ROOT
from twinmail import smtp_credentials
from twinmail.access_key import NewKey
from twinmail.deploy.server_files import Surroundings
from twinmail.local import pki
from twinmail.local.services import ACCESS_KEY, SECRET_KEY
from twinmail.local.state import LOOPBACK, State
from twinmail.local.system import LocalSystem
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.select import choose

RELAY_PASSWORD = "0123456789abcdef" * 3
CREDENTIALS = NewKey(ACCESS_KEY, SECRET_KEY).to_file()


@contextmanager
def cloud(root: Path, text: str, runtime_name: str) -> Iterator[LocalSystem]:
    """The cloud that *text* of a configuration asks for, and none of its servers."""
    with local_system(root, text, runtime_name) as system:
        system.deploy()
        system.start_edge()
        system.wait_for_edge()
        yield system


@contextmanager
def local_system(root: Path, text: str, runtime_name: str) -> Iterator[LocalSystem]:
    """A LocalStack that knows nothing yet, for the cloud that *text* of a configuration asks for."""
    config_file = root / "twinmail.toml"
    config_file.write_text(text)
    checkout = State.of_checkout(ROOT)
    state = State(root=root / "local", images=checkout.images, layers=checkout.layers)
    runtime = choose(runtime_name, state.root, state.layers)
    system = LocalSystem(state, config_file, runtime, host_platform(), ephemeral_ports=True)
    try:
        system._prepare()
        system.start_localstack()
        system.wait_for_localstack()
        yield system
    finally:
        system.stop()
        runtime.remove_leftovers()


def surroundings(system: LocalSystem) -> Surroundings:
    """What a server is told of it."""
    ses = smtp_credentials.Endpoint("localhost", system.ports["submissions"], system.ports["submission"])
    return Surroundings(
        endpoint=system.endpoint, ses=ses, authorities=(system.state.tls / pki.CA).read_bytes()
    )


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback address that nobody uses now."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
