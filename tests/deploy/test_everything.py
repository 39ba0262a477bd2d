"""``./inv deploy``: the cloud on LocalStack, a backup with real Compose and a primary, from nothing in one command.

Simulated are Lightsail's API, behind boto3's own client, and Kubernetes' API server, behind the real kubectl.
"""

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from tests.deploy.api_server import serve
from tests.deploy.built_images import Silent, digests, pushes
from tests.deploy.conftest import ROOT
from tests.deploy.local_cloud import free_ports, local_system, surroundings
from tests.deploy.ssh_host import SshHost, run_host
from tests.lightsail_simulator import LightsailSimulator
from twinmail.deploy import pins
from twinmail.deploy.cluster_images import OnNodes
from twinmail.deploy.server_files import ServerPorts
from twinmail.local import pki
from twinmail.oci.digests import FILE
from twinmail.runtime.emulation import host_platform
from twinmail.secret_store import SecretStore
from twinmail.tasks import deploy, place

TOML = f"""
region = "eu-central-1"
stack = "everything"
bucket = "everything-mail"
domains = ["example.org"]

[mailboxes.ann]
addresses = ["ann@example.org"]

[servers.primary]
platform = "{host_platform()}"
host = "primary.example.org"
addresses = ["192.0.2.1"]

[servers.primary.kubernetes]
context = "tests"
nodes = ["tested"]

[servers.backup]
platform = "{host_platform()}"
host = "backup.example.org"
webmail = true
submission = true

[servers.backup.lightsail]
ssh_from = ["203.0.113.7/32"]
"""
CHANGES = 6
"""Calls that make a machine, its address and its key."""


class Account(LightsailSimulator):
    """An account whose only machine is this one; with everything else as *session* has it."""

    def __init__(self, session: Any, host: SshHost, ready: Path) -> None:
        super().__init__()
        self._session, self._folder, self._ready = session, host.log.parent, ready
        self.address = "127.0.0.1"
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.host_keys = [(self._folder / "host.pub").read_text().split()[1]]

    def CreateInstances(self, asked: dict[str, Any]) -> dict[str, Any]:
        with (self._folder / "authorized").open("a") as file:
            file.write(self.keys[asked["keyPairName"]] + "\n")
        self._ready.touch()
        return super().CreateInstances(asked)

    def session(self) -> Any:
        """boto3's, of this account."""

        class Session:
            def client(inner, name: str, *arguments: Any, **named: Any) -> Any:
                if name == "lightsail":
                    return self.client()
                return self._session.client(name, *arguments, **named)

        return Session()


def test_all_of_production_from_nothing_stops_where_it_fails_and_then_changes_nothing(
    tool: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    programs, project = tmp_path / "bin", f"twinmail-everything-{os.getpid()}"
    programs.mkdir()
    engine, compose = shutil.which("docker"), tool("docker-compose")
    (programs / "docker").write_text(
        f'#!/bin/sh\n[ "$1" != compose ] || {{ shift; exec {compose} "$@"; }}\nexec {engine} "$@"\n'
    )
    (programs / "docker").chmod(0o755)
    (programs / "kubectl").symlink_to(tool("kubectl"))
    path = f"{programs}:{os.environ['PATH']}"
    with (
        local_system(tmp_path, TOML, "docker") as system,
        run_host(tmp_path / "ssh", path=path) as host,
        serve(tmp_path) as (cluster, kubeconfig),
    ):
        account = Account(system.session(), host, tmp_path / "ready")
        root = tmp_path / "checkout"
        (root / FILE).parent.mkdir(parents=True)
        (root / "k8s").symlink_to(ROOT / "k8s")
        pinned = digests(system.state)
        pinned.save(root)
        tls = tmp_path / "tls"
        pki.ensure(system.state.tls, tls, ("backup.example.org",))
        subprocess.run(["chown", "-R", "1000:1000", tls], check=True)
        store = SecretStore(tmp_path / "secrets")
        for name in ("cert.pem", "key.pem"):
            store.put(f"tls/primary/{name}", b"PEM")
        port = (host.log.parent / "known_hosts").read_text().partition("]:")[2].split()[0]
        ports, folder = ServerPorts(*free_ports(7)), tmp_path / "server"
        real_backup, real_primary = deploy._backup, deploy._primary

        def backup(*arguments: Any) -> Any:
            part = real_backup(*arguments)
            rented = replace(
                part.rented,
                folder=tmp_path / "known",
                ssh=("ssh", "-F", "none", "-p", port),
                ready=str(tmp_path / "ready"),
                pause=0.001,
            )
            return replace(
                part,
                rented=rented,
                digests=pinned,
                build=lambda: pushes(system.state),
                progress=Silent(),
                overrides=lambda request: replace(
                    request,
                    folder=str(folder),
                    ports=ports,
                    surroundings=surroundings(system),
                    tls=str(tls),
                    project=project,
                ),
            )

        def primary(*arguments: Any) -> Any:
            part = real_primary(*arguments)
            assert isinstance(part.source, OnNodes) and part.source.hosts == ("tested",)
            images = [one for one in pushes(system.state) if one.name in pins.IMAGES]
            source = replace(part.source, ssh=host.ssh, progress=Silent())
            return replace(part, root=root, source=source, build=lambda: images)

        monkeypatch.setenv("PATH", path)
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        monkeypatch.setattr(deploy, "SECRETS", store.root)
        monkeypatch.setattr(deploy, "_backup", backup)
        monkeypatch.setattr(deploy, "_primary", primary)
        monkeypatch.setattr(place, "find", lambda *_: place.Place("LocalStack", account.session()))
        toml = tmp_path / "twinmail.toml"

        def run(**options: Any) -> dict[str, Any]:
            deploy.everything(Context(), config=str(toml), json_=True, **options)
            told = json.loads(capsys.readouterr().out)
            return {**told, "parts": {one["part"].partition(":")[0]: one for one in told["parts"]}}

        try:
            first = run(plan=True)
            assert (first["applied"], list(first["parts"])) == (False, ["cloud", "backup", "primary"])
            assert (
                "make an access key of everything-syncer-backup, kept as syncer/backup/credentials"
                in (first["parts"]["cloud"]["changes"])
            )
            assert "bring image certbot" in first["parts"]["backup"]["changes"]
            assert "./inv deploy cloud" in first["parts"]["primary"]["blocked"]
            assert (account.calls, cluster.objects) == ([], {})

            account.fail_at = 2
            with pytest.raises(Exit) as stopped:
                run(yes=True)
            text = str(stopped.value)
            assert text.startswith("backup: server backup: ") and "simulated" in text
            assert "\nnot tried yet: primary: server primary\n" in text
            assert text.endswith("once that is put right, the same command goes on from here")
            assert (len(account.calls), cluster.objects) == (2, {})
            keys = {name: store.get(name) for name in store.names()}

            account.fail_at = None
            again = run(yes=True)
            assert again["applied"] and again["parts"]["cloud"]["changes"] == []
            assert again["parts"]["primary"]["changes"]
            assert len(account.calls) == CHANGES
            assert keys.items() <= {name: store.get(name) for name in store.names()}.items()
            assert "deployments" in {plural for _, plural, _ in cluster.objects}
            ours = f"label=com.docker.compose.project={project}"
            shown = '{{.Label "com.docker.compose.service"}} {{.Status}}'
            health = subprocess.run(
                ["docker", "ps", "--filter", ours, "--format", shown],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()
            assert {line.split()[0] for line in health} == {"dovecot", "syncer", "relay", "php", "web"}
            assert all("(healthy)" in line for line in health), health

            wrote = cluster.wrote
            last = run(yes=True)
            assert not last["applied"], last
            assert not any(one["changes"] or one["blocked"] for one in last["parts"].values())
            assert (len(account.calls), cluster.wrote) == (CHANGES, wrote)

            # Each part alone, when somebody has meddled with it.
            def alone(one: Any, **options: Any) -> dict[str, Any]:
                one(Context(), config=str(toml), json_=True, **options)
                (told,) = json.loads(capsys.readouterr().out).values()
                return told

            composed = (folder / "compose.yaml").read_bytes()
            (folder / "compose.yaml").write_bytes(composed + b"# mine\n")
            lost = next(key for key in cluster.objects if key[1] == "services")
            del cluster.objects[lost]
            for part in (deploy.backup, deploy.primary):
                told = alone(part, plan=True)
                assert told["changes"] and not told["applied"]
            assert (folder / "compose.yaml").read_bytes() != composed and lost not in cluster.objects
            with pytest.raises(Exit, match="say --yes to deploy, --plan to look"):
                deploy.backup(Context(), config=str(toml))
            assert "change file compose.yaml" in capsys.readouterr().out
            assert "change file compose.yaml" in alone(deploy.backup, yes=True)["changes"]
            assert "services" in alone(deploy.primary, yes=True)["changes"]
            assert (folder / "compose.yaml").read_bytes() == composed and lost in cluster.objects
            assert not any(alone(part, yes=True)["applied"] for part in (deploy.backup, deploy.primary))
        finally:
            if folder.exists():
                down = [compose, "down", "--volumes", "--timeout", "10"]
                subprocess.run(down, cwd=folder, capture_output=True, check=False)
            platform = host_platform()
            for name, platforms in pinned.images.items():
                # Somebody else may run the same image here.
                with suppress(docker.errors.APIError):
                    docker.from_env().images.remove(
                        pins.OVER_SSH.reference(name, platforms[platform]["manifest"])
                    )
