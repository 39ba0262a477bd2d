"""The file system of a new Debian 12 machine, and programs that run in it as root: no machine, and no systemd.

The kernel is this machine's, so what would change it is put out of the way: the settings that the first boot writes
are ordinary files there, and swap is written down, not switched on.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RELEASE = "bookworm"
_SETTINGS = ("net/ipv4/ip_unprivileged_port_start", "vm/swappiness")
_ENTER = """\
set -eu
cd {root}
mount --make-rprivate /
mount -t proc proc proc
mount -t tmpfs run run
mount --bind {archives} var/cache/apt/archives
for one in {settings}; do mount --bind "kernel/$one" "proc/sys/$one"; done
exec chroot . /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
"""
# What asks before it starts its service: there is nobody who could (invoke-rc.d(8)).
_NO_SERVICES = "#!/bin/sh\nexit 101\n"
_RECORDER = '#!/bin/sh\necho "${0##*/} $*" >>/recorded\n'


def missing() -> str:
    """What this machine lacks for it; empty if nothing."""
    if os.geteuid() == 0 and shutil.which("mmdebstrap"):
        return ""
    return "needs mmdebstrap, and root for it: sh .ci/mmdebstrap"


@dataclass(frozen=True)
class DebianRoot:
    """The folder `path` is the root."""

    path: Path
    archives: Path

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """What *command* says and ends with, run inside."""
        script = _ENTER.format(root=self.path, archives=self.archives, settings=" ".join(_SETTINGS))
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "enter"]
        return subprocess.run([*unshare, *command], capture_output=True, text=True, timeout=300, check=False)

    def setting(self, name: str) -> str:
        """What is written in the kernel's setting *name*."""
        return (self.path / "kernel" / name).read_text().strip()

    def stand_in(self, name: str, text: str = _RECORDER) -> Path:
        """Put a program before the one that is called *name* there."""
        place = self.path / "usr/local/sbin" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(0o755)
        return place

    @property
    def recorded(self) -> list[str]:
        """What stand-ins were told."""
        file = self.path / "recorded"
        return file.read_text().splitlines() if file.exists() else []


@contextmanager
def debian_root(folder: Path, cache: Path) -> Iterator[DebianRoot]:
    """A new one in *folder*; what is downloaded stays in *cache* for the next time."""
    archives = cache / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    packed = cache / f"{RELEASE}.tar"
    with (cache / "lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not packed.exists():
            _pack(packed)
        root = folder / RELEASE
        root.mkdir()
        try:
            subprocess.run(["tar", "-x", "-f", packed, "-C", root], check=True)
            found = DebianRoot(root, archives)
            _settle(found)
            yield found
        finally:
            # A gigabyte of swap is in it.
            shutil.rmtree(root)


def _pack(packed: Path) -> None:
    # What a machine at Lightsail has and the smallest Debian has not, as far as the first boot knows of it.
    have = "--include=ca-certificates,init-system-helpers,procps"
    partial = packed.with_suffix(".new.tar")
    made = ["mmdebstrap", "--quiet", "--variant=minbase", have, RELEASE, partial]
    done = subprocess.run(made, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    partial.rename(packed)


def _settle(root: DebianRoot) -> None:
    for name in _SETTINGS:
        place = root.path / "kernel" / name
        place.parent.mkdir(parents=True)
        place.write_text("")
    shutil.copyfile("/etc/resolv.conf", root.path / "etc/resolv.conf")
    # How this machine gets at packages: proxies, and what it thinks of dates.
    told = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    ours = "".join(f"{line}\n" for line in told.splitlines() if line.startswith("Acquire::"))
    (root.path / "etc/apt/apt.conf.d/99machine").write_text(ours)
    policy = root.path / "usr/sbin/policy-rc.d"
    policy.write_text(_NO_SERVICES)
    policy.chmod(0o755)
    root.stand_in("swapon")
