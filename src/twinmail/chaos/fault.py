"""What a fault is: trouble that begins, ends, and can tell that it really happened."""

from typing import Protocol


class Fault(Protocol):
    """One kind of trouble.

    Attributes:
        name: in the code's own terms, as it is asked for and counted (``syncer-killed-primary``).
        happened: how often it took effect so far: requests that met it, processes that died of it.
    """

    @property
    def name(self) -> str: ...

    @property
    def happened(self) -> int: ...

    def begin(self) -> None:
        """Let it happen.

        Raises:
            TwinmailError: it could not be brought about; `end` is called all the same.
        """

    def end(self) -> None:
        """Heal it; a second time does nothing.

        Raises:
            TwinmailError: it could not be healed.
        """
