"""The place of the accounts in memory, behind the production interface, with other writers to order."""

import threading
from collections.abc import Callable

from twinmail.account_store import AccountsChanged, Version
from twinmail.accounts import Accounts


class AccountStoreSimulator:
    """An `AccountStore` in memory.

    Attributes:
        data: the document; None if there is none.
        meanwhile: called once before the next write, after its version was read.
        writes: how many were made.
    """

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.meanwhile: Callable[[], None] | None = None
        self.writes = 0
        self._lock = threading.Lock()

    def read(self) -> Version:
        with self._lock:
            if self.data is None:
                return Version(Accounts(), None)
            return Version(Accounts.from_bytes(self.data), str(self.writes))

    def write(self, accounts: Accounts, etag: str | None) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        with self._lock:
            if etag != (None if self.data is None else str(self.writes)):
                raise AccountsChanged("somebody else wrote first")
            self.data = accounts.to_bytes()
            self.writes += 1
