"""The syncer with nothing made durable, to compare with tools that make nothing durable. Never for mail."""

import os

from twinmail.durable_file import FileSystem
from twinmail.sync.__main__ import run


def _nothing(*_: object) -> None:
    pass


if __name__ == "__main__":
    os.fsync = _nothing  # type: ignore[assignment]
    os.fdatasync = _nothing  # type: ignore[assignment]
    FileSystem.flush = _nothing  # type: ignore[assignment, method-assign]
    run()
