"""A machine behind a real sshd on a loopback port: this one, with the programs that it is given."""

import os
import pwd
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from twinmail.config import Environment
from twinmail.local.state import LOOPBACK
from twinmail.rehearsal import child
from twinmail.rehearsal.child import ProgramFailed
from twinmail.rehearsal.ports import free_ports

SSHD = Path("/usr/sbin/sshd")
SSHD_FOLDER = Path("/run/sshd")
"""Where its processes are locked in until a client has logged in."""
NAME = "rehearsed"
_SECONDS = 30.0


@dataclass(frozen=True)
class SshHost:
    """The running host.

    Attributes:
        name: by which ``ssh`` knows it, with `ssh`.
        ssh: the client with a configuration that knows this host alone.
    """

    name: str
    ssh: tuple[str, ...]


@contextmanager
def run_host(folder: Path, programs: Path) -> Iterator[SshHost]:
    """A host for the user of this process, who logs in by a key.

    Args:
        folder: for its keys and settings; made.
        programs: a folder of programs that are found before the machine's own.

    Raises:
        ProgramFailed: it does not listen.
    """
    folder.mkdir(parents=True, mode=0o700)
    user = pwd.getpwuid(os.getuid()).pw_name
    for key in ("host", "user"):
        child.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key])
    (folder / "authorized").write_bytes((folder / "user.pub").read_bytes())
    (port,) = free_ports(1)
    (folder / "sshd_config").write_text(
        f"ListenAddress {LOOPBACK}:{port}\n"
        f"HostKey {folder / 'host'}\n"
        f"AuthorizedKeysFile {folder / 'authorized'}\n"
        f"PidFile {folder / 'pid'}\n"
        f"SetEnv PATH={programs}:{Environment.read().path}\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
    )
    (folder / "known_hosts").write_text(f"[{LOOPBACK}]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "ssh_config").write_text(
        f"Host {NAME}\n HostName {LOOPBACK}\n Port {port}\n User {user}\n"
        f" IdentityFile {folder / 'user'}\n IdentitiesOnly yes\n BatchMode yes\n"
        f" UserKnownHostsFile {folder / 'known_hosts'}\n"
    )
    log = folder / "sshd.log"
    # With -e it writes to its standard error, where a log file of its own would miss why it does not start.
    # What its clients have begun there must not go on when the machine is gone.
    process = child.start([SSHD, "-D", "-e", "-f", folder / "sshd_config"], log, alone=True)
    try:
        deadline = time.monotonic() + _SECONDS
        while b"Server listening" not in (text := log.read_bytes()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ProgramFailed(f"{SSHD} does not listen: {text.decode(errors='replace').strip()}")
            time.sleep(0.02)
        yield SshHost(NAME, ("ssh", "-F", str(folder / "ssh_config")))
    finally:
        child.end(process)
