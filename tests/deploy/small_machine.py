"""Containers that share one piece of memory, as on a small machine: what they take, and whether it was enough."""

import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

MB = 1 << 20
_ROOTS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
_SECONDS = 0.1
_UNITS = Path("/run/systemd/system")


class SmallMachine:
    """A control group with a limit that all its containers share, page cache and kernel memory included.

    The page cache gives way before anybody is killed, so `peak` says what cannot: anonymous memory, and the
    kernel's own.

    Args:
        name: letters and digits.
        megabytes: the limit, MiB; swap is not there.
        driver: Docker's: ``cgroupfs`` takes any group, ``systemd`` a slice of its own (dockerd(8)).

    Attributes:
        name: for Docker's ``cgroup_parent``.
        peak: octets that cannot give way, at most, of all and by container.
    """

    def __init__(self, name: str, megabytes: int, driver: str) -> None:
        self._slice = driver == "systemd"
        self.name = f"{name}.slice" if self._slice else f"/{name}"
        self.limit = megabytes * MB
        self.peak: dict[str, int] = {}
        self._root = next(one for one in _ROOTS if (one / "cgroup.procs").exists())
        self._old = self._root.name == "memory"
        self._folder = self._root / self.name.lstrip("/")
        self._names: dict[str, str] = {}
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "SmallMachine":
        if self._slice:
            text = f"[Slice]\nMemoryAccounting=yes\nMemoryMax={self.limit}\nMemorySwapMax=0\n"
            (_UNITS / self.name).write_text(text)
            _systemctl("daemon-reload")
            _systemctl("start", self.name)
        else:
            self._folder.mkdir()
        # systemd has done it too, where it knows how.
        if self._old:
            (self._folder / "memory.limit_in_bytes").write_text(str(self.limit))
            (self._folder / "memory.swappiness").write_text("0")
        else:
            (self._folder / "memory.max").write_text(str(self.limit))
            (self._folder / "memory.swap.max").write_text("0")
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._watcher.join()
        if self._slice:
            _systemctl("stop", self.name)
            (_UNITS / self.name).unlink()
            _systemctl("daemon-reload")
            return
        deadline = time.monotonic() + 30
        while True:
            try:
                self._folder.rmdir()
                return
            except OSError:
                # The engine takes its own away a moment after the container has ended.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def named(self, identity: str, name: str) -> None:
        """The container with the engine's id *identity* is *name*."""
        self._names[identity] = name

    @property
    def killed(self) -> int:
        """Processes that were killed because the memory was not enough."""
        names = ("memory.oom_control", "memory.events")
        files = [one for name in names for one in self._folder.rglob(name)]
        return sum(_fields(one).get("oom_kill", 0) for one in files)

    def _watch(self) -> None:
        while not self._stopping.wait(_SECONDS):
            for name, octets in self._taken().items():
                self.peak[name] = max(self.peak.get(name, 0), octets)

    def _taken(self) -> Mapping[str, int]:
        found = {"all": _fixed(self._folder, self._old)}
        for identity, name in list(self._names.items()):
            folder = f"docker-{identity}.scope" if self._slice else identity
            found[name] = _fixed(self._folder / folder, self._old)
        return found


def _systemctl(*words: str) -> None:
    subprocess.run(["systemctl", *words], check=True, capture_output=True)


def _fixed(folder: Path, old: bool) -> int:
    """Octets in *folder* that cannot give way: anonymous and the kernel's (the latter as far as it is told)."""
    try:
        fields = _fields(folder / "memory.stat")
        if old:
            return fields.get("total_rss", 0) + int((folder / "memory.kmem.usage_in_bytes").read_text())
        return fields.get("anon", 0) + fields.get("kernel", 0)
    except (OSError, ValueError):
        return 0


def _fields(path: Path) -> dict[str, int]:
    try:
        lines = (line.split() for line in path.read_text().splitlines())
        return {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit()}
    except OSError:
        return {}
