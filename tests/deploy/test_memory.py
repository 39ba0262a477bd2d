"""The whole backup server on the smallest plan: 512 MB, of which the system takes its share first."""

import os
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

import docker
import pytest
import yaml
from jinja2 import Environment, StrictUndefined

from tests.deploy.acme_process import NOBODY, run_authority
from tests.deploy.compose_server import Backup, run_backup
from tests.deploy.small_machine import MB, SmallMachine
from tests.e2e.mail import Accepted, Client, Sender
from tests.image.dovecot import free_port
from twinmail.config import Config
from twinmail.cost.prices import Prices
from twinmail.deploy import compose
from twinmail.local.state import LOOPBACK
from twinmail.runtime.emulation import host_platform
from twinmail.tasks.config import PROJECT

PLAN = 512
"""MiB of the machine that the default configuration rents."""
SYSTEM = 256
"""MiB of it that are not for containers: the kernel's 42, Docker and containerd 137, their shims 25, Debian 30,
resident sizes as measured, rounded up. There is no swap here, and none is needed."""
SERVER = "backup"
PARTS = ("certbot", "dovecot", "syncer", "relay", "php", "web")
USERS = tuple(f"u{number}" for number in range(8))
SMALL, LARGE = 400, 6
"""Messages of 40 KB, and of 30 MB."""
RESERVE = 16
"""MiB that stay free."""


def configuration() -> str:
    """One server with everything that a server can have."""
    boxes = "\n".join(f'[mailboxes.{name}]\naddresses = ["{name}@example.org"]' for name in USERS)
    return (
        'region = "eu-central-1"\nstack = "twinmail"\nbucket = "example-mail"\ndomains = ["example.org"]\n'
        f'{boxes}\n[servers.{SERVER}]\nplatform = "{host_platform()}"\nhost = "{SERVER}.example.org"\n'
        f"submission = true\nwebmail = true\n[servers.{SERVER}.lightsail]\n"
    )


OVERRIDE = """
services:
{% for name in services %}
  {{ name }}:
    cgroup_parent: {{ machine }}
{% endfor %}
    # The last is certbot, which here asks an authority of ours, again and again.
    command: [--config=/etc/twinmail/twinmail.toml, --server=backup, --port={{ http }},
      --directory={{ directory }}, --retry-seconds=2]
    environment: {REQUESTS_CA_BUNDLE: /etc/authority.pem}
    volumes: ["{{ ca }}:/etc/authority.pem:ro"]
"""


@dataclass
class Small:
    """The server, and the machine that it is alone on."""

    backup: Backup
    machine: SmallMachine


@pytest.fixture(scope="module")
def small(tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    if os.geteuid() != 0:
        pytest.skip("only root may make a control group")
    driver = docker.from_env().info()["CgroupDriver"]
    folder, http = tmp_path_factory.mktemp("memory"), free_port()
    with (
        SmallMachine(f"twinmail{secrets.token_hex(4)}", PLAN - SYSTEM, driver) as machine,
        run_authority(tool, folder / "authority", folder / "ca", http, 3600) as authority,
    ):
        # The whole program runs, and no certificate comes in place of the one that the clients here trust.
        authority.resolve_to(NOBODY)
        override = Environment(trim_blocks=True, undefined=StrictUndefined).from_string(OVERRIDE)
        services = [*yaml.safe_load((PROJECT / compose.FILE).read_text())["services"]]
        services.append(services.pop(services.index("certbot")))
        text = override.render(
            services=services,
            machine=machine.name,
            http=http,
            directory=authority.directory,
            ca=authority.ca,
        )
        project = f"twinmail-memory-{os.getpid()}"
        (folder / "server").mkdir()
        with run_backup(tool, folder / "server", configuration(), project, text) as backup:
            backup.compose("up", "--detach", "certbot")
            found = backup.containers()
            for name, one in found.items():
                assert one["HostConfig"]["CgroupParent"] == machine.name, name
                machine.named(one["Id"], name)
            yield Small(backup, machine)


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


def test_all_mail_arrives_while_everybody_reads_and_nothing_is_killed(small: Small) -> None:
    backup, machine = small.backup, small.machine
    sender = Sender(LOOPBACK, backup.system.ports["edge"])
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
        browser = backup.browser(f"127.0.2.{USERS.index(user) + 1}", user)
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
    assert machine.killed == 0
    states = {name: one["State"] for name, one in backup.containers().items()}
    assert [name for name in PARTS if not states[name]["Running"]] == []
    deadline = time.monotonic() + 120
    # A whole attempt is in what was measured: an account, an order, and challenges that fail.
    while '"failures": 1' not in (log := backup.compose("logs", "--no-color", "certbot")):
        assert time.monotonic() < deadline, log
        time.sleep(0.5)
    shown = ", ".join(f"{name} {octets / MB:.0f}" for name, octets in sorted(machine.peak.items()))
    print(f"\nMiB that cannot give way, at most: {shown}; of {machine.limit / MB:.0f}")
    assert set(PARTS) < set(machine.peak)
    assert all(machine.peak[part] for part in PARTS)
    assert machine.peak["all"] <= machine.limit - RESERVE * MB, shown


def test_configured_plan_is_the_one_that_was_tried() -> None:
    config = Config.load(PROJECT / "twinmail.toml")
    (machine,) = [one.lightsail for one in config.servers.values() if one.lightsail]
    assert Prices.load().plan(machine.bundle).memory_mb == PLAN
