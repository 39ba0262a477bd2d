"""A host behind a real sshd on a loopback port: this machine, with the programs that a test gives it."""

import os
import pwd
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SSHD = Path("/usr/sbin/sshd")
_SECONDS = 30.0


@dataclass(frozen=True)
class SshHost:
    """The running host.

    Attributes:
        name: by which ``ssh`` knows it, with `ssh`.
        ssh: the client with a configuration that knows this host alone.
        log: what sshd writes.
    """

    name: str
    ssh: tuple[str, ...]
    log: Path


@contextmanager
def run_host(folder: Path, path: str | None = None, options: str = "") -> Iterator[SshHost]:
    """A host for the user of this process, who logs in by a key.

    Args:
        path: where it finds programs, if not where this process does.
        options: more lines for sshd's configuration.
    """
    assert SSHD.exists(), f"{SSHD} is missing; run: sh .ci/sshd"
    folder.mkdir(parents=True, exist_ok=True)
    user = pwd.getpwuid(os.getuid()).pw_name
    for key in ("host", "user"):
        generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key]
        subprocess.run(generate, check=True)
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    port = _free_port()
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\n"
        f"HostKey {folder / 'host'}\n"
        f"AuthorizedKeysFile {folder / 'authorized'}\n"
        f"PidFile {folder / 'pid'}\n"
        f"SetEnv PATH={path or os.environ['PATH']}\n"
        # The cheapest: connections are many here.
        "KexAlgorithms curve25519-sha256\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        f"{options}"
    )
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "ssh_config").write_text(
        f"Host tested\n HostName 127.0.0.1\n Port {port}\n User {user}\n"
        f" IdentityFile {folder / 'user'}\n IdentitiesOnly yes\n BatchMode yes\n"
        f" UserKnownHostsFile {folder / 'known_hosts'}\n"
    )
    log = folder / "sshd.log"
    process = subprocess.Popen([SSHD, "-D", "-f", folder / "sshd_config", "-E", log])
    try:
        deadline = time.monotonic() + _SECONDS
        while not log.exists() or "Server listening" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield SshHost("tested", ("ssh", "-F", str(folder / "ssh_config")), log)
    finally:
        process.terminate()
        process.wait(_SECONDS)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
