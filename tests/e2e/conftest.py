"""One running system a runtime, shared by all tests: a fresh LocalStack, two servers, mailboxes of its own."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.deploy import deployer_calls
from tests.deploy.recorded_calls import CALLS, needs, policies
from tests.e2e.mail import Accepted, Client, Sender
from twinmail import deployer
from twinmail.local import accounts, pki
from twinmail.local.state import LOOPBACK, State
from twinmail.local.system import LocalSystem
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.select import available, choose
from twinmail.tasks.config import PROJECT

SERVERS = ("primary", "backup")
# What the function of the tests about crashes writes, and the real one does not.
CRASHED = "/state/crashed-"
# The least that may be configured, in octets.
SMALL = 40 * 1024 * 1024
SMALL_BOXES = ("small", "smaller")
CROWD = tuple(f"u{number:02}" for number in range(40))


def configuration() -> str:
    """Two domains, a catch-all, an alias to two mailboxes, forty more mailboxes, and two small ones."""
    boxes = {
        "ann": ["ann@example.org", "ann@example.net"],
        "bob": ["bob@example.org"],
        "carol": ["carol@example.net", "*@example.net"],
        "corpus": ["corpus@example.org"],
        # Of clients that copy within a folder, where two messages then share a GUID.
        "clients": ["clients@example.org"],
        "stress": ["stress@example.org"],
        "imported": ["imported@example.org"],
        **{name: [f"{name}@example.org"] for name in CROWD},
    }
    tables = "\n".join(
        f"[mailboxes.{name}]\naddresses = [{', '.join(map(repr, addresses))}]"
        for name, addresses in boxes.items()
    )
    small = "\n".join(
        f'[mailboxes.{name}]\naddresses = ["{name}@example.org"]\nquota_bytes = {SMALL}'
        for name in SMALL_BOXES
    )
    servers = "\n".join(
        f'[servers.{name}]\nplatform = "linux/amd64"\nhost = "{name}.example.org"\nsubmission = true'
        f"\nwebmail = {str(name == 'backup').lower()}"
        for name in SERVERS
    )
    return (
        'region = "eu-central-1"\nstack = "twinmail"\nbucket = "example-mail"\n'
        'domains = ["example.org", "example.net"]\n'
        f"{tables}\n{small}\n"
        f'[aliases]\n"team@example.org" = ["ann", "bob"]\n{servers}\n'
    )


@dataclass
class Running:
    """The system under test, with what its users have in hand."""

    system: LocalSystem
    passwords: dict[str, str]
    tls: ssl.SSLContext

    @property
    def state(self) -> State:
        return self.system.state

    @property
    def sender(self) -> Sender:
        return Sender(LOOPBACK, self.system.ports["edge"])

    def client(self, server: str, user: str) -> Client:
        port = self.system.ports[f"{server}-imaps"]
        return Client(LOOPBACK, port, user, self.passwords[user], self.tls)

    def uids(
        self, user: str, accepted: Accepted, folder: str = "INBOX", timeout: float = 60
    ) -> dict[str, list[str]]:
        """Wait for *accepted* at *user* on both servers; UIDs by server."""
        found = {}
        for server in SERVERS:
            with self.client(server, user) as client:
                found[server] = client.wait_for([accepted], folder, timeout)[accepted.ses_id]
        return found

    def assert_once(self, user: str, accepted: Accepted, folder: str = "INBOX", timeout: float = 60) -> None:
        """It is there on both servers, in *folder*, and nowhere a second time."""
        from tests.e2e.mail import stored

        for server, uids in self.uids(user, accepted, folder, timeout).items():
            assert len(uids) == 1
            files = stored(self.state.maildirs(server), user, accepted)
            assert len(files) == 1, f"{server}: {files}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "runtime_name" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--runtime")
        names = available() if wanted in (None, "all") else [wanted]
        metafunc.parametrize("runtime_name", names, scope="session")


@pytest.fixture(scope="session")
def running(runtime_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp(f"system-{runtime_name}")
    config_file = folder / "twinmail.toml"
    config_file.write_text(configuration())
    images = State.of_checkout(PROJECT)
    state = State(root=folder / "local", images=images.images, layers=images.layers)
    runtime = choose(runtime_name, state.root, state.layers)
    system = LocalSystem(
        state,
        config_file,
        runtime,
        host_platform(),
        ephemeral_ports=True,
        syncer_options=("--poll-seconds", "5"),
        record=True,
    )
    try:
        system.start()
        passwords = accounts.passwords(state)
        yield Running(system, passwords, pki.client_context(system.ca))
        # Whatever the tests made the system do, it was allowed; users that were removed meanwhile say nothing.
        done, allowed = needs(state.localstack / CALLS), policies(system.session().client("iam"))
        refused = {
            str(one)
            for one in done
            if one.who in allowed
            and not any(map(one.is_met_by, allowed[one.who]))
            and CRASHED not in one.resource
        }
        assert not refused, "\n".join(sorted(refused))
        # And whatever CloudFormation made of it, who deploys may have it made.
        text = (PROJECT / "lambda" / "deployer.yaml").read_text()
        parts = [one.document for one in deployer.parts(text, system.config)]
        made = tuple(deployer_calls.needs(state.localstack / CALLS, "", system.config.stack))
        assert made
        unmet = {str(one) for one in made if not any(map(one.is_met_by, parts))}
        assert not unmet, "\n".join(sorted(unmet))
    finally:
        system.stop()
        assert not runtime.remove_leftovers()
