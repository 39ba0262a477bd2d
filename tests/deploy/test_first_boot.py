"""What a new machine runs at its first boot, run: in the file system of a new Debian 12, with its own packages."""

import hashlib
import json
from collections.abc import Iterator

import pytest

from tests.deploy.conftest import ROOT
from tests.deploy.debian_root import DebianRoot, debian_root, missing
from twinmail.deploy import lightsail

SCRIPT = "/first-boot.sh"
READY = lightsail.READY.lstrip("/")
FAILING = '#!/bin/sh\n[ "$1" != install ] || exit 100\nexec /usr/bin/apt-get "$@"\n'


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRoot]:
    """A machine whose first boot failed in the middle, and was run again."""
    if reason := missing():
        pytest.skip(reason)
    with debian_root(tmp_path_factory.mktemp("machine"), ROOT / ".twinmail" / "cache" / "first-boot") as root:
        (root.path / SCRIPT.lstrip("/")).write_text(lightsail.first_boot())
        broken = root.stand_in("apt-get", FAILING)
        done = root.run("sh", SCRIPT)
        assert done.returncode == 100, done.stderr
        assert not (root.path / READY).exists(), "it must be written last"
        broken.unlink()
        done = root.run("sh", SCRIPT)
        assert done.returncode == 0, done.stderr
        yield root


def test_it_says_that_it_is_ready(machine: DebianRoot) -> None:
    assert (machine.path / READY).is_file()
    folder = (machine.path / lightsail.FOLDER.lstrip("/")).stat()
    assert (folder.st_uid, folder.st_gid, folder.st_mode & 0o777) == (1000, 1000, 0o750)


def test_engine_and_compose_are_installed(machine: DebianRoot) -> None:
    version = machine.run("docker", "compose", "version")
    assert version.stdout.startswith("Docker Compose version 2."), version
    assert machine.run("dockerd", "--version").stdout.startswith("Docker version ")
    # All that it takes from the next release is Compose.
    listed = machine.run("dpkg-query", "-W", "-f", "${Package} ${Version}\n").stdout
    (next_release,) = [line for line in listed.splitlines() if line.startswith("docker-compose ")]
    assert next_release.split()[1].startswith("2.")
    policy = machine.run("apt-cache", "policy", "docker.io").stdout
    (installed,) = [line for line in policy.splitlines() if line.strip().startswith("Installed:")]
    assert "deb12" in installed
    settings = json.loads((machine.path / "etc/docker/daemon.json").read_text())
    # Containers outlive an update of the engine.
    assert settings["live-restore"] is True


def test_security_updates_come_by_themselves(machine: DebianRoot) -> None:
    told = machine.run("apt-config", "dump").stdout
    assert 'APT::Periodic::Update-Package-Lists "1";' in told
    assert 'APT::Periodic::Unattended-Upgrade "1";' in told
    assert 'Unattended-Upgrade::Automatic-Reboot "true";' in told
    assert 'Unattended-Upgrade::Automatic-Reboot-Time "04:30";' in told
    for service in ("docker", "unattended-upgrades"):
        wanted = machine.path / "etc/systemd/system/multi-user.target.wants" / f"{service}.service"
        assert wanted.is_symlink(), f"{service} is not started with the machine"


def test_containers_may_listen_and_there_is_swap(machine: DebianRoot) -> None:
    assert machine.setting("net/ipv4/ip_unprivileged_port_start") == "80"
    assert machine.setting("vm/swappiness") == "10"
    assert (machine.path / "swapfile").stat().st_size == 1 << 30
    assert (machine.path / "swapfile").stat().st_mode & 0o777 == 0o600
    # Once, although the script ran twice.
    assert machine.recorded == ["swapon /swapfile"]
    assert (machine.path / "etc/fstab").read_text().count("/swapfile none swap") == 1


def test_run_once_more_nothing_is_different(machine: DebianRoot) -> None:
    before = written(machine)
    done = machine.run("sh", SCRIPT)
    assert done.returncode == 0, done.stderr
    assert written(machine) == before
    assert machine.recorded == ["swapon /swapfile"]


def written(machine: DebianRoot) -> dict[str, str]:
    """Digests of all that is written in ``/etc``."""
    files = (path for path in (machine.path / "etc").rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
