"""The local overlay, rendered and run: mail flows through the very pod that the cluster gets."""

import imaplib
import json
import os
import shutil
import smtplib
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.built_images import digests, pushes
from tests.deploy.conftest import ROOT
from tests.deploy.local_cloud import CREDENTIALS, RELAY_PASSWORD, cloud, free_ports, surroundings
from tests.e2e.mail import Client, Sender
from twinmail.config import Config
from twinmail.deploy import kustomization, pins
from twinmail.deploy.kustomization import LOCAL, Request, Tls
from twinmail.deploy.server_files import ServerPorts, ServerSecrets
from twinmail.local import accounts, pki
from twinmail.local.state import LOOPBACK
from twinmail.local.system import LocalSystem
from twinmail.oci.destination import Destination
from twinmail.oci.fetch import Silent
from twinmail.oci.served import serve
from twinmail.rehearsal.podman import Podman
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.select import available

HOST = "primary.example.org"
MESSAGE = "From: a@elsewhere.example\r\nTo: ann@example.org\r\nSubject: {}\r\n\r\nHello\r\n"


def toml() -> str:
    return f"""
region = "eu-central-1"
stack = "twinmail"
bucket = "example-mail"
domains = ["example.org"]

[mailboxes.ann]
addresses = ["ann@example.org"]

[servers.primary]
platform = "{host_platform()}"
host = "{HOST}"
submission = true
[servers.primary.kubernetes]
storage_gb = 1
"""


@dataclass
class Pod:
    """A pod that runs, what it was made from, and the cloud it talks to."""

    podman: Podman
    documents: list[dict[str, Any]]
    system: LocalSystem
    ports: ServerPorts
    tls: ssl.SSLContext
    images: dict[str, str]

    def client(self) -> Client:
        return Client(LOOPBACK, self.ports.imaps, "ann", self.password, self.tls)

    def play(self) -> None:
        """Run the pod, and wait until somebody can log in."""
        self.podman.play(self.documents)
        deadline = time.monotonic() + 90
        while True:
            try:
                with self.client():
                    return
            except (OSError, imaplib.IMAP4.error):
                assert time.monotonic() < deadline, self.podman.logs()
                time.sleep(0.2)

    @property
    def password(self) -> str:
        return accounts.passwords(self.system.state)["ann"]

    @property
    def sender(self) -> Sender:
        return Sender(LOOPBACK, self.system.ports["edge"])

    @property
    def spec(self) -> dict[str, Any]:
        deployment = next(one for one in self.documents if one["kind"] == "Deployment")
        spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
        return spec


@pytest.fixture(scope="module")
def pod(tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    if shutil.which("podman") is None or os.geteuid() != 0:
        pytest.skip("needs podman, and root for it: sh .ci/podman")
    root = tmp_path_factory.mktemp("pod")
    podman = Podman(root / "podman")
    with cloud(root, toml(), available()[0]) as system:
        built = pushes(system.state)
        try:
            with serve(built, Destination("http", "127.0.0.1:1", "twinmail"), Silent()) as served:
                place = Destination("http", f"127.0.0.1:{served.port}", "twinmail")
                entries = pins.pins(pins.pinned(digests(system.state), host_platform()), place)
                wanted = _request(system, entries)
                folder = kustomization.write(wanted, ROOT, root / "kustomization")
                rendered = subprocess.run(
                    [tool("kustomize"), "build", folder], capture_output=True, check=True
                )
                found = Pod(
                    podman,
                    list(yaml.safe_load_all(rendered.stdout)),
                    system,
                    wanted.ports,
                    pki.client_context(system.state.tls / pki.CA),
                    {one.name: one.reference for one in entries},
                )
                try:
                    found.play()
                    yield found
                finally:
                    print(podman.logs())
        finally:
            podman.close()


def _request(system: LocalSystem, entries: tuple[pins.Pin, ...]) -> Request:
    tls = system.state.root / "pod-tls"
    pki.ensure(system.state.tls, tls, (HOST,))
    ports = free_ports(5)
    return Request(
        config=Config.parse(toml()),
        text=toml(),
        server="primary",
        secrets=ServerSecrets(CREDENTIALS, RELAY_PASSWORD, CREDENTIALS),
        images=entries,
        tls=Tls((tls / "cert.pem").read_bytes(), (tls / "key.pem").read_bytes()),
        overlay=LOCAL,
        ports=ServerPorts(
            imaps=ports[0], submission=ports[1], sieve=ports[2], health=ports[3], relay=ports[4]
        ),
        surroundings=surroundings(system),
    )


def test_mail_flows_in(pod: Pod) -> None:
    accepted = pod.sender.send(MESSAGE.format("in").encode(), ["ann@example.org"])
    with pod.client() as client:
        client.wait_for([accepted], "INBOX", 90)


def test_mail_flows_out(pod: Pod) -> None:
    with smtplib.SMTP_SSL(LOOPBACK, pod.ports.submission, context=pod.tls, timeout=60) as session:
        session.login("ann", pod.password)
        text = "From: ann@example.org\r\nTo: ann@example.org\r\nSubject: out\r\n\r\nHello\r\n"
        assert session.sendmail("ann@example.org", ["ann@example.org"], text) == {}
    deadline = time.monotonic() + 60
    with pod.client() as client:
        found = b""
        while not found:
            assert time.monotonic() < deadline, pod.podman.logs()
            client.imap.select("INBOX", readonly=True)
            found = client.imap.search(None, "SUBJECT", "out")[1][0]


def test_containers_are_as_narrow_as_the_rendered_pod_says(pod: Pod) -> None:
    containers = pod.podman.containers()
    assert set(containers) == {"dovecot", "syncer", "relay"}
    for name, one in containers.items():
        assert one["HostConfig"]["ReadonlyRootfs"], name
        assert one["HostConfig"]["Memory"] > 0, name
        status = Path(f"/proc/{one['State']['Pid']}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split() == ["1000"] * 4, name
        assert fields["CapEff"] == fields["CapBnd"] == "0" * 16, name
        assert fields["NoNewPrivs"] == "1", name
        assert fields["Seccomp"] == "2", name
        assert one["ImageName"] in pod.images.values(), name
        assert one["ImageDigest"] == one["ImageName"].partition("@")[2], name
        assert not any("SECRET" in variable.partition("=")[0] for variable in one["Config"]["Env"])


def test_every_probe_answers(pod: Pod) -> None:
    for box in pod.spec["containers"]:
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = box[kind]
            if "exec" in probe:
                command = [one.replace("10025", str(pod.ports.relay)) for one in probe["exec"]["command"]]
                pod.podman.run("exec", f"twinmail-{box['name']}", *command)
            else:
                url = f"http://{LOOPBACK}:{pod.ports.health}{probe['httpGet']['path']}"
                with urllib.request.urlopen(url, timeout=10) as answer:
                    assert answer.status == 200


def test_the_syncer_watches_the_certificate_that_dovecot_serves(pod: Pod) -> None:
    deadline = time.monotonic() + 60
    told: dict[str, Any] = {}
    while not told.get("days_left"):
        assert time.monotonic() < deadline, pod.podman.logs()
        with urllib.request.urlopen(f"http://{LOOPBACK}:{pod.ports.health}/status", timeout=10) as answer:
            told = json.load(answer)["certificate"] or {}
    assert told["days_left"] > 14 and told["problem"] is None
    while "certificate served" not in pod.podman.logs():
        assert time.monotonic() < deadline, pod.podman.logs()


def test_a_new_pod_keeps_the_mail_and_a_new_volume_gets_it_back(pod: Pod) -> None:
    kept = pod.sender.send(MESSAGE.format("kept").encode(), ["ann@example.org"])
    with pod.client() as client:
        client.wait_for([kept], "INBOX", 60)
    pod.podman.end()
    meanwhile = pod.sender.send(MESSAGE.format("meanwhile").encode(), ["ann@example.org"])
    pod.play()
    with pod.client() as client:
        client.wait_for([kept, meanwhile], "INBOX", 60)
    pod.podman.end(volumes=True)
    pod.play()
    with pod.client() as client:
        client.wait_for([kept, meanwhile], "INBOX", 60)
