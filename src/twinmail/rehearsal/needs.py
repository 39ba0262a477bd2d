"""What a machine must have for a rehearsal; nothing is started before all of it is there."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from twinmail.errors import PermanentError
from twinmail.rehearsal.ssh_host import SSHD, SSHD_FOLDER
from twinmail.runtime.docker import DockerRuntime
from twinmail.runtime.interface import RuntimeUnavailable

PRIMARY = "primary"
"""The part that podman plays, and that can be left out."""
PARTS = (PRIMARY,)


class CannotRehearse(PermanentError):
    """The machine lacks something; the text names all of it, each with the remedy."""


def check(without: Sequence[str], engine: Callable[[], None] | None = None) -> None:
    """See that this machine can rehearse all parts but *without*.

    Args:
        engine: raises `RuntimeUnavailable` if no Docker engine answers; asks Docker by default.

    Raises:
        CannotRehearse: see there.
    """
    if lacking := tuple(missing(without, engine or _engine)):
        lines = "\n".join(f"  {one}" for one in lacking)
        raise CannotRehearse(f"this machine cannot rehearse:\n{lines}")


def missing(
    without: Sequence[str],
    engine: Callable[[], None],
    which: Callable[[str], str | None] = shutil.which,
    is_root: bool | None = None,
    exists: Callable[[Path], bool] = Path.exists,
) -> list[str]:
    """What is not there, a line each with the remedy."""
    lines = []
    if not (os.geteuid() == 0 if is_root is None else is_root):
        lines.append("not root: it plays machines that root looks after; run it as root: sudo ./inv rehearse")
    try:
        engine()
    except RuntimeUnavailable as error:
        lines.append(f"no Docker engine for the backup: {str(error).splitlines()[0]}; run: sh .ci/docker")
    if which("docker") is None:
        lines.append("no docker command; run: sh .ci/docker")
    if which("ssh") is None or which("ssh-keygen") is None:
        lines.append("no ssh; install it: apt-get install openssh-client")
    if not exists(SSHD) or not exists(SSHD_FOLDER):
        lines.append("no sshd for the backup's machine; run: sh .ci/sshd")
    if PRIMARY not in without and any(which(one) is None for one in ("podman", "catatonit", "runc")):
        lines.append(
            "no podman for the primary's pod; run: sh .ci/podman, or leave that out: --without primary"
        )
    return lines


def _engine() -> None:
    DockerRuntime(Path("/nonexistent"))
