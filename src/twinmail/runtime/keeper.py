"""The process between the supervisor and one namespaced container, and the way into the container.

The supervisor writes the plan, one line of JSON, to the keeper's standard input, and later the numbers of
signals for the container, a line each. The end of that input means that the supervisor is gone, and ends
the container: a pipe tells it, since the kernel's parent-death signal is about the thread that started a
process, and threads come and go. If the keeper dies, the kernel kills the container's first process, and
with it the whole process namespace. The keeper's exit status is the container's.

Everything is imported before the root changes: afterwards this machine's files are out of reach.
"""

import json
import os
import select
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from twinmail.runtime import syscalls
from twinmail.runtime.interface import GID, UID

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "fd/0",
    "stdout": "fd/1",
    "stderr": "fd/2",
    "ptmx": "pts/ptmx",
}
PRIVATE = syscalls.MS_NOSUID | syscalls.MS_NODEV
SETUP_FAILED = 70  # EX_SOFTWARE; only ever seen together with a report


@dataclass(frozen=True)
class Plan:
    """What the keeper is to do; plain data.

    Attributes:
        privileged: whether this is real root; else a user namespace maps the caller to uid 1000.
        layers: folder of the unpacked layers.
        lower: names of the layers in it, the highest first.
        scratch: an empty folder, to be hidden by mounts nobody else sees.
        mounts: source, target and whether read-only, in order.
        join: process to join instead of starting a container; its parent; or None.
    """

    privileged: bool
    argv: tuple[str, ...]
    environment: dict[str, str]
    folder: str
    layers: str = ""
    lower: tuple[str, ...] = ()
    scratch: str = ""
    mounts: tuple[tuple[str, str, bool], ...] = ()
    tmpfs: tuple[str, ...] = ()
    join: tuple[int, int] | None = None
    probe: bool = False

    def to_line(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"


class _Failed(Exception):
    """A step failed: `stage` is ``namespaces`` (this machine does not let us), ``setup`` or ``program``."""

    def __init__(self, stage: str, error: OSError) -> None:
        self.stage = stage
        self.error = error


def main() -> NoReturn:
    """Run as ``… <source folder> <descriptor of the report> <descriptors of locks>…``.

    Standard input is the supervisor's pipe. The locks are only held: open, and closed in the container.
    """
    descriptors = [int(text) for text in sys.argv[2:]]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    report = descriptors[0]
    os.umask(0o022)
    fields: dict[str, Any] = json.loads(_read_line())
    plan = Plan(**fields)
    held, alive = os.pipe()
    try:
        _make_process_namespaces(plan)
        pid = os.fork()
    except OSError as error:
        _report(report, "namespaces", error)
        sys.exit(SETUP_FAILED)
    if pid == 0:
        os.close(alive)
        _first_process(plan, report, held)
    _write(report, {"pid": pid})
    os.close(report)
    sys.exit(_keep(pid))


def _read_line() -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(0, 1)  # to the line's end and no further: what follows are signals
        if not piece:
            sys.exit(SETUP_FAILED)
        line += piece
    return bytes(line)


def _keep(pid: int) -> int:
    """Pass signals on to *pid*, end it with the supervisor, and return its exit status."""
    child = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(child, select.POLLIN)
    poll.register(0, select.POLLIN)
    ended = False
    while not ended:
        for descriptor, _ in poll.poll():
            if descriptor == child:
                ended = True
                continue
            data = os.read(0, 1024)
            if data:
                numbers = [int(number) for number in data.split()]
            else:
                numbers = [signal.SIGKILL]
                poll.unregister(0)
            for number in numbers:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(child, number)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else 128 - status


def _make_process_namespaces(plan: Plan) -> None:
    """Enter, or make, the namespaces that the first process is born into."""
    if plan.join is not None:
        pid, parent = plan.join
        if f"\nPPid:\t{parent}\n" not in Path(f"/proc/{pid}/status").read_text():
            raise ProcessLookupError(f"process {pid} is not the container's any more")
        kinds = {"ipc": syscalls.CLONE_NEWIPC, "uts": syscalls.CLONE_NEWUTS, "pid": syscalls.CLONE_NEWPID}
        if not plan.privileged:
            kinds = {"user": syscalls.CLONE_NEWUSER, **kinds}
        kinds["mnt"] = syscalls.CLONE_NEWNS  # last: it takes this machine's /proc away
        opened = {kind: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds}
        for kind, flag in kinds.items():
            syscalls.setns(opened[kind], flag)
        return
    if plan.privileged:
        syscalls.unshare(syscalls.CLONE_NEWPID)
        return
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWPID)
    # An unprivileged process may map its own ids only, the group's only without setgroups.
    for name, text in (("setgroups", "deny"), ("uid_map", f"{UID} {uid} 1"), ("gid_map", f"{GID} {gid} 1")):
        try:
            Path("/proc/self", name).write_text(text)
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"/proc/self/{name}") from error


def _first_process(plan: Plan, report: int, held: int) -> NoReturn:
    """Become the container's first process, or the program that joins it."""
    try:
        syscalls.die_with_parent()
        if select.select([held], [], [], 0)[0]:
            os._exit(SETUP_FAILED)  # the keeper died before the kernel knew to tell us
        if plan.join is None:
            _enter_image(plan)
        if plan.probe:
            os._exit(0)
        environment = plan.environment
        if "HOME" not in environment:
            environment = {**environment, "HOME": _home()}
        _drop_privileges(plan)
        syscalls.die_with_parent()  # changing the user cleared it
        _become_program(plan, environment)
    except _Failed as failed:
        _report(report, failed.stage, failed.error)
    except OSError as error:
        _report(report, "setup", error)
    os._exit(SETUP_FAILED)


def _enter_image(plan: Plan) -> None:
    """Make the mount namespace and the root file system, and go there."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS)
        # Nothing mounted here shows up on the host, nor the other way round.
        syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        if plan.probe:
            syscalls.mount("proc", "/proc", "proc", PRIVATE)
            return
    except OSError as error:
        raise _Failed("namespaces", error) from error
    devices = {name: syscalls.open_tree(f"/dev/{name}") for name in DEVICES}
    trees = [
        (_source(source, read_only), Path(source).is_dir(), target)
        for source, target, read_only in plan.mounts
    ]
    root = _mount_root(plan)
    try:
        # Before the old root goes: an unprivileged proc needs to see another one.
        syscalls.mount("proc", f"{root}/proc", "proc", PRIVATE | syscalls.MS_NOEXEC)
    except OSError as error:
        raise _Failed("namespaces", error) from error
    os.chdir(root)
    syscalls.pivot_root()
    _mount_devices(devices)
    for target in plan.tmpfs:
        _make_target(Path(target), folder=True)
        syscalls.mount("tmpfs", target, "tmpfs", PRIVATE, f"mode=1777,uid={UID},gid={GID}")
    for tree, folder, target in trees:
        _make_target(Path(target), folder)
        syscalls.move_mount(tree, target)


def _source(source: str, read_only: bool) -> int:
    """A detached copy of the mount at *source*, without devices and set-id programs."""
    tree = syscalls.open_tree(source)
    flags = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
    syscalls.add_mount_flags(tree, flags | (syscalls.MOUNT_ATTR_RDONLY if read_only else 0))
    return tree


def _mount_root(plan: Plan) -> str:
    """Mount the layers, read-only, over a skeleton of empty mount points; return where.

    The skeleton is the lowest layer: what the image has wins, and the layers themselves stay as they are.
    """
    syscalls.mount("tmpfs", plan.scratch, "tmpfs", PRIVATE, "mode=0755,size=4m")
    root = f"{plan.scratch}/root"
    Path(root).mkdir()
    for folder in ("/proc", "/dev", plan.folder, *plan.tmpfs):
        _make_target(Path(f"{plan.scratch}/skeleton{folder}"), folder=True)
    for source, target, _ in plan.mounts:
        _make_target(Path(f"{plan.scratch}/skeleton{target}"), folder=Path(source).is_dir())
    # Relative names and a descriptor keep the option short, and free of characters it would misread.
    scratch = os.open(plan.scratch, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chdir(plan.layers)
    lower = ":".join((*plan.lower, f"/proc/self/fd/{scratch}/skeleton"))
    syscalls.mount("overlay", root, "overlay", PRIVATE | syscalls.MS_RDONLY, f"lowerdir={lower}")
    return root


def _mount_devices(devices: dict[str, int]) -> None:
    """A /dev with what programs expect and nothing that belongs to the machine."""
    syscalls.mount("tmpfs", "/dev", "tmpfs", syscalls.MS_NOSUID, "mode=0755,size=64k")
    for name, tree in devices.items():
        Path("/dev", name).touch()
        syscalls.move_mount(tree, f"/dev/{name}")
    for name, target in DEVICE_LINKS.items():
        Path("/dev", name).symlink_to(target)
    for name in ("shm", "pts"):
        Path("/dev", name).mkdir()
    syscalls.mount("tmpfs", "/dev/shm", "tmpfs", PRIVATE, "mode=1777,size=64m")
    options = "newinstance,ptmxmode=0666,mode=0620"
    syscalls.mount("devpts", "/dev/pts", "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, options)
    opened = os.open("/dev", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    syscalls.add_mount_flags(opened, syscalls.MOUNT_ATTR_RDONLY, recursive=False)
    os.close(opened)


def _make_target(target: Path, folder: bool) -> None:
    """Make the mount point *target* if there is none: in the skeleton, or later in a mount before it."""
    if not os.path.lexists(target):
        (target if folder else target.parent).mkdir(parents=True, exist_ok=True)
        if not folder:
            target.touch()


def _home() -> str:
    """The user's home directory according to the image."""
    with suppress(OSError):
        for line in Path("/etc/passwd").read_text("utf-8", "replace").splitlines():
            fields = line.split(":")
            if len(fields) >= 6 and fields[2] == str(UID):
                return fields[5]
    return "/"


def _drop_privileges(plan: Plan) -> None:
    syscalls.drop_bounding_set()
    if plan.privileged:
        os.setgroups([])
        os.setresgid(GID, GID, GID)
        os.setresuid(UID, UID, UID)
    syscalls.drop_capabilities()


def _become_program(plan: Plan, environment: dict[str, str]) -> NoReturn:
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError):  # those the C library keeps for itself
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.chdir(plan.folder)
        os.execvpe(plan.argv[0], plan.argv, environment)
    except OSError as error:
        raise _Failed("program", error) from error


def _report(report: int, stage: str, error: OSError) -> None:
    text = error.strerror or str(error)
    reason = f"{text} ({error.filename})" if error.filename else text
    _write(report, {"stage": stage, "reason": reason, "number": error.errno or 0})


def _write(report: int, document: dict[str, Any]) -> None:
    os.write(report, json.dumps(document).encode() + b"\n")
