"""Programs that deployments and their tests start on this machine, from locked Debian packages.

What they are is declared and locked like an image (``tests/tools/``), so every machine runs the same
versions and none has to be prepared: a program is fetched and unpacked when it is first asked for.
"""

import fcntl
from collections.abc import Mapping
from pathlib import Path

from twinmail.errors import PermanentError
from twinmail.oci.bytecode import host_platform
from twinmail.oci.cache import PLACE, Cache
from twinmail.oci.fetch import Progress, Silent, fetch_all
from twinmail.oci.locking import check
from twinmail.oci.mirrors import Mirrors
from twinmail.oci.spec import FILE, ImageSpec
from twinmail.oci.unpacked import unpacked

NAME = "tools"
DECLARATION = Path("tests") / NAME / FILE
"""The declaration, from the top of the checkout."""

_UNPACKED = Path("cache") / NAME

# Package and place of each program.
_PROGRAMS: Mapping[str, tuple[str, str]] = {
    "kubectl": ("kubectl", "usr/bin/kubectl"),
    "kustomize": ("kustomize", "usr/bin/kustomize"),
    "docker-compose": ("docker-compose", "usr/libexec/docker/cli-plugins/docker-compose"),
    "docker-registry": ("docker-registry", "usr/bin/docker-registry"),
    "pebble": ("pebble", "usr/bin/pebble"),
}


def tool(name: str, root: Path, override: str | None = None, progress: Progress | None = None) -> Path:
    """The path of the program *name*, fetched and unpacked if need be.

    Args:
        name: ``kubectl``, ``kustomize``, ``docker-compose`` (also works as a plugin of the docker command),
            ``docker-registry`` or ``pebble`` (an ACME server for tests).
        root: the checkout.
        override: `Environment.debian_mirror`.

    Raises:
        PermanentError: there is no such program, or its package is damaged or gone (see `fetch_all`).
        TransientError: no mirror can be reached.
    """
    if name not in _PROGRAMS:
        raise PermanentError(f"no tool {name!r}; known: {', '.join(_PROGRAMS)}")
    package, place = _PROGRAMS[name]
    lock = check({NAME: ImageSpec.load(root / DECLARATION)}, NAME)
    item = next(one for one in lock.platforms[host_platform()].packages if one.name == package)
    state = root / ".twinmail"
    mirrors = Mirrors.of_machine(root, override).at(lock.snapshot)
    folder = state / _UNPACKED
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as guard:
        # Processes that ask at the same time would each download it.
        fcntl.flock(guard, fcntl.LOCK_EX)
        # A newer version may stand in for one that the mirrors dropped: no digest depends on these programs.
        found = fetch_all([item], Cache(state / PLACE), mirrors, progress or Silent(), strict=False)
        return unpacked([found[item.sha256]], folder) / place
