"""How to read the page of a server in production: over SSH, or through the cluster.

Nothing listens for it on the Internet. The syncer's image has Python, so the page is fetched inside of its
container by a few lines that come over standard input: nothing need be quoted for any shell on the way.
"""

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from twinmail.config import Config, Server
from twinmail.deploy import lightsail, ssh, ssh_key
from twinmail.deploy.server_files import PORTS
from twinmail.deploy.ssh import Machine
from twinmail.deploy.ssh_push import check_host
from twinmail.secret_store import SecretStore
from twinmail.server_page import STREAM_SECONDS, Page, Unreachable

POD_PORT = 8080
"""Of the syncer in its pod (`k8s/kustomize/base/deployment.yaml`)."""
_LOGINS = {"debian": "admin", "ubuntu": "ubuntu"}
"""The user of machines at Lightsail, by the first word of their blueprint."""
SECONDS = 20.0

_SCRIPT = """\
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen("http://127.0.0.1:{port}{path}", {request}, timeout={seconds})
    while octets := answer.read(65536):
        sys.stdout.buffer.write(octets)
except urllib.error.HTTPError as error:
    said = " ".join(error.read().decode("utf-8", "replace").split())
    sys.exit(f"expected 200, got {{error.code}}: {{said}}")
"""
# The container of the service, whatever Compose called it.
_INSIDE = (
    "exec sudo -n docker exec -i "
    '"$(sudo -n docker ps -q --filter label=com.docker.compose.project=twinmail '
    '--filter label=com.docker.compose.service=syncer)" /usr/bin/python3 -'
)


@dataclass(frozen=True)
class CommandPage:
    """Pages that *command* fetches: it runs the Python program in its standard input beside the syncer."""

    where: str
    command: tuple[str, ...]
    port: int

    def read(self, path: str, request: bytes | None = None) -> bytes:
        """See `twinmail.server_page.Page`."""
        script = self._script(path, request, 5)
        try:
            done = subprocess.run(
                self.command, input=script, capture_output=True, timeout=SECONDS, check=False
            )
        except FileNotFoundError as error:
            raise Unreachable(f"{self.where}: {self.command[0]} is not installed here") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unreachable(f"{self.where}: {error}") from error
        if done.returncode:
            raise self._unreachable(done.stderr)
        return done.stdout

    def lines(self, path: str) -> Iterator[bytes]:
        """See `twinmail.server_page.Page`."""
        # Files, as a pipe that nobody empties stops who writes to it.
        with tempfile.TemporaryFile() as script, tempfile.TemporaryFile() as errors:
            script.write(self._script(path, None, STREAM_SECONDS))
            script.seek(0)
            try:
                running = subprocess.Popen(self.command, stdin=script, stdout=subprocess.PIPE, stderr=errors)
            except FileNotFoundError as error:
                raise Unreachable(f"{self.where}: {self.command[0]} is not installed here") from error
            except OSError as error:
                raise Unreachable(f"{self.where}: {error}") from error
            with running:
                try:
                    assert running.stdout is not None
                    yield from running.stdout
                    code = running.wait()
                finally:
                    running.kill()
            if code:
                errors.seek(0)
                raise self._unreachable(errors.read())

    def _script(self, path: str, request: bytes | None, seconds: float) -> bytes:
        return _SCRIPT.format(port=self.port, path=path, request=repr(request), seconds=seconds).encode()

    def _unreachable(self, errors: bytes) -> Unreachable:
        said = errors.decode(errors="replace").strip().splitlines() or ["no reason given"]
        return Unreachable(f"{self.where}: {said[-1]}")


def pages(config: Config, secrets: SecretStore, deployed: Path) -> Mapping[str, Page]:
    """The ways to those servers of *config* that say where they run.

    Args:
        deployed: where deployments from this machine write down the host keys of each server.
    """
    found: dict[str, Page] = {}
    for name, server in config.servers.items():
        if server.lightsail:
            found[name] = over_ssh(machine(config, server, secrets, deployed))
        elif server.kubernetes:
            found[name] = in_pod(server)
    return found


def machine(config: Config, server: Server, secrets: SecretStore, deployed: Path) -> Machine:
    """The machine of *server* at Lightsail, by its private key if there is one here, else by ssh's own.

    Args:
        deployed: see `pages`.
    """
    assert server.lightsail is not None
    host = f"{_LOGINS[server.lightsail.blueprint.partition('_')[0]]}@{server.host}"
    check_host(host)
    key = secrets.path(ssh_key.name(server.name))
    identity = ("-i", str(key), "-o", "IdentitiesOnly=yes") if key.exists() else ()
    known = ssh.known_as(deployed / server.name, lightsail.name(config, server.name))
    return Machine(host, ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", *known, *identity))


def over_ssh(place: Machine) -> CommandPage:
    """The pages of the server on *place*."""
    return CommandPage(f"ssh {place.host}", (*place.ssh, "-T", place.host, _INSIDE), PORTS.health)


def in_pod(server: Server) -> CommandPage:
    """The pages of *server*, a pod."""
    cluster = server.kubernetes
    assert cluster is not None
    context = ("--context", cluster.context) if cluster.context else ()
    pod = ("exec", "-i", "deployment/twinmail", "-c", "syncer", "--", "/usr/bin/python3", "-")
    where = f"kubectl {cluster.context or 'current context'}, namespace {cluster.namespace}"
    return CommandPage(where, ("kubectl", *context, "-n", cluster.namespace, *pod), POD_PORT)
