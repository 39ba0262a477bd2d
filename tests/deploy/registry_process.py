"""A real registry (Debian's docker-registry) on a loopback port of its own, with its data in a folder."""

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
_REQUEST = re.compile(r'"([A-Z]+) (/v2/\S*) HTTP/1\.1" (\d{3})')
_SECONDS = 30.0


@dataclass
class RegistryProcess:
    """The running registry.

    Attributes:
        port: on 127.0.0.1.
        log: what it writes.
    """

    port: int
    log: Path

    @property
    def host(self) -> str:
        """What images there are called by."""
        return f"127.0.0.1:{self.port}"

    def requests(self, since: int = 0) -> list[tuple[str, str, int]]:
        """Method, path and status of each request after the first *since* octets of the log."""
        text = self.log.read_bytes()[since:].decode()
        return [(method, path, int(status)) for method, path, status in _REQUEST.findall(text)]

    def mark(self) -> int:
        """Where the log ends now."""
        return self.log.stat().st_size


@contextmanager
def run_registry(
    binary: Path, folder: Path, auth: Mapping[str, Any] | None = None, tls: Mapping[str, Any] | None = None
) -> Iterator[RegistryProcess]:
    """A registry with its data in *folder*; *auth* and *tls* as its configuration has them."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": "127.0.0.1:0", **({"tls": tls} if tls else {})},
        **({"auth": auth} if auth else {}),
    }
    # YAML takes JSON.
    (folder / "config.yml").write_text(json.dumps(configuration))
    log = folder / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [binary, "serve", folder / "config.yml"], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + _SECONDS
        while not (found := _LISTENING.search(log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield RegistryProcess(int(found[1]), log)
    finally:
        process.terminate()
        process.wait(_SECONDS)
