"""``python3 -m twinmail.server_volume FOLDER``: makes a new mail volume ready, before anything else uses it.

Dovecot listens in a folder of the volume, for the syncer's container, and can only if the folder is there. It
runs in the syncer's image, as the user of everything; on a volume that is in use it changes nothing.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from twinmail.errors import PermanentError

FOLDER = ".server"
"""Of a mail volume: what belongs to the server and to no mailbox."""


class NotPrepared(PermanentError):
    """The volume is not this user's to write to."""


def prepare(volume: Path) -> None:
    """Make what a server needs in *volume*, which only its user may look into.

    Raises:
        NotPrepared: no such folder, or somebody else's, or read-only.
    """
    folder = volume / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise NotPrepared(
            f"{folder}: {error.strerror}; user {os.geteuid()} must own the volume (chown "
            f"{os.geteuid()}:{os.getegid()} {volume})"
        ) from error
    if owner != os.geteuid():
        raise NotPrepared(
            f"{folder}: expected it to belong to user {os.geteuid()}, it is user {owner}'s; "
            f"chown -R {os.geteuid()}:{os.getegid()} {volume}"
        )


def main(arguments: Sequence[str]) -> int:
    """Prepare each volume of the command line; the exit code."""
    if not arguments or any(one.startswith("-") for one in arguments):
        print("usage: python3 -m twinmail.server_volume FOLDER …", file=sys.stderr)
        return 2
    try:
        for one in arguments:
            prepare(Path(one))
    except NotPrepared as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
