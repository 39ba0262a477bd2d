"""The whole backup server on the smallest plan: 512 MB, of which the system takes its share first."""

import os
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from email.message import EmailMessage

import docker
import pytest

from tests.deploy.small_machine import MB, SmallMachine, SmallRuntime
from tests.e2e.mail import Accepted, Client, Sender
from tests.image.webmail_client import WebmailClient
from twinmail.config import Config
from twinmail.cost.prices import Prices
from twinmail.local import accounts, pki
from twinmail.local.state import LOOPBACK, State
from twinmail.local.system import LocalSystem
from twinmail.runtime.emulation import host_platform
from twinmail.tasks.config import PROJECT

PLAN = 512
"""MiB of the machine that the default configuration rents."""
SYSTEM = 256
"""MiB of it that are not for containers: the kernel's 42, Docker and containerd 137, their shims 25, Debian 30,
resident sizes as measured, rounded up. There is no swap here, and none is needed."""
SERVER = "backup"
PARTS = ("dovecot", "syncer", "relay", "php", "web")
USERS = tuple(f"u{number}" for number in range(8))
SMALL, LARGE = 400, 6
"""Messages of 40 KB, and of 30 MB."""
CERTBOT = 64
"""MiB kept free for whoever renews the certificate now and then."""


def configuration() -> str:
    """One server with everything that a server can have."""
    boxes = "\n".join(f'[mailboxes.{name}]\naddresses = ["{name}@example.org"]' for name in USERS)
    return (
        'region = "eu-central-1"\nstack = "twinmail"\nbucket = "example-mail"\ndomains = ["example.org"]\n'
        f'{boxes}\n[servers.{SERVER}]\nplatform = "linux/amd64"\nhost = "{SERVER}.example.org"\n'
        "submission = true\nwebmail = true\n"
    )


@dataclass
class Backup:
    """The server, and the machine that it is alone on."""

    system: LocalSystem
    machine: SmallMachine
    passwords: dict[str, str]

    def client(self, user: str) -> Client:
        tls = pki.client_context(self.system.ca)
        return Client(LOOPBACK, self.system.ports[f"{SERVER}-imaps"], user, self.passwords[user], tls)


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backup]:
    if os.geteuid() != 0:
        pytest.skip("only root may make a control group")
    if docker.from_env().info()["CgroupDriver"] != "cgroupfs":
        pytest.skip(
            "systemd keeps the control groups of this machine, and lets nobody else make one for Docker"
        )
    folder = tmp_path_factory.mktemp("memory")
    file = folder / "twinmail.toml"
    file.write_text(configuration())
    images = State.of_checkout(PROJECT)
    state = State(root=folder / "local", images=images.images, layers=images.layers)
    with SmallMachine(f"twinmail-memory-{secrets.token_hex(4)}", PLAN - SYSTEM) as machine:
        runtime = SmallRuntime(state.root, machine, f"{SERVER}-")
        system = LocalSystem(
            state,
            file,
            runtime,
            host_platform(),
            ephemeral_ports=True,
            syncer_options=("--poll-seconds", "5"),
        )
        try:
            system.start()
            yield Backup(system, machine, accounts.passwords(state))
        finally:
            system.stop()


def message(number: int, octets: int) -> bytes:
    """A message with an attachment that nobody can compress, and a word of its own to be found by."""
    found = EmailMessage()
    found["From"], found["To"] = "sender@example.com", "u@example.org"
    found["Subject"] = f"message {number}"
    found.set_content(
        f"needle{number} " + " ".join(f"word{random.Random(number).random()}" for _ in range(200))
    )
    found.add_attachment(
        random.Random(number).randbytes(octets * 3 // 4),
        maintype="application",
        subtype="octet-stream",
        filename="a.bin",
    )
    return found.as_bytes().replace(b"\n", b"\r\n")


def wait_for_subject(client: Client, subject: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        client.imap.select("INBOX", readonly=True)
        if client.imap.search(None, "SUBJECT", f'"{subject}"')[1][0]:
            return
        assert time.monotonic() < deadline, subject
        time.sleep(0.2)


def test_all_mail_arrives_while_everybody_reads_and_nothing_is_killed(backup: Backup) -> None:
    system, machine = backup.system, backup.machine
    sender = Sender(LOOPBACK, system.ports["edge"])
    sent: dict[str, list[Accepted]] = {}

    def send(user: str, numbers: Sequence[int], octets: int) -> None:
        many = sender.send_all((message(one, octets) for one in numbers), [f"{user}@example.org"])
        sent.setdefault(user, []).extend(many)

    def read(user: str) -> None:
        """What a mail client does at each start: several sessions, a list, a search."""
        for _ in range(4):
            with backup.client(user) as one, backup.client(user) as other:
                one.imap.select("INBOX")
                one.imap.uid("FETCH", "1:*", "(FLAGS ENVELOPE BODYSTRUCTURE)")
                other.imap.select("INBOX")
                other.imap.search(None, "BODY", "needle7")

    def browse(user: str) -> None:
        port = system.ports[f"{SERVER}-webmail"]
        browser = WebmailClient(port, system.ca, f"127.0.2.{USERS.index(user) + 1}")
        assert "task-mail" in browser.log_in(user, backup.passwords[user]).text
        for _ in range(4):
            browser.ajax("?_task=mail&_action=list&_mbox=INBOX")
        told = browser.send(f"{user}@example.org", "u0@example.org", f"from the web of {user}")
        assert "Message sent successfully" in told

    with ThreadPoolExecutor(24) as pool:
        work: list[Future[None]] = []
        share = SMALL // len(USERS)
        for place, user in enumerate(USERS):
            work.append(pool.submit(send, user, range(place * share, (place + 1) * share), 40_000))
        for number in range(LARGE):
            work.append(pool.submit(send, USERS[number], [10_000 + number], 30 * 1000 * 1000))
        for user in USERS:
            work += [pool.submit(read, user), pool.submit(browse, user)]
        for one in work:
            one.result()
    for user, many in sent.items():
        with backup.client(user) as client:
            client.wait_for(many, timeout=120)
    with backup.client("u0") as client:
        for user in USERS:
            wait_for_subject(client, f"from the web of {user}")
    shown = ", ".join(f"{name} {octets / MB:.0f}" for name, octets in sorted(machine.peak.items()))
    print(f"\nMiB that cannot give way, at most: {shown}; of {machine.limit / MB:.0f}")
    assert machine.killed == 0
    assert not system.ended()
    assert {f"{SERVER}-{part}" for part in PARTS} < set(machine.peak)
    assert machine.peak["all"] <= machine.limit - CERTBOT * MB, shown


def test_configured_plan_is_the_one_that_was_tried() -> None:
    config = Config.load(PROJECT / "twinmail.toml")
    (machine,) = [one.lightsail for one in config.servers.values() if one.lightsail]
    assert Prices.load().plan(machine.bundle).memory_mb == PLAN
