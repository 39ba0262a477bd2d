"""A real registry on a loopback port of its own, with its data in a folder."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twinmail.local.state import LOOPBACK
from twinmail.rehearsal import child
from twinmail.rehearsal.child import ProgramFailed

_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
_SECONDS = 30.0


@contextmanager
def run_registry(binary: Path, folder: Path) -> Iterator[int]:
    """The port of a registry that keeps its data in *folder*, which is made.

    Raises:
        ProgramFailed: it does not listen.
    """
    folder.mkdir(parents=True)
    configuration: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"{LOOPBACK}:0"},
    }
    # YAML takes JSON.
    (folder / "config.yml").write_text(json.dumps(configuration))
    log = folder / "registry.log"
    process = child.start([binary, "serve", folder / "config.yml"], log)
    try:
        deadline = time.monotonic() + _SECONDS
        while not (found := _LISTENING.search(text := log.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ProgramFailed(f"{binary.name} does not listen: {text[-2000:].strip()}")
            time.sleep(0.02)
        yield int(found[1])
    finally:
        child.end(process)
