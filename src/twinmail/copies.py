"""Several copies of one message in one mailbox: all of them or none, whatever happens in between.

A message counts as delivered once a file with its base name is in any folder, so a crash between two copies
would leave one. Before the first copy of several, a note beside the Maildir says where all of them go; it is
removed when the ledger has the message. Copies are made in the note's order.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from twinmail import durable_file
from twinmail.durable_file import NotWritten
from twinmail.maildir import Maildir, stem

FOLDER = "copies"


@dataclass(frozen=True)
class Target:
    """One copy: its folder, and what its name there ends with (`Maildir.info`)."""

    folder: str
    info: str


@dataclass(frozen=True)
class Note:
    """Where the message *name* (a base name) goes."""

    name: str
    targets: tuple[Target, ...]


def begin(maildir: Maildir, note: Note) -> None:
    """Write *note* durably.

    Raises:
        NotWritten: transient.
    """
    folder = maildir.root.parent / FOLDER
    try:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            durable_file.sync_folder(folder.parent)
    except OSError as error:
        raise NotWritten(f"{folder}: {error.strerror}; free space or mend its mode") from error
    document = {"name": note.name, "targets": [[one.folder, one.info] for one in note.targets]}
    durable_file.write(_path(maildir, note.name), json.dumps(document).encode(), mode=0o600)


def end(maildir: Maildir, name: str) -> None:
    """Forget the note about *name*; one that stays is found finished at the next start."""
    with suppress(OSError):
        _path(maildir, name).unlink()


def is_noted(maildir: Maildir, name: str) -> bool:
    """Whether there is a note about the message with the base name *name*."""
    return _path(maildir, name).exists()


def complete(maildir: Maildir, name: str = "*", recorded: Callable[[str], bool] = lambda name: False) -> int:
    """Make the copies that a killed process, or a disk that failed, left out, and count them.

    Where no copy was made yet, nothing is done: the message is delivered from the start.

    Args:
        name: only of the message with this base name.
        recorded: whether the ledger has the message with a base name: then all copies were made, and what is
            missing was taken away by its user.

    Raises:
        NotWritten: transient.
    """
    made = 0
    for path in sorted((maildir.root.parent / FOLDER).glob(f"{stem(name)}.json")):
        note = _read(path)
        if note is not None and not recorded(note.name):
            made += _complete(maildir, note)
        with suppress(OSError):
            path.unlink()
    return made


def _complete(maildir: Maildir, note: Note) -> int:
    found = _find(maildir, note.name)
    if not found:
        return 0
    places = [maildir.folder(one.folder) for one in note.targets]
    there = [place in found for place in places]
    # They are made in order. So all up to the last one that is there were made, and as many as there are
    # altogether, since its user may have moved one meanwhile; what is missing of those is not wanted.
    made = max([number + 1 for number, one in enumerate(there) if one] + [len(found)])
    missing = [one for one, here in zip(note.targets[made:], there[made:], strict=True) if not here]
    source = next(iter(found.values()))
    for one in missing:
        maildir.link_file(source, one.folder, note.name, one.info)
        maildir.settle(one.folder, one.info)
    return len(missing)


def _find(maildir: Maildir, name: str) -> dict[Path, Path]:
    """The copies of the message *name* by the folder that they are in."""
    return {
        path.parent.parent: path
        for path in maildir.root.rglob(f"{name}*")
        if path.parent.name in ("new", "cur") and path.name.partition(":")[0] == name
    }


def _read(path: Path) -> Note | None:
    try:
        document = json.loads(path.read_bytes())
        return Note(document["name"], tuple(Target(*one) for one in document["targets"]))
    except (OSError, ValueError, TypeError, KeyError):
        # Written whole or not at all, so only a failing disk makes it so; then the copy that is there counts.
        return None


def _path(maildir: Maildir, name: str) -> Path:
    return maildir.root.parent / FOLDER / f"{stem(name)}.json"
