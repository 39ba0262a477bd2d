"""Images to an engine behind SSH that can reach no registry of ours: it pulls them out of this machine.

A registry that can only be read listens on loopback here, SSH makes it appear on loopback there, and the
engine pulls by digest. So Docker (either store) and containerd ask for layers that they miss and no others,
verify each, and know the image by the digest that is pinned. An archive could not do that: ``docker load``
wants every layer in it, and what ``ctr images import`` reads has no digest of a repository for the kubelet.
"""

import re
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from twinmail.deploy import template
from twinmail.errors import PermanentError, TransientError
from twinmail.oci.destination import Destination
from twinmail.oci.push import ImagePush, Progress
from twinmail.oci.served import serve

OVER_SSH = Destination("http", "127.0.0.1:27149", "twinmail")
"""What images that came over SSH are called there; the port listens while they come, and only then."""

ENGINES = ("docker", "k3s")

_HOST = re.compile(r"(ssh://)?([A-Za-z0-9._-]+@)?[A-Za-z0-9.:\[\]_%-]+(:[0-9]+)?/?")
_MACHINES = {
    "x86_64": "linux/amd64",
    "amd64": "linux/amd64",
    "aarch64": "linux/arm64",
    "arm64": "linux/arm64",
}
_PORT_TAKEN = "remote port forwarding failed"


class SshPushError(PermanentError):
    """The host has no engine, or does not let us use it."""


class SshUnavailable(TransientError):
    """The host cannot be reached now."""


@dataclass(frozen=True)
class SshPush:
    """What an engine has got.

    Attributes:
        engine: ``docker`` or ``k3s``.
        platform: of the host.
        references: of the images, as the engine knows them now.
        layers: how many layers and configs it asked for.
        octets: of those.
    """

    host: str
    engine: str
    platform: str
    references: tuple[str, ...]
    layers: int
    octets: int


def script(images: Sequence[ImagePush], engine: str = "") -> str:
    """What the shell of the host is to do: find the engine (or take *engine*), and let it pull *images*."""
    platforms = []
    for platform in dict.fromkeys(_MACHINES.values()):
        references = [
            OVER_SSH.reference(one.name, one.manifests[platform].digest)
            for one in images
            if platform in one.manifests
        ]
        platforms.append(
            {
                "machines": "|".join(one for one, other in _MACHINES.items() if other == platform),
                "name": platform,
                "references": " ".join(references) if len(references) == len(images) else "",
            }
        )
    return template.render("pull.sh.j2", engine=engine, prefix=OVER_SSH, platforms=platforms, look=False)


def lacking(
    host: str, references: Sequence[str], platform: str, ssh: Sequence[str] = ("ssh",)
) -> tuple[str, ...]:
    """Those of *references*, as `OVER_SSH` calls images for *platform*, that the engine of *host* lacks.

    Raises:
        SshUnavailable: the connection cannot be made, or broke.
        SshPushError: see there.
    """
    check_host(host)
    machines = [
        {
            "machines": "|".join(one for one, other in _MACHINES.items() if other == platform),
            "name": platform,
            "references": " ".join(references),
        }
    ]
    text = template.render("pull.sh.j2", engine="", prefix=OVER_SSH, platforms=machines, look=True)
    with _start([*ssh, "-T", host, "sh -s"]) as process:
        try:
            _, _, have = _conversation(process, host, text, lambda reference: None)
        except BaseException:
            process.kill()
            raise
    return tuple(one for one in references if one not in have)


def push(
    host: str,
    images: Sequence[ImagePush],
    progress: Progress,
    step: Callable[[str], None],
    engine: str = "",
    ssh: Sequence[str] = ("ssh",),
) -> SshPush:
    """Let the engine of *host* have *images*, for the platform that it is of.

    Args:
        host: what ``ssh`` takes: a name, ``user@name``, ``ssh://user@name:port``.
        step: told what is being done.
        engine: one of `ENGINES`; empty for whichever is there.
        ssh: the program, and options for it.

    Raises:
        SshUnavailable: the connection cannot be made, or broke; the same again goes on.
        SshPushError: see there.
    """
    check_host(host)
    if engine and engine not in ENGINES:
        raise SshPushError(f"no engine {engine!r}; known: {', '.join(ENGINES)}")
    with serve(images, OVER_SSH, progress) as served:
        tunnel = f"{OVER_SSH.host}:127.0.0.1:{served.port}"
        argv = [*ssh, "-T", "-o", "ExitOnForwardFailure=yes", "-R", tunnel, host, "sh -s"]
        with _start(argv) as process:
            try:
                found, platform, have = _conversation(process, host, script(images, engine), step)
            except BaseException:
                process.kill()
                raise
        return SshPush(host, found, platform, have, len(served.blobs), served.octets)


def check_host(host: str) -> None:
    """Refuse what ``ssh`` would take for an option or a command.

    Raises:
        SshPushError: see there.
    """
    if host.startswith("-") or not _HOST.fullmatch(host):
        raise SshPushError(f"{host!r} is no host: expected NAME, USER@NAME or ssh://USER@NAME:PORT")


def _start(argv: Sequence[str]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise SshPushError(
            f"{argv[0]}: {error.strerror}; install it: apt-get install openssh-client"
        ) from error


def _conversation(
    process: "subprocess.Popen[bytes]", host: str, text: str, step: Callable[[str], None]
) -> tuple[str, str, tuple[str, ...]]:
    """Let the host run *text*; return its engine, its platform, and the references that it has."""
    assert process.stdin and process.stdout and process.stderr
    complaints: deque[str] = deque(maxlen=8)
    listener = threading.Thread(target=_collect, args=(process.stderr, complaints), daemon=True)
    listener.start()
    try:
        process.stdin.write(text.encode())
        process.stdin.close()
    except BrokenPipeError:
        pass  # it has ended; why is said below
    engine = platform = ""
    problem: list[str] = []
    have: list[str] = []
    for line in process.stdout:
        head, _, rest = line.decode(errors="replace").strip().partition(": ")
        words = rest.split()
        if head != "twinmail" or not words:
            continue
        if words[0] == "engine":
            engine, platform = words[1:]
        elif words[0] == "problem":
            problem = words[1:]
        elif words[0] == "pull":
            step(words[1])
        elif words[0] == "have":
            have.append(words[1])
    code = process.wait()
    listener.join()
    if code:
        raise _error(host, code, engine, problem, have, list(complaints))
    return engine, platform, tuple(have)


def _collect(stream: IO[bytes], lines: deque[str]) -> None:
    for line in stream:
        if text := line.decode(errors="replace").strip():
            lines.append(text)


def _error(
    host: str, code: int, engine: str, problem: Sequence[str], have: Sequence[str], complaints: Sequence[str]
) -> PermanentError | TransientError:
    said = "; ".join(complaints) or f"it ended with {code}"
    if problem == ["none"]:
        return SshPushError(f"{host}: neither k3s nor docker is there; install one of them")
    if problem[:1] == ["missing"]:
        return SshPushError(f"{host}: {problem[1]} is not there; install it, or name another with --engine")
    if problem[:1] == ["platform"]:
        return SshPushError(
            f"{host}: it is of {problem[1]}, and not all images are for that; leave out --platform, or give "
            "the server the platform of its machine in twinmail.toml"
        )
    if problem[:1] == ["refused"]:
        return SshPushError(
            f"{host}: {problem[1]} does not let this user in ({said}); use root, or let the user run it "
            "by sudo without a password, or for docker join the group docker"
        )
    if any(_PORT_TAKEN in one for one in complaints):
        return SshUnavailable(
            f"{host}: its port {OVER_SSH.host} is taken or may not be forwarded; wait for the other push to "
            "end, and allow AllowTcpForwarding in its sshd_config"
        )
    if code == 255:
        return SshUnavailable(f"{host}: {said}; run the same command again, what is there is not sent again")
    what = f"{engine} did not take image {len(have) + 1}" if engine else "its shell failed"
    return SshPushError(f"{host}: {what}: {said}")
