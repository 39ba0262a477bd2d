"""The parts of production, one after another: what each would change, and the changes up to a failure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twinmail.deploy.server_files import NoSecrets
from twinmail.errors import TwinmailError

Say = Callable[[str], None]


class Plan(Protocol):
    """What a part would change."""

    def lines(self) -> tuple[str, ...]:
        """One line a change; none if everything is as it should be."""


class Part(Protocol):
    """What can be deployed by itself."""

    @property
    def name(self) -> str:
        """For messages."""

    def plan(self, keep: bool = False) -> Any:
        """A `Plan`; with *keep* for `apply`, else nothing of it is left anywhere."""

    def apply(self, plan: Any, say: Say) -> None:
        """Do what *plan* says."""


class Stopped(TwinmailError):
    """A part failed; those after it were not tried."""


@dataclass(frozen=True)
class Outlook:
    """What a part would change, as far as can be seen now.

    Attributes:
        lines: one a change.
        blocked: why more cannot be seen before an earlier part is deployed.
    """

    part: str
    lines: tuple[str, ...]
    blocked: str = ""

    def __bool__(self) -> bool:
        return bool(self.lines or self.blocked)


def outlook(parts: Sequence[Part]) -> Iterator[Outlook]:
    """What each of *parts* would change; nothing is changed.

    Raises:
        TwinmailError: see `Part.plan`.
    """
    earlier = False
    for part in parts:
        try:
            found = Outlook(part.name, part.plan().lines())
        except NoSecrets as error:
            if not earlier:
                raise
            found = Outlook(part.name, (), str(error))
        earlier = earlier or bool(found)
        yield found


def deploy(parts: Sequence[Part], say: Say) -> tuple[str, ...]:
    """Bring each of *parts* to what it should be; return the names of those that changed.

    Raises:
        Stopped: one failed; it says what to do, and the same again goes on with it.
    """
    changed = []
    for number, part in enumerate(parts):
        say(part.name)
        try:
            found = part.plan(keep=True)
            if lines := found.lines():
                # As it is now: an earlier part may have changed what was shown before.
                for line in lines:
                    say(f"  {line}")
                part.apply(found, say)
                changed.append(part.name)
        except TwinmailError as error:
            rest = ", ".join(one.name for one in parts[number + 1 :])
            untried = f"\nnot tried yet: {rest}" if rest else ""
            raise Stopped(
                f"{part.name}: {error}{untried}\nonce that is put right, the same command goes on from here"
            ) from error
    return tuple(changed)
