"""The webmail of a local server: two containers of one image, their folders and what is written into them."""

import http.client
import shutil
import ssl
from pathlib import Path
from typing import Any

from twinmail import durable_file, smtp_credentials, webmail
from twinmail.config import Config
from twinmail.local import client_files, pki
from twinmail.local.state import LOOPBACK, Ports, State
from twinmail.runtime.interface import ContainerSpec, Mount
from twinmail.webmail import Service

_CA_IN_CONTAINER = "/etc/twinmail/ca.pem"
# Prepares the volume, then becomes the PHP process manager.
PHP = ("/usr/bin/php8.4", "/usr/share/twinmail/start.php")
_PARTS = ("web-etc", "php-etc", "socket", "buffer", "data")


def folder(state: State, server: str) -> Path:
    """Everything of the webmail of *server*."""
    return state.server(server) / "webmail"


def volumes(state: State, config: Config) -> tuple[Path, ...]:
    """Folders that the containers read and write."""
    return tuple(
        folder(state, name) / part
        for name, server in config.servers.items()
        if server.webmail
        for part in _PARTS
    )


def prepare(state: State, config: Config, ports: Ports, server: str) -> None:
    """Write what the two containers of *server* find in /etc/twinmail.

    Raises:
        NotWritten: transient.
    """
    host = config.servers[server].host
    names = (host, *(f"{use}.{domain}" for domain in config.domains for use in webmail.CLIENT_HOSTS))
    web, php = folder(state, server) / "web-etc", folder(state, server) / "php-etc"
    (web / webmail.FILES).mkdir(parents=True, exist_ok=True)
    # The other folder of files is mounted over this one.
    (php / "web").mkdir(parents=True, exist_ok=True)
    pki.ensure(state.tls, web / "tls", names)
    client_files.install(config, ports, web / webmail.FILES, web / "tls")
    shutil.copyfile(state.tls / pki.CA, php / pki.CA)
    settings = webmail.Settings(
        imap=Service(f"ssl://{LOOPBACK}:{ports[f'{server}-imaps']}", host, _CA_IN_CONTAINER),
        sieve=Service(f"ssl://{LOOPBACK}:{ports[f'{server}-sieve']}", host, _CA_IN_CONTAINER),
        smtp=Service(f"ssl://{LOOPBACK}:{ports['submissions']}", "localhost", _CA_IN_CONTAINER),
        hosts=(host, "localhost", LOOPBACK),
        product=f"Webmail of {config.domains[0]}",
    )
    texts = {
        php / webmail.SETTINGS: settings.to_json(),
        php / webmail.IDENTITIES: webmail.identities(config),
        web / webmail.LISTEN: webmail.listen_conf(f"{LOOPBACK}:{ports[f'{server}-webmail']}", names),
    }
    for path, text in texts.items():
        durable_file.write(path, text.encode("ascii"))


def authorize(state: State, config: Config, ports: Ports, server: str, iam: Any) -> None:
    """Give the webmail of *server* its SMTP credential; the stack has made the user.

    Raises:
        NoUser: it has not.
        KeyUnavailable, NotWritten: transient.
    """
    # One for all servers: a new one ends the others.
    shared = state.root / webmail.SENDER
    smtp_credentials.ensure_webmail(iam, config, shared, LOOPBACK, ports["submissions"])
    path = folder(state, server) / "php-etc" / webmail.SENDER
    durable_file.write(path, shared.read_bytes(), mode=0o600)


def answers(host: str, port: int, tls: ssl.SSLContext) -> bool:
    """Whether the webmail at *port* answers, web server and PHP both."""
    connection = http.client.HTTPSConnection(host, port, timeout=5, context=tls)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def web(state: State, server: str, platform: str) -> ContainerSpec:
    """The HTTPS server of *server*."""
    root = folder(state, server)
    return ContainerSpec(
        name=f"{server}-web",
        layout=state.images / "roundcube",
        platform=platform,
        mounts=(
            Mount(root / "web-etc", "/etc/twinmail", read_only=True),
            Mount(root / "socket", "/run/php"),
            Mount(root / "buffer", "/var/lib/twinmail"),
        ),
    )


def php(state: State, server: str, platform: str) -> ContainerSpec:
    """Roundcube of *server*."""
    root = folder(state, server)
    return ContainerSpec(
        name=f"{server}-php",
        layout=state.images / "roundcube",
        platform=platform,
        command=PHP,
        mounts=(
            Mount(root / "php-etc", "/etc/twinmail", read_only=True),
            # The names that mail programs are told, for the answer that depends on the question.
            Mount(root / "web-etc" / "web", "/etc/twinmail/web", read_only=True),
            Mount(root / "socket", "/run/php"),
            Mount(root / "data", "/var/lib/twinmail"),
        ),
    )
