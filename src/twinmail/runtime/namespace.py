"""Containers made of plain Linux namespaces: no engine, no daemon, nothing left when they end."""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from twinmail.runtime import diagnosis, emulation, syscalls
from twinmail.runtime.image import Image
from twinmail.runtime.interface import (
    GID,
    UID,
    Container,
    ContainerError,
    ContainerSpec,
    ExecResult,
    Exited,
    Running,
    Runtime,
    RuntimeUnavailable,
    WaitTimeout,
)
from twinmail.runtime.keeper import Plan
from twinmail.runtime.keeping import Keeper, StartFailed
from twinmail.runtime.unpack import LayerStore
from twinmail.runtime.volume import own

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as Docker sets it
HOST_FILES = ("/etc/resolv.conf", "/etc/hosts")  # the host's network comes with the host's names

_CAPABILITIES = (
    syscalls.CAP_CHOWN,
    syscalls.CAP_SETGID,
    syscalls.CAP_SETUID,
    syscalls.CAP_SETPCAP,
    syscalls.CAP_SYS_ADMIN,
)
_NOT_ALLOWED = (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS, errno.EINVAL, errno.ENOSYS)
_END_SECONDS = 10.0


class NamespaceRuntime(Runtime):
    """Containers whose folders are in *state*, on layers unpacked in *layers*."""

    name = "namespace"

    def __init__(self, state: Path, layers: Path) -> None:
        self._folders = state / "containers"
        self._logs = state / "log"
        self._layers = LayerStore(layers)
        self._privileged = is_privileged()
        self._own: dict[str, NamespaceContainer] = {}

    def check(self) -> None:
        """See whether this machine lets us make containers.

        Raises:
            RuntimeUnavailable: it does not; the text names the ways out.
        """
        plan = Plan(privileged=self._privileged, argv=(), environment={}, folder="/", probe=True)
        with _explained("the check"), Keeper(plan) as keeper:
            keeper.wait_for_start()

    def ensure_emulation(self, platform: str) -> None:
        emulation.ensure(platform)

    def prepare_volume(self, path: Path) -> None:
        if self._privileged:
            own(path, UID, GID)
        else:  # the caller is user 1000 inside
            own(path, os.getuid(), os.getgid())

    def remove_leftovers(self) -> Sequence[str]:
        ended = []
        for file in sorted(self._folders.glob("*.lock")):
            name = file.stem
            if name in self._own and isinstance(self._own[name].status(), Running):
                continue
            with file.open("r+b") as lock:
                # The keeper ends with its supervisor, by itself; this may be just happening.
                if not _acquire(lock, 2.0):
                    with contextlib.suppress(ValueError, ProcessLookupError):
                        os.kill(int(lock.read()), signal.SIGKILL)
                    ended.append(name)
                    if not _acquire(lock, _END_SECONDS):
                        raise ContainerError(f"{file}: the container {name} of an earlier run does not end")
                self._remove(name)
        return ended

    def start(self, spec: ContainerSpec) -> Container:
        self.ensure_emulation(spec.platform)
        image = Image.load(spec.layout, spec.platform, spec.reference)
        argv = image.argv(spec)
        for mount in spec.mounts:
            if not mount.source.exists():
                raise ContainerError(
                    f"{spec.name}: {mount.source}, to be mounted at {mount.target}, does not exist"
                )
        scratch = self._folders / spec.name
        log = self._logs / f"{spec.name}.log"
        scratch.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        with self._layers.use(image.layers) as (names, layer_locks), self._lock(spec.name) as lock:
            taken = {mount.target for mount in spec.mounts}
            host_files = [one for one in HOST_FILES if one not in taken and Path(one).exists()]
            plan = Plan(
                privileged=self._privileged,
                argv=argv,
                environment={"PATH": PATH, **image.environment, **spec.environment},
                folder=image.folder,
                layers=str(self._layers.root.resolve()),
                lower=tuple(reversed(names)),
                scratch=str(scratch.resolve()),
                mounts=(
                    *((str(Path(one).resolve()), one, True) for one in host_files),
                    *((str(one.source.resolve()), one.target, one.read_only) for one in spec.mounts),
                ),
                tmpfs=spec.tmpfs,
            )
            log.unlink(missing_ok=True)
            with log.open("ab") as output:
                if self._privileged:
                    os.fchown(output.fileno(), UID, GID)  # for programs that open /dev/stderr by its name
                keeper = Keeper(plan, output, (lock.fileno(), *layer_locks))
            lock.truncate(0)
            lock.write(str(keeper.pid).encode())
            lock.flush()
            try:
                with _explained(spec.name, f"{argv[0]} in the image {image.name} ({image.config_digest})"):
                    keeper.wait_for_start()
            except BaseException:
                keeper.close()
                self._remove(spec.name)
                raise
        container = NamespaceContainer(self, spec.name, image.config_digest, plan, keeper, log)
        self._own[spec.name] = container
        return container

    def remove(self, name: str) -> None:
        """Forget the ended container *name* and its folder; its log stays."""
        self._own.pop(name, None)
        self._remove(name)

    def _remove(self, name: str) -> None:
        shutil.rmtree(self._folders / name, ignore_errors=True)
        (self._folders / f"{name}.lock").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[IO[bytes]]:
        """Hold the name *name*; the keeper inherits the lock and holds it as long as the container runs."""
        file = self._folders / f"{name}.lock"
        with file.open("a+b") as lock:
            if not _acquire(lock, 2.0):
                raise ContainerError(
                    f"{file}: a container {name} of this state folder runs already; "
                    "stop the other ./inv first"
                )
            lock.seek(0)
            yield lock


class NamespaceContainer(Container):
    """A container and the keeper that it hangs on."""

    def __init__(
        self, runtime: NamespaceRuntime, name: str, digest: str, plan: Plan, keeper: Keeper, log: Path
    ) -> None:
        self.name = name
        self.image_digest = digest
        self._runtime = runtime
        self._plan = plan
        self._keeper = keeper
        self._log = log

    def status(self) -> Running | Exited:
        code = self._keeper.poll()
        return Running() if code is None else Exited(code)

    def logs(self) -> bytes:
        return self._log.read_bytes()

    def exec(self, argv: Sequence[str], timeout: float = 60) -> ExecResult:
        plan = Plan(
            privileged=self._plan.privileged,
            argv=tuple(argv),
            environment=self._plan.environment,
            folder=self._plan.folder,
            join=(self._keeper.container_pid, self._keeper.pid),
        )
        if isinstance(self.status(), Exited):
            raise ContainerError(f"{self.name}: cannot run {argv[0]}: the container has ended")
        with Keeper(plan, None) as joined:
            with _explained(f"{self.name}: exec", argv[0]):
                joined.wait_for_start()
            output = joined.read_output(timeout)
            if output is None:
                raise WaitTimeout(f"{self.name}: {argv[0]} did not end within {timeout:g} s; it was ended")
            return ExecResult(joined.wait(_END_SECONDS), output)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        self._keeper.kill(number)

    def wait(self, timeout: float) -> Exited:
        try:
            return Exited(self._keeper.wait(timeout))
        except TimeoutError as error:
            raise WaitTimeout(f"{self.name} still runs after {timeout:g} s") from error

    def stop(self, timeout: float = 10) -> Exited:
        self.kill(signal.SIGTERM)
        try:
            ended = self.wait(timeout)
        except WaitTimeout:
            self.kill(signal.SIGKILL)
            ended = self.wait(_END_SECONDS)
        self._keeper.close()
        self._runtime.remove(self.name)
        return ended


def is_privileged() -> bool:
    """Whether we are root for real: with its capabilities, and with a user 1000 to change to."""
    if os.geteuid() != 0:
        return False
    held = syscalls.effective_capabilities()
    ranges = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    mapped = any(first <= UID < first + count for first, _, count in ranges)
    return mapped and all(held >> capability & 1 for capability in _CAPABILITIES)


@contextlib.contextmanager
def _explained(subject: str, program: str = "") -> Iterator[None]:
    """Turn what the keeper reports into the errors of the interface."""
    try:
        yield
    except StartFailed as failed:
        if failed.stage == "namespaces" and failed.number in _NOT_ALLOWED:
            settings = diagnosis.read_settings()
            raise RuntimeUnavailable(
                diagnosis.explain(failed.reason, settings, os.geteuid() == 0)
            ) from failed
        what = program if failed.stage == "program" else failed.stage
        raise ContainerError(f"{subject}: cannot start: {what}: {failed.reason}") from failed


def _acquire(lock: IO[bytes], timeout: float) -> bool:
    """Lock the open file; False if another process still holds it after *timeout* seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True
