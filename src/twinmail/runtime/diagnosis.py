"""Why this machine does not let us make namespaces, and the ways out, in words."""

from collections.abc import Mapping
from pathlib import Path

APPARMOR = "kernel.apparmor_restrict_unprivileged_userns"  # Ubuntu 24.04 and later
CLONE = "kernel.unprivileged_userns_clone"  # Debian's own switch
LIMIT = "user.max_user_namespaces"
DOCKER = "use Docker: apt-get install docker.io, join the group docker, and pass --runtime docker"


def read_settings() -> dict[str, int]:
    """The kernel settings that matter, as far as this kernel has them."""
    settings = {}
    for name in (APPARMOR, CLONE, LIMIT):
        try:
            settings[name] = int(Path("/proc/sys", *name.split(".")).read_text())
        except (OSError, ValueError):
            continue
    return settings


def explain(reason: str, settings: Mapping[str, int], is_root: bool) -> str:
    """The text for the user: what failed, and each way out on a line."""
    if is_root:
        return "\n".join((
            f"cannot make containers in namespaces: {reason}. This is root, but without the capabilities "
            "of root; ways out:",
            "  - if this is a container itself: start it with --privileged",
            f"  - {DOCKER}",
        ))  # fmt: skip
    ways = ["run this as root"]
    if settings.get(APPARMOR) == 1:
        ways.append(f"let users make namespaces: sudo sysctl -w {APPARMOR}=0  (it is 1)")
    if settings.get(CLONE) == 0:
        ways.append(f"let users make namespaces: sudo sysctl -w {CLONE}=1  (it is 0)")
    if settings.get(LIMIT) == 0:
        ways.append(f"let users make namespaces: sudo sysctl -w {LIMIT}=10000  (it is 0)")
    if len(ways) == 1:
        ways.append("if this is a container itself: start it with --privileged")
    ways.append(DOCKER)
    head = f"cannot make containers in namespaces without root: {reason}; ways out:"
    return "\n".join((head, *(f"  - {way}" for way in ways)))
