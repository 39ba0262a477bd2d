"""Files and commands reach a machine behind a real sshd; what Compose then does is in test_compose."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.ssh_host import SshHost, run_host
from tests.golden.test_client_profile import CONFIG
from tests.golden.test_deploy_files import REFERENCES, SECRETS
from twinmail.deploy import backup, compose, server_files, ssh
from twinmail.deploy.backup import Difference
from twinmail.deploy.ssh import Machine, SshFailed, SshUnreachable

ROOT = Path(__file__).resolve().parents[2]
DOCKER = """#!/bin/sh
echo "$PWD: $*" >>{log}
[ ! -e {log}.fail ] || {{ echo "dovecot is unhealthy" >&2; exit 1; }}
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    folder = tmp_path_factory.mktemp("host")
    programs = folder / "bin"
    programs.mkdir()
    (programs / "docker").write_text(DOCKER.format(log=folder / "docker.log"))
    (programs / "docker").chmod(0o755)
    with run_host(folder / "ssh", path=f"{programs}:{os.environ['PATH']}") as found:
        yield found


@pytest.fixture
def machine(host: SshHost) -> Machine:
    return Machine(host.name, host.ssh, sudo=False)


def wanted(text: str = "# twinmail.toml\n") -> dict[str, bytes]:
    files = server_files.plan(CONFIG, text, "backup", SECRETS)
    return backup.bundle(ROOT, files, compose.environment(CONFIG, "backup", files, REFERENCES))


def plan(machine: Machine, files: dict[str, bytes], folder: str) -> Difference:
    return backup.difference(backup.look(machine, (), folder, "twinmail").files, files)


def test_all_files_arrive_for_their_owner_alone(machine: Machine, tmp_path: Path) -> None:
    folder, files = tmp_path / "a server's", wanted()
    difference = plan(machine, files, str(folder))
    assert set(difference.new) == set(files)
    assert not folder.exists()
    backup.install(machine, files, difference, str(folder))
    there = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    assert there == files
    for path in folder.rglob("*"):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (1000, 1000), path
        assert stat.S_IMODE(status.st_mode) == (0o700 if path.is_dir() else 0o600), path
    for place in compose.MOUNT_POINTS:
        assert (folder / "settings" / place).is_dir()
    assert not plan(machine, files, str(folder))


def test_only_differences_are_sent_and_what_belongs_to_nothing_goes(machine: Machine, tmp_path: Path) -> None:
    folder, files = str(tmp_path / "server"), wanted()
    backup.install(machine, files, plan(machine, files, folder), folder)
    dovecot = (tmp_path / "server/settings/dovecot/local.conf").stat().st_ino
    (tmp_path / "server/settings/config/old one").write_text("")
    changed = wanted("# another\n")
    difference = plan(machine, changed, folder)
    assert difference == Difference((), ("settings/config/twinmail.toml",), ("settings/config/old one",))
    backup.install(machine, changed, difference, folder)
    assert not plan(machine, changed, folder)
    assert (tmp_path / "server/settings/dovecot/local.conf").stat().st_ino == dovecot


def test_compose_is_asked_to_wait_and_its_failure_is_told(
    machine: Machine, host: SshHost, tmp_path: Path
) -> None:
    log = host.log.parents[1] / "docker.log"
    log.unlink(missing_ok=True)
    backup.up(machine, str(tmp_path))
    assert log.read_text() == (
        f"{tmp_path}: compose up --detach --wait --wait-timeout 300 --remove-orphans\n"
    )
    log.with_name("docker.log.fail").touch()
    with pytest.raises(SshFailed, match="tested: dovecot is unhealthy"):
        backup.up(machine, str(tmp_path))


def test_a_machine_with_another_host_key_is_not_spoken_to(host: SshHost, tmp_path: Path) -> None:
    folder = host.log.parent
    port = (folder / "known_hosts").read_text().partition("]:")[2].split()[0]
    key = " ".join((folder / "host.pub").read_text().split()[:2])
    other = " ".join((folder / "user.pub").read_text().split()[:2])
    for keys, known in (((key,), True), ((other,), False)):
        program = ssh.options(tmp_path / "state", f"[127.0.0.1]:{port}", keys, folder / "user")
        machine = Machine("127.0.0.1", (*program, "-p", port), sudo=False)
        if known:
            assert machine.run("cat", b"hello") == b"hello"
        else:
            with pytest.raises(SshUnreachable, match=r"Host key verification failed"):
                machine.run("true")
