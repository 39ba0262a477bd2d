"""What the importer reads from: one interface for another server, files and archives."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from twinmail.errors import PermanentError, TransientError


class SourceBroken(PermanentError):
    """The source is not there, cannot be read, or is nothing that can be imported."""


class SourceAway(TransientError):
    """The source ended the conversation; what was imported stays, and the next run goes on."""


@dataclass(frozen=True)
class Folder:
    """A folder of a source.

    Attributes:
        levels: its name there, outermost first; empty for messages that are in none.
        role: its special use (RFC 6154) in lower case, such as ``sent``; empty if the source says none.
        messages: how many there are; None if that is known only after reading.
        octets: of all of them; None as above.
        key: what only the source understands.
    """

    levels: tuple[str, ...]
    role: str = ""
    messages: int | None = None
    octets: int | None = None
    key: str = ""

    def __str__(self) -> str:
        return "/".join(self.levels) or "(no folder)"


@dataclass(frozen=True)
class Mail:
    """A message of a source.

    Attributes:
        place: where it was found, for people.
        message: all octets; lines may end in any way.
        arrived: when the older account got it, aware.
        flags: some of `twinmail.manifest.FLAGS`.
        keywords: as the source has them; not all must be possible here.
        mark: what the source knows it by; empty if it must be read to be known.
    """

    place: str
    message: bytes = field(repr=False)
    arrived: datetime
    flags: frozenset[str] = frozenset()
    keywords: frozenset[str] = frozenset()
    mark: str = ""


@dataclass(frozen=True)
class Passed:
    """A message that is left where it is: its mark is known, or (without a *mark*) it is deleted there."""

    place: str
    mark: str = ""


@dataclass(frozen=True)
class Trouble:
    """Something that should be a message and cannot be imported."""

    place: str
    reason: str


Item = Mail | Passed | Trouble

Known = Callable[[Folder, str], bool]
"""Whether the message of a mark in a folder need not be read again."""


class Source(Protocol):
    """An older account.

    Attributes:
        name: for people, and for what is remembered of it: the same account has the same name.
    """

    name: str

    def folders(self) -> Sequence[Folder]:
        """All folders, in their order there.

        Raises:
            SourceBroken, SourceAway.
        """

    def read(self, folder: Folder, known: Known) -> Iterator[Item]:
        """The messages of *folder*, one after the other; at most a few are in memory.

        Raises:
            SourceBroken, SourceAway.
        """

    def survey(self, folder: Folder) -> Sequence[tuple[str, int]] | None:
        """Mark and octets of each message of *folder* that is not deleted; None where reading is as cheap.

        Raises:
            SourceBroken, SourceAway.
        """
