"""The ways to the pages of servers in production."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.cloud import CONFIG
from twinmail.config import Config
from twinmail.deploy import ssh
from twinmail.deploy.reach import POD_PORT, CommandPage, pages
from twinmail.deploy.server_files import PORTS
from twinmail.production import Kubernetes, Lightsail
from twinmail.secret_store import SecretStore
from twinmail.server_page import LocalPage, Unreachable


def production() -> Config:
    primary = replace(CONFIG.servers["primary"], kubernetes=Kubernetes("picluster", "mail"))
    backup = replace(CONFIG.servers["backup"], lightsail=Lightsail())
    return replace(CONFIG, servers={"primary": primary, "backup": backup})


class Answer(BaseHTTPRequestHandler):
    """Says which page it is."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/status" else 404)
        self.end_headers()
        self.wfile.write(b"page")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_page_is_read_by_a_program_on_standard_input(port: int) -> None:
    page = CommandPage("here", (sys.executable, "-"), port)
    assert page.read("/status") == LocalPage(f"127.0.0.1:{port}").read("/status") == b"page"
    with pytest.raises(Unreachable, match=r"^here: expected 200, got 404: page"):
        page.read("/other")
    with pytest.raises(Unreachable, match=r"expected 200, got 404: page$"):
        LocalPage(f"127.0.0.1:{port}").read("/other")


def test_program_that_is_missing_is_named() -> None:
    with pytest.raises(Unreachable, match=r"^there: no-such-program is not installed here$"):
        CommandPage("there", ("no-such-program",), 1).read("/status")


def test_machine_is_reached_by_ssh_with_its_key(tmp_path: Path) -> None:
    secrets = SecretStore(tmp_path)
    secrets.put("ssh/backup", b"key")
    page = pages(production(), secrets, tmp_path / "deployed")["backup"]
    assert page.where == "ssh admin@backup.example.org"
    assert isinstance(page, CommandPage)
    assert page.command[0] == "ssh" and str(tmp_path / "ssh" / "backup") in page.command
    assert "BatchMode=yes" in page.command and page.command[-2] == "admin@backup.example.org"
    # By no other host keys than those that the deployment was told.
    known = ssh.options(tmp_path / "deployed/backup", "tests-backup", ["ssh-ed25519 AAAA"], tmp_path)[1:9]
    assert f"UserKnownHostsFile={tmp_path / 'deployed/backup/known_hosts'}" in known
    page = pages(production(), secrets, tmp_path / "deployed")["backup"]
    assert isinstance(page, CommandPage) and " ".join(known) in " ".join(page.command)


def test_pod_is_reached_by_kubectl_in_its_context(tmp_path: Path) -> None:
    page = pages(production(), SecretStore(tmp_path), tmp_path / "deployed")["primary"]
    assert isinstance(page, CommandPage)
    words = "kubectl --context picluster -n mail exec -i deployment/twinmail -c syncer -- /usr/bin/python3 -"
    assert page.command == tuple(words.split())


def test_ports_are_those_of_the_deployments(tmp_path: Path) -> None:
    pod = (Path(__file__).parents[2] / "k8s/kustomize/base/deployment.yaml").read_text()
    assert f"- --health-port={POD_PORT}\n" in pod and "\n  name: twinmail\n" in pod
    found = pages(production(), SecretStore(tmp_path), tmp_path / "deployed")
    ports = {name: page.port for name, page in found.items() if isinstance(page, CommandPage)}
    assert ports == {"primary": POD_PORT, "backup": PORTS.health}


def test_server_that_says_nothing_of_its_place_has_no_way(tmp_path: Path) -> None:
    assert pages(CONFIG, SecretStore(tmp_path), tmp_path / "deployed") == {}
