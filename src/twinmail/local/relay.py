"""The relay of a local server: its container, and the secret it shares with Dovecot."""

import secrets
import shutil
from pathlib import Path

from twinmail import durable_file
from twinmail.config import Config
from twinmail.dovecot import Submission
from twinmail.local import pki
from twinmail.local.services import CONFIG_IN_CONTAINER, MAIL_IN_CONTAINER, aws_environment
from twinmail.local.state import Ports, State
from twinmail.runtime.interface import ContainerSpec, Mount

SECRET = "relay-secret"


def prepare(state: State, ports: Ports, server: str) -> Submission:
    """Make what Dovecot and the relay of *server* find in /etc/twinmail, and return what they agree on.

    Raises:
        NotWritten: transient.
    """
    settings = state.settings(server)
    path = settings / SECRET
    if not path.is_file():
        durable_file.write(path, secrets.token_hex(24).encode("ascii"), mode=0o600)
    # The relay checks the certificate of SES's endpoint, which is the local authority's here.
    shutil.copyfile(state.tls / pki.CA, settings / pki.CA)
    return Submission(
        port=ports[f"{server}-submission"],
        relay=ports[f"{server}-relay"],
        secret=Path(path).read_text("ascii"),
    )


def relay(
    state: State, config: Config, ports: Ports, server: str, platform: str, endpoint: str
) -> ContainerSpec:
    """The relay of *server*."""
    return ContainerSpec(
        name=f"{server}-relay",
        layout=state.images / "syncer",
        platform=platform,
        entrypoint=(
            *("/usr/bin/tini", "--", "/usr/bin/python3", "-m", "twinmail.relay"),
            *("--config", CONFIG_IN_CONTAINER),
            *("--mail", MAIL_IN_CONTAINER),
            *("--secret", f"/etc/twinmail/{SECRET}"),
            *("--port", str(ports[f"{server}-relay"])),
            *("--ses", f"localhost:{ports['submissions']}"),
            *("--ca", f"/etc/twinmail/{pki.CA}"),
        ),
        environment=aws_environment(config.region, endpoint),
        mounts=(
            Mount(state.settings(server), "/etc/twinmail", read_only=True),
            Mount(state.maildirs(server), MAIL_IN_CONTAINER),
        ),
    )
