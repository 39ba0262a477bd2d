"""Which containers make up the local system: pure data, one function a service."""

from collections.abc import Mapping
from pathlib import Path

from twinmail import server_volume
from twinmail.config import Config
from twinmail.local.state import LOOPBACK, Ports, State
from twinmail.runtime.interface import ContainerSpec, Mount

# LocalStack takes any credentials; these select its default account.
ACCESS_KEY = SECRET_KEY = "test"
ANYBODY: Mapping[str, str] = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
"""The credentials of whoever is nobody in particular."""

CONFIG_IN_CONTAINER = "/etc/twinmail/twinmail.toml"
SECRETS_IN_CONTAINER = "/etc/twinmail-secrets"
MAIL_IN_CONTAINER = "/var/mail/twinmail"
LEDGER_IN_CONTAINER = "/var/lib/twinmail"


def aws_environment(region: str, endpoint: str) -> Mapping[str, str]:
    """The standard variables of the AWS SDKs: all that a container is told about where it runs."""
    return {
        **ANYBODY,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ENDPOINT_URL": endpoint,
        # obstore's name for permission to use http, which only a local endpoint does.
        "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def localstack(state: State, config: Config, ports: Ports, platform: str) -> ContainerSpec:
    """LocalStack itself."""
    return ContainerSpec(
        name="localstack",
        layout=state.images / "localstack",
        platform=platform,
        command=(
            *("--listen", f"{LOOPBACK}:{ports['localstack']}"),
            *("--state", "/var/lib/localstack"),
            *("--region", config.region),
        ),
        mounts=(Mount(state.localstack, "/var/lib/localstack"),),
    )


def edge(state: State, config: Config, ports: Ports, platform: str, endpoint: str) -> ContainerSpec:
    """The SES edge: inbound SMTP and the SMTP endpoint for submission."""
    return ContainerSpec(
        name="edge",
        layout=state.images / "localstack",
        platform=platform,
        entrypoint=(
            *("/usr/bin/tini", "--", "/usr/bin/python3", "-m", "twinmail_localstack.edge"),
            *("--listen", f"{LOOPBACK}:{ports['edge']}"),
            *("--submission", f"{LOOPBACK}:{ports['submission']}"),
            *("--submissions", f"{LOOPBACK}:{ports['submissions']}"),
            *("--region", config.region),
            *("--certificate", "/etc/twinmail/tls/cert.pem"),
            *("--key", "/etc/twinmail/tls/key.pem"),
        ),
        environment=aws_environment(config.region, endpoint),
        mounts=(Mount(state.settings("edge"), "/etc/twinmail", read_only=True),),
    )


def dovecot(state: State, server: str, platform: str) -> ContainerSpec:
    """The IMAP server of *server*."""
    return ContainerSpec(
        name=f"{server}-dovecot",
        layout=state.images / "dovecot",
        platform=platform,
        mounts=(
            Mount(state.settings(server), "/etc/twinmail", read_only=True),
            Mount(state.maildirs(server), MAIL_IN_CONTAINER),
        ),
    )


def syncer(
    state: State,
    config: Config,
    ports: Ports,
    server: str,
    platform: str,
    endpoint: str,
    options: tuple[str, ...] = (),
) -> ContainerSpec:
    """The syncer of *server*, with extra command line *options*."""
    return ContainerSpec(
        name=f"{server}-syncer",
        layout=state.images / "syncer",
        platform=platform,
        command=(
            *("--config", CONFIG_IN_CONTAINER),
            *("--server", server),
            *("--mail", MAIL_IN_CONTAINER),
            *("--state", LEDGER_IN_CONTAINER),
            *("--health-port", str(ports[f"{server}-health"])),
            *("--tls", "/etc/twinmail/tls", "--imaps", f"{LOOPBACK}:{ports[f'{server}-imaps']}"),
            *options,
        ),
        environment=aws_environment(config.region, endpoint),
        mounts=(
            Mount(state.settings(server), "/etc/twinmail", read_only=True),
            Mount(state.maildirs(server), MAIL_IN_CONTAINER),
            Mount(state.ledger(server), LEDGER_IN_CONTAINER),
        ),
    )


def volumes(state: State, config: Config) -> tuple[Path, ...]:
    """Folders that containers write to."""
    return (
        state.localstack,
        *(folder for name in config.servers for folder in (state.maildirs(name), state.ledger(name))),
        # Dovecot listens in it, and can only if it is there.
        *(state.maildirs(name) / server_volume.FOLDER for name in config.servers),
    )
