"""The backup's containers, brought to a machine by SSH and up by real ``docker compose``, against LocalStack."""

import hashlib
import json
import os
import shutil
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from tests.deploy.built_images import Silent, digests, pushes
from tests.deploy.conftest import ROOT
from tests.deploy.local_cloud import CREDENTIALS, RELAY_PASSWORD, cloud, free_ports, surroundings
from tests.deploy.ssh_host import run_host
from tests.deploy.test_memory import message
from tests.e2e.mail import Accepted, Client, Sender
from tests.image.webmail_client import WebmailClient
from twinmail import smtp_credentials
from twinmail.config import Config
from twinmail.deploy import backup_server, compose
from twinmail.deploy.backup_server import Plan, Request
from twinmail.deploy.server_files import ServerPorts, ServerSecrets
from twinmail.deploy.ssh import Machine
from twinmail.local import accounts, pki, webmail
from twinmail.local.state import LOOPBACK
from twinmail.local.system import LocalSystem
from twinmail.runtime.emulation import host_platform
from twinmail.sync.budget import memory_limit
from twinmail.webmail import Sender as WebmailSender

PROJECT = f"twinmail-test-{os.getpid()}"
SERVICES = {"dovecot", "syncer", "relay", "php", "web"}
# They make things ready, and end.
ENDED = ("volume", "placeholder")
SMALL, LARGE = 120, 8
"""Messages of 40 KB, and of 38 MB: more than the syncer may have memory for."""
SUBMITTED = (35_000_000, 10_000_000, 10_000_000)
"""Octets of messages that go out by the relay at once."""

TOML = f"""
region = "eu-central-1"
stack = "twinmail"
bucket = "example-mail"
domains = ["example.org"]

[mailboxes.ann]
addresses = ["ann@example.org"]

[servers.backup]
platform = "{host_platform()}"
host = "backup.example.org"
webmail = true
submission = true
"""


@dataclass
class Backup:
    """A server as `request` says, and the program that reads its folder."""

    request: Request
    folder: Path
    program: Path
    system: LocalSystem
    ports: ServerPorts
    tls: ssl.SSLContext
    sender_password: str
    machine: Machine

    def compose(self, *arguments: str) -> str:
        done = subprocess.run(
            [self.program, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        argv = [self.program, "logs", "--tail", "30", "--no-color"]
        done = subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, check=False)
        return done.stdout

    def plan(self) -> Plan:
        return backup_server.plan(self.request, self.machine)

    def deploy(self) -> tuple[str, ...]:
        """One run; what it found to do."""
        found = self.plan()
        images = pushes(self.system.state)
        backup_server.apply(self.request, found, self.machine, lambda: images, Silent(), lambda text: None)
        return found.lines()

    def containers(self) -> dict[str, dict]:
        ids = self.compose("ps", "--all", "--quiet").split()
        done = subprocess.run(["docker", "inspect", *ids], capture_output=True, check=True)
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in json.loads(done.stdout)}

    def mail(self) -> dict[str, str]:
        """Digests of ann's messages, by GUID."""
        with self.client() as client:
            found = client.guids()
            return {guid: hashlib.sha256(client.fetch(uid)).hexdigest() for guid, uid in found.items()}

    def check_memory(self) -> None:
        """Nothing has met its limit of memory, and each has the one that it should have."""
        for name, one in self.containers().items():
            assert not one["State"]["OOMKilled"], name
            assert one["RestartCount"] == 0, name
            if name in ENDED:
                continue
            octets = int(compose.MEMORY[name].removesuffix("m")) << 20
            assert one["HostConfig"]["Memory"] == octets, name
            group = Path(f"/proc/{one['State']['Pid']}/root/sys/fs/cgroup")
            assert memory_limit(group) == octets, name
            events = (group / "memory.events", group / "memory/memory.oom_control")
            (told,) = [path.read_text() for path in events if path.exists()]
            assert "oom_kill 0" in told.splitlines(), name

    def browser(self, address: str) -> WebmailClient:
        """Somebody at *address* who has logged in to the webmail."""
        found = WebmailClient(self.ports.web, self.system.state.tls / pki.CA, address)
        page = found.log_in("ann", accounts.passwords(self.system.state)["ann"])
        assert "task-mail" in page.text, f"{page.status_code}\n{self.logs()}"
        return found

    def client(self) -> Client:
        password = accounts.passwords(self.system.state)["ann"]
        return Client(LOOPBACK, self.ports.imaps, "ann", password, self.tls)


@pytest.fixture(scope="module")
def backup(tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backup]:
    root = tmp_path_factory.mktemp("backup")
    program = tool("docker-compose")
    programs = root / "bin"
    programs.mkdir()
    engine = shutil.which("docker")
    (programs / "docker").write_text(
        f'#!/bin/sh\n[ "$1" != compose ] || {{ shift; exec {program} "$@"; }}\nexec {engine} "$@"\n'
    )
    (programs / "docker").chmod(0o755)
    found = None
    with cloud(root, TOML, "docker") as system:
        try:
            with run_host(root / "ssh", path=f"{programs}:{os.environ['PATH']}") as host:
                found = _backup(root, system, program, Machine(host.name, host.ssh, sudo=False))
                found.deploy()
                yield found
        finally:
            if found is not None:
                found.compose("down", "--volumes", "--timeout", "10")
                for reference in found.request.references.values():
                    # Somebody else may run the same image here.
                    with suppress(docker.errors.APIError):
                        docker.from_env().images.remove(reference)


def _backup(root: Path, system: LocalSystem, program: Path, machine: Machine) -> Backup:
    config = Config.parse(TOML)
    around = surroundings(system)
    ses = around.ses_of(config)
    sender = root / "smtp.json"
    smtp_credentials.ensure_webmail(system.session().client("iam"), config, sender, ses.host, ses.port)
    credential = json.loads(sender.read_text())
    known = ServerSecrets(
        CREDENTIALS, RELAY_PASSWORD, CREDENTIALS, WebmailSender(credential["user"], credential["password"])
    )
    ports = ServerPorts(*free_ports(7))
    folder = root / "server"
    tls = root / "tls"
    pki.ensure(system.state.tls, tls, (config.servers["backup"].host,))
    request = Request(
        root=ROOT,
        config=config,
        text=TOML,
        server="backup",
        secrets=known,
        digests=digests(system.state),
        folder=str(folder),
        ports=ports,
        surroundings=around,
        tls=str(tls),
        project=PROJECT,
    )
    subprocess.run(["chown", "-R", "1000:1000", tls], check=True)
    context = pki.client_context(system.state.tls / pki.CA)
    return Backup(request, folder, program, system, ports, context, credential["password"], machine)


def test_all_are_up_and_the_file_is_clean(backup: Backup) -> None:
    states = {name: one["State"] for name, one in backup.containers().items()}
    assert set(states) == {*SERVICES, *ENDED}
    assert {states.pop(name)["ExitCode"] for name in ENDED} == {0}
    assert {one["Health"]["Status"] for one in states.values()} == {"healthy"}
    done = subprocess.run([backup.program, "config", "--quiet"], cwd=backup.folder, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_mail_flows_in_and_stays_over_down_and_up(backup: Backup) -> None:
    sender = Sender(LOOPBACK, backup.system.ports["edge"])
    message = b"From: a@elsewhere.example\r\nTo: ann@example.org\r\nSubject: %s\r\n\r\nHello\r\n"
    first = sender.send(message % b"one", ["ann@example.org"])
    with backup.client() as client:
        client.wait_for([first], "INBOX", 60)
    backup.compose("down", "--timeout", "20")
    second = sender.send(message % b"two", ["ann@example.org"])
    assert backup.deploy()[-1] == "start dovecot, syncer, relay, php, web"
    assert not backup.plan()
    with backup.client() as client:
        client.wait_for([first, second], "INBOX", 60)


def test_limits_of_memory_hold_while_everything_is_used(backup: Backup) -> None:
    sender = Sender(LOOPBACK, backup.system.ports["edge"])
    password = accounts.passwords(backup.system.state)["ann"]

    def send(numbers: Sequence[int], octets: int) -> list[Accepted]:
        return sender.send_all((message(one, octets) for one in numbers), ["ann@example.org"])

    def read() -> None:
        """What a mail client does at each start."""
        for _ in range(4):
            with backup.client() as client:
                client.imap.select("INBOX")
                client.imap.uid("FETCH", "1:*", "(FLAGS ENVELOPE BODYSTRUCTURE)")
                client.imap.search(None, "BODY", "needle7")

    def browse(number: int) -> None:
        browser = backup.browser(f"127.0.3.{number}")
        for _ in range(4):
            browser.ajax("?_task=mail&_action=list&_mbox=INBOX")

    def submit(number: int, octets: int) -> None:
        with smtplib.SMTP_SSL("localhost", backup.ports.submission, context=backup.tls, timeout=120) as smtp:
            smtp.login("ann", password)
            data = message(2000 + number, octets).replace(b"sender@example.com", b"ann@example.org")
            smtp.sendmail("ann@example.org", ["ann@example.org"], data)

    # The first login makes the user of the webmail, and only one can.
    backup.browser("127.0.3.9")
    with ThreadPoolExecutor(16) as pool:
        large = [pool.submit(send, [1000 + one], 38_000_000) for one in range(LARGE)]
        small = [pool.submit(send, range(one, SMALL, 4), 40_000) for one in range(4)]
        others = [pool.submit(read) for _ in range(4)]
        others += [pool.submit(browse, one) for one in (1, 2)]
        others += [pool.submit(submit, one, octets) for one, octets in enumerate(SUBMITTED)]
        for one in others:
            one.result()
        sent = [accepted for one in (*large, *small) for accepted in one.result()]
    with backup.client() as client:
        client.wait_for(sent, timeout=180)
    backup.check_memory()


def test_who_takes_more_memory_than_allowed_is_ended(backup: Backup) -> None:
    # Swap may come to as much again (Compose file reference, mem_limit).
    greedy = "b'x' * (3 * 256 << 20)"
    run = ["run", "--rm", "--no-deps", "--entrypoint", "/usr/bin/python3", "syncer", "-c", greedy]
    done = subprocess.run([backup.program, *run], cwd=backup.folder, capture_output=True, check=False)
    assert done.returncode == 137, done.stderr


def test_rebuilt_from_nothing_it_has_all_mail_again_to_the_octet(backup: Backup) -> None:
    before = backup.mail()
    assert len(before) > SMALL + LARGE
    backup.compose("down", "--volumes", "--timeout", "20")
    shutil.rmtree(backup.folder)
    assert backup.deploy()[-2:] == (
        f"add {len(backup.request.files)} files",
        "start dovecot, syncer, relay, php, web",
    )
    deadline = time.monotonic() + 180
    while True:
        with backup.client() as client:
            if len(client.guids()) == len(before):
                break
        assert time.monotonic() < deadline, "mail is missing"
        time.sleep(0.5)
    assert backup.mail() == before
    # The largest messages came all at once this time.
    backup.check_memory()


def test_containers_are_narrow(backup: Backup) -> None:
    for name, one in backup.containers().items():
        host = one["HostConfig"]
        assert one["Config"]["User"] == "1000:1000", name
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["CapAdd"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert not host["Privileged"], name
        assert host["Memory"] > 0, name
        assert host["PidsLimit"] == 512, name
        assert host["LogConfig"] == {"Type": "local", "Config": {"max-size": "10m", "max-file": "3"}}, name
        if name not in ENDED:
            assert host["RestartPolicy"]["Name"] == "unless-stopped", name
            status = Path(f"/proc/{one['State']['Pid']}/status").read_text()
            fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            assert fields["Uid"].split() == ["1000"] * 4, name
            assert fields["CapEff"] == fields["CapBnd"] == "0" * 16, name
            assert fields["NoNewPrivs"] == "1", name


def test_nothing_secret_is_shown_by_the_engine(backup: Backup) -> None:
    text = json.dumps(backup.containers()) + backup.logs()
    assert RELAY_PASSWORD not in text
    assert backup.sender_password not in text
    assert not [
        variable
        for one in backup.containers().values()
        for variable in one["Config"]["Env"]
        if variable.partition("=")[0] in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    ]


def test_webmail_lets_its_user_in(backup: Backup) -> None:
    assert webmail.answers("localhost", backup.ports.web, backup.tls)
    backup.browser("127.0.3.9")


def test_dovecot_sees_the_address_of_each_client(backup: Backup) -> None:
    place = (LOOPBACK, backup.ports.imaps)
    with (
        socket.create_connection(place, 10, source_address=("127.0.0.9", 0)) as raw,
        backup.tls.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        assert connection.recv(64).startswith(b"* OK")
        connection.sendall(b"a LOGIN ann wrong\r\n")
        answer = b""
        while b"a NO" not in answer:
            answer += connection.recv(4096)
    deadline = time.monotonic() + 60
    # A wrong password is answered, and written down, after a delay.
    while "rip=127.0.0.9" not in (log := backup.compose("logs", "--no-color", "dovecot")):
        assert time.monotonic() < deadline, log
        time.sleep(0.2)
