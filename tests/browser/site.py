"""The system that the browser visits: two servers, webmail on one of them, a few people."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.mail import Client, Sender
from twinmail.local import accounts, pki
from twinmail.local.state import LOOPBACK, State
from twinmail.local.system import LocalSystem
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.select import choose
from twinmail.tasks.config import PROJECT

SERVERS = ("primary", "backup")
WEBMAIL = "backup"

# Each test writes to the mailbox of its subject, so that one folder list does not disturb another.
CONFIGURATION = """
region = "eu-central-1"
stack = "twinmail"
bucket = "example-mail"
domains = ["example.org", "example.net"]

[mailboxes.ann]
addresses = ["ann@example.org", "ann@example.net"]
full_name = "Ann Müller"

[mailboxes.bob]
addresses = ["bob@example.org"]
full_name = "Bob Example"

[mailboxes.carol]
addresses = ["carol@example.org"]
full_name = "Carol Sørensen"

[mailboxes.dave]
addresses = ["dave@example.org"]

[mailboxes.eve]
addresses = ["eve@example.org"]

[mailboxes.frank]
addresses = ["frank@example.org"]

[mailboxes.grace]
addresses = ["grace@example.org"]

[mailboxes.helen]
addresses = ["helen@example.org"]
full_name = "Helen Berger"

[servers.primary]
platform = "linux/amd64"
host = "primary.example.org"

[servers.backup]
platform = "linux/amd64"
host = "backup.example.org"
webmail = true
"""


@dataclass(frozen=True)
class Site:
    """What runs, and what people know of it.

    Attributes:
        url: of the webmail, with a slash at the end.
        passwords: by mailbox.
    """

    system: LocalSystem
    url: str
    passwords: dict[str, str]
    tls: ssl.SSLContext

    @property
    def origin(self) -> str:
        return self.url.rstrip("/")

    @property
    def sender(self) -> Sender:
        """A mail server somewhere on the Internet."""
        return Sender(LOOPBACK, self.system.ports["edge"])

    def client(self, user: str, server: str = WEBMAIL) -> Client:
        """The other device of *user*."""
        port = self.system.ports[f"{server}-imaps"]
        return Client(LOOPBACK, port, user, self.passwords[user], self.tls)


@contextmanager
def running(runtime_name: str, folder: Path) -> Iterator[Site]:
    """Start the system in *folder* and stop it at the end."""
    config_file = folder / "twinmail.toml"
    config_file.write_text(CONFIGURATION)
    built = State.of_checkout(PROJECT)
    state = State(root=folder / "local", images=built.images, layers=built.layers)
    runtime = choose(runtime_name, state.root, state.layers)
    system = LocalSystem(
        state,
        config_file,
        runtime,
        host_platform(),
        ephemeral_ports=True,
        syncer_options=("--poll-seconds", "5"),
    )
    try:
        system.start()
        port = system.ports[f"{WEBMAIL}-webmail"]
        yield Site(
            system,
            f"https://{LOOPBACK}:{port}/",
            accounts.passwords(state),
            pki.client_context(system.ca),
        )
    finally:
        system.stop()
        assert not runtime.remove_leftovers()
