"""One Dovecot container with users, certificates and a Maildir volume of its own."""

import os
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from twinmail import password, password_file, quota
from twinmail.accounts import Accounts, User
from twinmail.imap import Account, greets
from twinmail.local import pki
from twinmail.local.dovecot import FILE as LOCAL_CONF
from twinmail.local.dovecot import local_conf
from twinmail.local.state import LOOPBACK
from twinmail.runtime.interface import GID, UID, Container, ContainerSpec, Mount, Running, Runtime

PASSWORD = "correct-horse-battery"
START_SECONDS = 120.0  # under emulation of another platform, with a machine that does other things


@dataclass
class Dovecot:
    """Starts, serves *users* (all with `PASSWORD`; none: no password file) on a loopback port, and stops.

    Attributes:
        folder: holds everything: ``etc`` (the container's /etc/twinmail), ``mail`` and ``tls``.
    """

    runtime: Runtime
    layout: Path
    platform: str
    folder: Path
    users: Sequence[str] = ("ann", "bob")
    port: int = field(default_factory=lambda: free_port())
    sieve: int = field(default_factory=lambda: free_port())
    reference: str | None = None
    full_text_search: bool = True
    quotas: Mapping[str, int] = field(default_factory=dict)
    containers: list[Container] = field(default_factory=list)

    @property
    def container(self) -> Container:
        return self.containers[-1]

    @property
    def tls(self) -> ssl.SSLContext:
        return pki.client_context(self.folder / "tls" / pki.CA)

    def account(self, user: str, password: str = PASSWORD) -> Account:
        return Account(LOOPBACK, self.port, user, password, self.tls)

    def start(self, name: str = "dovecot") -> "Dovecot":
        etc, mail = self.folder / "etc", self.folder / "mail"
        pki.ensure(self.folder / "tls", etc / "tls", ("imap.example.org",))
        (etc / LOCAL_CONF).write_text(local_conf(self.port, self.sieve, self.full_text_search))
        for volume in (etc, mail, mail / ".server"):
            self.runtime.prepare_volume(volume)
        if self.users and not self.password_file.exists():
            self.set_accounts(accounts_of(self.users))
        quotas = self.folder / "mail" / quota.PLACE
        quotas.write_bytes(quota.user_database(self.quotas))
        self._own(quotas)
        spec = ContainerSpec(
            name=name,
            layout=self.layout,
            platform=self.platform,
            mounts=(Mount(etc, "/etc/twinmail", read_only=True), Mount(mail, "/var/mail/twinmail")),
            reference=self.reference,
        )
        self.containers.append(self.runtime.start(spec))
        deadline = time.monotonic() + START_SECONDS
        while not greets(LOOPBACK, self.port, self.tls):
            status = self.container.status()
            assert isinstance(status, Running), f"{status}\n{self.container.logs().decode()}"
            assert time.monotonic() < deadline, self.container.logs().decode()
            time.sleep(0.05)
        return self

    @property
    def password_file(self) -> Path:
        return self.folder / "mail" / password_file.PLACE

    def set_accounts(self, accounts: Accounts) -> None:
        """Write the password file as the syncer does; Dovecot looks at it once a second."""
        self._make(self.password_file.parent)
        password_file.save(self.password_file, accounts)
        self._own(self.password_file)

    def stop(self) -> None:
        for container in self.containers:
            container.stop()

    def maildir(self, user: str, folder: str = "") -> Path:
        """The Maildir of *folder* (Maildir++: ``Junk`` is ``.Junk``), as the host sees it."""
        path = self.folder / "mail" / user / "Maildir"
        return path / f".{folder}" if folder else path

    def store(self, user: str, name: str, data: bytes, folder: str = "") -> Path:
        """Put a message into ``new/`` as the syncer does, from outside of the container."""
        maildir = self.maildir(user, folder)
        for one in (maildir, *(maildir / part for part in ("tmp", "new", "cur"))):
            self._make(one)
        temporary, path = maildir / "tmp" / name, maildir / "new" / name
        temporary.write_bytes(data)
        self._own(temporary)
        os.link(temporary, path)
        temporary.unlink()
        return path

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            if folder != self.folder / "mail":
                self._make(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)
            self._own(folder)

    def _own(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, UID, GID)


def accounts_of(users: Sequence[str], secret: str = PASSWORD) -> Accounts:
    """An account for each of *users*, all with the password *secret* and no address."""
    digest, now = password.digest(secret), datetime.now(UTC)
    return Accounts({name: User(name, digest, now) for name in users})


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
