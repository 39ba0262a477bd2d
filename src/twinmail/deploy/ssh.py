"""Commands on a machine, as root, by the system's own SSH client; the machine is known by its host keys."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinmail import durable_file
from twinmail.deploy.ssh_push import check_host
from twinmail.errors import PermanentError, TransientError

_UNREACHABLE = 255
"""What ``ssh`` ends with when it is its own fault, and not the command's (ssh(1))."""


_KNOWN = "known_hosts"


class SshFailed(PermanentError):
    """A command on the machine failed."""


class SshUnreachable(TransientError):
    """The machine does not answer, or is not the one it should be."""


@dataclass(frozen=True)
class Machine:
    """Where commands run.

    Attributes:
        host: what ``ssh`` takes: a name, or ``user@name``.
        ssh: the program, and options for it.
        sudo: whether the user is not root, and becomes it without a password.
    """

    host: str
    ssh: tuple[str, ...] = ("ssh",)
    sudo: bool = True

    def run(self, script: str, stdin: bytes = b"") -> bytes:
        """The standard output of *script*, run by the machine's shell with *stdin*.

        Raises:
            SshUnreachable: the connection cannot be made, or broke.
            SshFailed: the script ended with another code than 0.
        """
        check_host(self.host)
        command = f"{'sudo -n ' if self.sudo else ''}sh -c {_quoted(script)}"
        argv = [*self.ssh, "-T", self.host, command]
        try:
            done = subprocess.run(argv, input=stdin, capture_output=True, check=False)
        except OSError as error:
            raise SshFailed(
                f"{argv[0]}: {error.strerror}; install it: apt-get install openssh-client"
            ) from error
        said = done.stderr.decode(errors="replace").strip()
        if done.returncode == _UNREACHABLE:
            raise SshUnreachable(f"{self.host}: {said or 'no connection'}; run the same command again")
        if done.returncode:
            raise SshFailed(f"{self.host}: {said or f'it ended with {done.returncode}'}")
        return done.stdout


def options(folder: Path, name: str, host_keys: Sequence[str], identity: Path) -> tuple[str, ...]:
    """The program and its options for the machine that has *host_keys*, and no other.

    Args:
        folder: where the list of known hosts is written.
        name: of the machine there, whatever its address.
        host_keys: each ``TYPE BASE64``.
        identity: file with the private key to log in with.

    Raises:
        NotWritten: transient.
    """
    known = folder / _KNOWN
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    durable_file.write(known, "".join(f"{name} {one}\n" for one in host_keys).encode("ascii"), mode=0o600)
    settings = {
        "IdentityFile": str(identity),
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "20",
        "ServerAliveInterval": "15",
    }
    return ("ssh", *known_as(folder, name), *_words(settings))


def known_as(folder: Path, name: str) -> tuple[str, ...]:
    """Options for `options`'s machine *name* that let no other answer; none if *folder* knows no machine."""
    known = folder / _KNOWN
    if not known.exists():
        return ()
    return _words(
        {
            "UserKnownHostsFile": str(known),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "HostKeyAlias": name,
        }
    )


def _words(settings: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(part for name, value in settings.items() for part in ("-o", f"{name}={value}"))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"
