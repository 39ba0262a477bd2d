"""Running programs of the other platform: qemu's user emulation, registered with the kernel.

Registered with the flag F, the kernel opens the interpreter once, so it works inside containers that do not
have it (Documentation/admin-guide/binfmt-misc.rst).
"""

import os
import platform as machine
import shutil
from pathlib import Path

from twinmail.runtime import syscalls
from twinmail.runtime.interface import RuntimeUnavailable

PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}
REGISTRY = Path("/proc/sys/fs/binfmt_misc")
# Debian 13 calls the packages' program qemu-<cpu>, earlier ones qemu-<cpu>-static; both are static.
INTERPRETERS = {
    "linux/amd64": ("qemu-x86_64-static", "qemu-x86_64"),
    "linux/arm64": ("qemu-aarch64-static", "qemu-aarch64"),
}
_ELF_MACHINE = {"linux/amd64": 62, "linux/arm64": 183}


def host_platform() -> str:
    """The platform of this machine.

    Raises:
        RuntimeUnavailable: there are no images for it.
    """
    name = machine.machine()
    if name not in PLATFORMS:
        raise RuntimeUnavailable(
            f"images exist for {' and '.join(PLATFORMS.values())}, but this machine is {name}"
        )
    return PLATFORMS[name]


def ensure(platform: str) -> None:
    """Make sure that programs of *platform* run here, in containers too; registers qemu if we are root.

    Raises:
        RuntimeUnavailable: they do not; the text says what to install.
    """
    if platform == host_platform():
        return
    name = INTERPRETERS[platform][-1]
    if _registered(name):
        return
    interpreter = next(filter(None, map(shutil.which, INTERPRETERS[platform])), None)
    install = "apt-get install qemu-user-static binfmt-support"
    if interpreter is None:
        raise RuntimeUnavailable(
            f"programs for {platform} do not run on this machine ({host_platform()}): "
            f"no emulator is registered or installed; as root: {install}"
        )
    if os.geteuid() != 0:
        raise RuntimeUnavailable(
            f"programs for {platform} do not run on this machine ({host_platform()}): {interpreter} is not "
            f"registered with the kernel with the flag F, and that needs root: {install}, or run this as root"
        )
    try:
        if not (REGISTRY / "register").exists():
            syscalls.mount("binfmt_misc", str(REGISTRY), "binfmt_misc", 0)
        if _registered(name):
            return
        if (REGISTRY / name).exists():  # without F: of no use inside containers
            (REGISTRY / name).write_text("-1")
        (REGISTRY / "register").write_bytes(_rule(name, platform, interpreter))
    except OSError as error:
        raise RuntimeUnavailable(
            f"cannot register {interpreter} for {platform} with the kernel: {error.strerror} "
            f"({REGISTRY}); its module is binfmt_misc: modprobe binfmt_misc"
        ) from error


def _registered(name: str) -> bool:
    """Whether the kernel has an enabled rule *name* that works in any mount namespace."""
    try:
        lines = (REGISTRY / name).read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].strip() for line in lines if line.startswith("flags")), "")
    return "enabled" in lines and "F" in flags


def _rule(name: str, platform: str, interpreter: str) -> bytes:
    """The line for ``register``: 64-bit little-endian ELF, executable or shared, for the platform's CPU."""
    magic = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + _ELF_MACHINE[platform].to_bytes(2, "little")
    # Any OS ABI (octet 7), and ET_EXEC as well as ET_DYN (octet 16 without its lowest bit).
    mask = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff\xff\xff"
    text = "".join(f"\\x{octet:02x}" for octet in magic), "".join(f"\\x{octet:02x}" for octet in mask)
    return f":{name}:M::{text[0]}:{text[1]}:{interpreter}:F".encode()
