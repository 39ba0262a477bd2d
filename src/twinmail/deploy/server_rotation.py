"""New keys of a production server, of those that are made here or on the server itself.

What is decided is put into the operator's store; the next deployment of the server brings it there.
"""

import secrets
from dataclasses import dataclass

from twinmail.certificate.place import CERTIFICATE, KEY
from twinmail.config import Config
from twinmail.deploy import server_files
from twinmail.deploy.kustomization import CERT_MANAGER, NAME
from twinmail.secret_store import SecretStore

TLS, DES_KEY = "tls", "des-key"


@dataclass(frozen=True)
class Rotated:
    """What was done for a server, and what is left to do; *deploy* names the command that brings it."""

    server: str
    text: str
    deploy: str = ""


def rotate(config: Config, store: SecretStore, what: str) -> tuple[Rotated, ...]:
    """Decide on a new key of the kind *what* for every server that has one.

    Raises:
        NotWritten: transient; doing it again completes it.
    """
    return tuple(
        done
        for server in config.servers
        if (done := (_tls if what == TLS else _des_key)(config, store, server)) is not None
    )


def _des_key(config: Config, store: SecretStore, server: str) -> Rotated | None:
    if not config.servers[server].webmail:
        return None
    # 24 octets, as Roundcube's own installer makes it.
    store.put(server_files.des_key_name(server), secrets.token_urlsafe(24).encode("ascii"))
    return Rotated(
        server, "new des_key; who is logged in to the webmail logs in again", _deploy(config, server)
    )


def _tls(config: Config, store: SecretStore, server: str) -> Rotated:
    kubernetes = config.servers[server].kubernetes
    if kubernetes is None:
        store.put(server_files.wish_name(server), secrets.token_hex(8).encode("ascii"))
        return Rotated(
            server, "certbot gets a certificate with a new key; sessions go on", _deploy(config, server)
        )
    if CERT_MANAGER in kubernetes.components:
        context = f" --context {kubernetes.context}" if kubernetes.context else ""
        remove = f"kubectl{context} --namespace {kubernetes.namespace} delete secret {NAME}-tls"
        return Rotated(server, f"cert-manager has the key, and makes a new one after: {remove}")
    bring = f"cat {CERTIFICATE} {KEY} | ./inv secrets set tls/{server}/{KEY}"
    return Rotated(server, f"you have brought its key; bring a new pair: {bring}", _deploy(config, server))


def _deploy(config: Config, server: str) -> str:
    return "./inv deploy primary" if config.servers[server].kubernetes else "./inv deploy backup"
