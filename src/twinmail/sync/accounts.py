"""The chore that brings the accounts to this server's Dovecot.

Whatever happens to the document, nobody is locked out: the file that was rendered last stays until a better
one is whole on the disk. Sessions that a password opened end when it is taken away: a lost phone would go on
reading for as long as it stays connected.
"""

from collections.abc import Callable
from pathlib import Path

from twinmail import durable_file, password_file
from twinmail.accounts import KEY, Accounts, AccountsError
from twinmail.sync.log import Log
from twinmail.sync.state_store import StateStore

# The queue announces a change at once; this is for a queue that is not there.
SECONDS = 20.0


class AccountsChore:
    """Renders the password file of the mailboxes in *mail* from the document in *store*."""

    name = "accounts"
    seconds = SECONDS
    prefix = KEY

    def __init__(self, store: StateStore, mail: Path, log: Log, end_sessions: Callable[[str], None]) -> None:
        self._store = store
        self._path = mail / password_file.PLACE
        self._log = log
        self._end_sessions = end_sessions
        # Twice each: for a second Dovecot may still take the old password.
        self._ending: dict[str, int] = {}

    def turn(self) -> None:
        """See `Chore`.

        Raises:
            AccountsError: the document is missing, damaged, empty or of a newer version; the file stays.
            NotWritten: the disk is full, or the volume not mounted; the file stays.
            SourceUnavailable: S3 did not answer; the file stays.
            SessionsUnavailable: sessions could not be ended; done at the next turn.
        """
        try:
            self._follow()
        finally:
            self._end()

    def _follow(self) -> None:
        # Whatever comes next: Dovecot does not start without the folder of its sockets.
        self._make_folder()
        stored = self._store.get(KEY)
        if stored is None:
            raise AccountsError(f"{KEY}: not there; {self._kept()}; add an account with: ./inv user add NAME")
        try:
            accounts = Accounts.from_bytes(stored.data)
        except AccountsError as error:
            raise type(error)(f"{error}; {self._kept()}") from error
        if not accounts.users:
            # Nobody removes their last account on purpose, and it would lock everybody out.
            raise AccountsError(f"{KEY}: holds no account; {self._kept()}")
        old = password_file.read(self._path)
        if password_file.save(self._path, accounts):
            self._ending |= dict.fromkeys(password_file.revoked(old, accounts), 2)
            self._log.info("accounts changed", users=len(accounts.users), file=str(self._path))

    def _end(self) -> None:
        for user in sorted(self._ending):
            self._end_sessions(user)
            self._ending[user] -= 1
            if not self._ending[user]:
                del self._ending[user]

    def _kept(self) -> str:
        return (
            "logins go on with the accounts of before" if self._path.is_file() else "nobody can log in here"
        )

    def _make_folder(self) -> None:
        folder = self._path.parent
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise durable_file.NotWritten(
                f"{folder}: cannot be made: {error.strerror}; mount the volume of the mailboxes"
            ) from error
