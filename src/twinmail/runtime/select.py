"""Which container runtime this machine uses."""

from pathlib import Path

from twinmail.errors import PermanentError
from twinmail.runtime.docker import DockerRuntime
from twinmail.runtime.interface import Runtime, RuntimeUnavailable
from twinmail.runtime.namespace import NamespaceRuntime

NAMES = ("docker", "namespace")


def choose(name: str | None, state: Path, layers: Path | None = None) -> Runtime:
    """Return the runtime *name*, ready to start containers; None takes Docker where an engine answers.

    Args:
        name: ``docker``, ``namespace`` or None.
        state: folder for what runs; its containers are told apart from others by it.
        layers: folder for unpacked layers, worth keeping between runs; by default in *state*.

    Raises:
        PermanentError: there is no such runtime.
        RuntimeUnavailable: this machine cannot run containers (this way); the text names the ways out.
    """
    if name == "docker":
        return DockerRuntime(state)
    if name is None:
        try:
            return DockerRuntime(state)
        except RuntimeUnavailable:
            pass  # no engine, or none that shares this machine's loopback: not needed
    elif name != "namespace":
        raise PermanentError(f"--runtime: expected {' or '.join(NAMES)}, got {name!r}")
    runtime = NamespaceRuntime(state, layers or state / "layers")
    runtime.check()
    return runtime


def available(state: Path = Path("/nonexistent")) -> tuple[str, ...]:
    """Names of the runtimes that work on this machine."""
    names = []
    for name in NAMES:
        try:
            choose(name, state)
        except RuntimeUnavailable:
            continue
        names.append(name)
    return tuple(names)
