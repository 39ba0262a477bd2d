"""The folder in which servers find their certificate: ``cert.pem`` and ``key.pem``, changed both at once.

The two are links into ``current``, itself a link to the folder of one pair. One rename changes where it
leads, so whatever is killed when, servers find two files that belong together::

    cert.pem -> current/cert.pem        current -> pairs/3f0c…/
"""

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path

from twinmail import durable_file
from twinmail.certificate import pair
from twinmail.certificate.pair import Pair
from twinmail.certificate.place import CERTIFICATE, KEY
from twinmail.certificate.validity import Unreadable
from twinmail.durable_file import NotWritten

_CURRENT = "current"
_PAIRS = "pairs"


def installed(folder: Path) -> Pair | None:
    """What servers find in *folder*; None if that is nothing that they could use."""
    try:
        return pair.load((folder / CERTIFICATE).read_bytes(), (folder / KEY).read_bytes())
    except (OSError, Unreadable):
        return None


def install(folder: Path, found: Pair) -> None:
    """Let servers find *found* in *folder* from now on.

    Raises:
        NotWritten: transient; they find what was there before.
    """
    name = hashlib.sha256(found.chain + found.key).hexdigest()[:16]
    place = folder / _PAIRS / name
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable_file.write(place / KEY, found.key, mode=0o600)
        durable_file.write(place / CERTIFICATE, found.chain, mode=0o600)
        durable_file.sync_folder(place.parent)
        # Durable before anything leads there.
        _link(folder / _CURRENT, f"{_PAIRS}/{name}")
        for one in (CERTIFICATE, KEY):
            _link(folder / one, f"{_CURRENT}/{one}")
        durable_file.sync_folder(folder)
    except OSError as error:
        raise NotWritten(
            f"{folder}: no certificate can be installed: {error.strerror}; free space or mend its mode"
        ) from error
    for other in place.parent.iterdir():
        if other.name != name:
            # An old private key is of no use to anybody but a thief.
            shutil.rmtree(other, ignore_errors=True)


def _link(path: Path, target: str) -> None:
    """Let *path* lead to *target*, in place of whatever is there."""
    with suppress(OSError):
        if path.readlink() == Path(target):
            return
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)
