"""certbot of ``compose.yaml`` gets the certificate that the other containers serve, with a real ACME server."""

import json
import os
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.deploy.acme_process import HOST, Authority, run_authority
from tests.deploy.compose_server import Backup, run_backup
from tests.deploy.conftest import ROOT
from tests.deploy.local_cloud import free_ports
from twinmail.deploy import compose
from twinmail.deploy.server_files import ServerPorts
from twinmail.runtime.emulation import host_platform

TOML = f"""
region = "eu-central-1"
stack = "twinmail"
bucket = "example-mail"
domains = ["example.org"]
operator = "ann@example.org"

[mailboxes.ann]
addresses = ["ann@example.org"]

[servers.backup]
platform = "{host_platform()}"
host = "backup.example.org"
webmail = true

[servers.backup.lightsail]
ssh_from = ["203.0.113.7/32"]
"""
NAMES = ("backup.example.org", "autoconfig.example.org", "autodiscover.example.org", "mta-sts.example.org")
DAYS = 45
SECONDS = 120.0


@dataclass
class Site:
    backup: Backup
    authority: Authority

    def problem(self) -> str:
        """Why not every port serves a certificate of the authority for every name; empty if all do."""
        context = ssl.create_default_context(cadata=self.authority.root())
        for port in (self.backup.ports.imaps, self.backup.ports.web):
            for name in NAMES:
                try:
                    with socket.create_connection((HOST, port), 10) as plain:
                        context.wrap_socket(plain, server_hostname=name).close()
                except OSError as error:
                    return f"{name}:{port}: {error}"
        return ""

    def wait(self) -> None:
        deadline = time.monotonic() + SECONDS
        while problem := self.problem():
            assert time.monotonic() < deadline, f"{problem}\n{self.backup.logs()}"
            time.sleep(0.2)

    def status(self) -> dict:
        """What the syncer says of the certificate."""
        with urllib.request.urlopen(f"http://{HOST}:{self.backup.ports.health}/status", timeout=10) as answer:
            return json.load(answer)["certificate"]


@pytest.fixture(scope="module")
def site(tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("certificate")
    ports = ServerPorts(*free_ports(7))
    with run_authority(tool, folder / "authority", folder / "ca", ports.http, DAYS * 86400) as authority:
        certbot = yaml.safe_load((ROOT / compose.FILE).read_text())["services"]["certbot"]
        # Only where the authority is, and who vouches for its own address, differ from production.
        override = {
            "command": [*certbot["command"], f"--directory={authority.directory}", "--retry-seconds=2"],
            "environment": {"REQUESTS_CA_BUNDLE": "/ca.pem"},
            "volumes": [f"{authority.ca}:/ca.pem:ro"],
        }
        text = yaml.safe_dump({"services": {"certbot": override}})
        project = f"twinmail-certificate-{os.getpid()}"
        server = folder / "server"
        server.mkdir()
        with run_backup(tool, server, TOML, project, text, ports, own_certificate=False) as backup:
            yield Site(backup, authority)


def test_every_name_is_served_with_it(site: Site) -> None:
    site.wait()
    status = site.status()
    assert status["placeholder"] is False
    assert not status["problem"], status


def test_certbot_is_narrow_too(site: Site) -> None:
    assert site.backup.containers()["certbot"]["State"]["Status"] == "running"
    site.backup.check_narrow()


def test_it_is_kept_over_down_and_up(site: Site) -> None:
    site.wait()
    until = site.status()["not_after"]
    site.backup.compose("down", "--timeout", "20")
    # Nobody could get another one now.
    site.authority.resolve_to("127.0.0.9")
    site.backup.deploy()
    site.wait()
    assert site.status()["not_after"] == until
    assert not site.backup.plan()
