"""A whole server by real ``docker compose``, brought to this machine by SSH, with LocalStack for its cloud."""

import hashlib
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import docker

from tests.deploy.built_images import Silent, digests, pushes
from tests.deploy.conftest import ROOT
from tests.deploy.local_cloud import CREDENTIALS, RELAY_PASSWORD, cloud, free_ports, surroundings
from tests.deploy.ssh_host import run_host
from tests.e2e.mail import Client
from tests.image.webmail_client import WebmailClient
from twinmail import smtp_credentials
from twinmail.config import Config
from twinmail.deploy import backup_server, compose
from twinmail.deploy.backup_server import Plan, Request
from twinmail.deploy.server_files import ServerPorts, ServerSecrets
from twinmail.deploy.ssh import Machine
from twinmail.local import accounts, pki
from twinmail.local.state import LOOPBACK
from twinmail.local.system import LocalSystem
from twinmail.sync.budget import memory_limit
from twinmail.webmail import Sender as WebmailSender

# They make things ready, and end.
ENDED = ("volume", "placeholder")
OVERRIDE = "compose.override.yaml"
"""What Compose lays over ``compose.yaml`` if it stands beside it."""


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

    def check_narrow(self) -> None:
        """No container may do more than it has to."""
        for name, one in self.containers().items():
            host = one["HostConfig"]
            assert one["Config"]["User"] == "1000:1000", name
            assert host["ReadonlyRootfs"], name
            assert host["CapDrop"] == ["ALL"], name
            assert not host["CapAdd"], name
            assert "no-new-privileges:true" in host["SecurityOpt"], name
            assert not host["Privileged"], name
            assert host["Memory"] > 0, name
            assert host["PidsLimit"] == 512, name
            assert host["LogConfig"] == {"Type": "local", "Config": {"max-size": "10m", "max-file": "3"}}, (
                name
            )
            if name not in ENDED:
                assert host["RestartPolicy"]["Name"] == "unless-stopped", name
                status = Path(f"/proc/{one['State']['Pid']}/status").read_text()
                fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
                assert fields["Uid"].split() == ["1000"] * 4, name
                assert fields["CapEff"] == fields["CapBnd"] == "0" * 16, name
                assert fields["NoNewPrivs"] == "1", name

    def browser(self, address: str, user: str = "ann") -> WebmailClient:
        """*user* at *address*, who has logged in to the webmail."""
        found = WebmailClient(self.ports.web, self.system.state.tls / pki.CA, address)
        page = found.log_in(user, self.password(user))
        assert "task-mail" in page.text, f"{page.status_code}\n{self.logs()}"
        return found

    def password(self, user: str) -> str:
        return accounts.passwords(self.system.state)[user]

    def client(self, user: str = "ann") -> Client:
        return Client(LOOPBACK, self.ports.imaps, user, self.password(user), self.tls)


@contextmanager
def run_backup(
    tool: Callable[[str], Path],
    root: Path,
    text: str,
    project: str,
    override: str = "",
    ports: ServerPorts | None = None,
    own_certificate: bool = True,
) -> Iterator[Backup]:
    """The server ``backup`` of *text*, a configuration, with all of its services up.

    Args:
        root: an empty folder.
        project: what Compose calls all of it.
        override: laid over ``compose.yaml``.
        own_certificate: whether there is one already; certbot gets one otherwise.
    """
    program = tool("docker-compose")
    programs = root / "bin"
    programs.mkdir()
    engine = shutil.which("docker")
    (programs / "docker").write_text(
        f'#!/bin/sh\n[ "$1" != compose ] || {{ shift; exec {program} "$@"; }}\nexec {engine} "$@"\n'
    )
    (programs / "docker").chmod(0o755)
    found = None
    with cloud(root, text, "docker") as system:
        try:
            with run_host(root / "ssh", path=f"{programs}:{os.environ['PATH']}") as host:
                machine = Machine(host.name, host.ssh, sudo=False)
                found = _backup(root, text, project, system, program, machine)
                if ports:
                    found.ports = ports
                    found.request = replace(found.request, ports=ports)
                if not own_certificate:
                    found.request = replace(found.request, tls=compose.TLS_VOLUME)
                if override:
                    found.folder.mkdir()
                    (found.folder / OVERRIDE).write_text(override)
                found.deploy()
                yield found
        finally:
            if found is not None:
                found.compose("--profile", "*", "down", "--volumes", "--timeout", "10")
                for reference in found.request.references.values():
                    # Somebody else may run the same image here.
                    with suppress(docker.errors.APIError):
                        docker.from_env().images.remove(reference)


def _backup(
    root: Path, text: str, project: str, system: LocalSystem, program: Path, machine: Machine
) -> Backup:
    config = Config.parse(text)
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
        text=text,
        server="backup",
        secrets=known,
        digests=digests(system.state),
        folder=str(folder),
        ports=ports,
        surroundings=around,
        tls=str(tls),
        project=project,
    )
    subprocess.run(["chown", "-R", "1000:1000", tls], check=True)
    context = pki.client_context(system.state.tls / pki.CA)
    return Backup(request, folder, program, system, ports, context, credential["password"], machine)
