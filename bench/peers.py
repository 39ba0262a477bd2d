"""The tools to be compared with, installed for the occasion into a folder of their own."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from twinmail.errors import TransientError


class NoPeer(TransientError):
    """A tool could not be installed."""


def install(folder: Path, packages: Sequence[str]) -> Path:
    """Install *packages* from where pip looks, and return the folder of their programs.

    Raises:
        NoPeer: transient.
    """
    if not (folder / "bin" / "pip").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run([*pip, *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoPeer(f"{' '.join(packages)}: cannot be installed: {done.stderr.strip()[-500:]}")
    return folder / "bin"
