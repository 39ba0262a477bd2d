"""The files that the containers of a production server read, computed from the configuration.

Each container sees one group of them as ``/etc/twinmail``, and its secrets where it has any, so that none
reads another's. Compose mounts folders, Kubernetes makes ConfigMaps and Secrets of the same files.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from twinmail import dovecot, webmail
from twinmail.certificate.place import WISH
from twinmail.client_profile import web
from twinmail.client_profile.site import Site, site, web_names
from twinmail.config import FILE, Config
from twinmail.dovecot import Listening, Submission
from twinmail.errors import PermanentError
from twinmail.secret_store import SecretStore
from twinmail.smtp_credentials import Endpoint
from twinmail.webmail import Sender, Service

# Groups: the folders of files.
CONFIG = "config"
"""``twinmail.toml``, for the syncer and the relay; read again while they run."""
DOVECOT = "dovecot"
SYNCER = "syncer"
"""Secrets of the syncer."""
RELAY = "relay"
"""Secrets of the relay."""
CERTBOT = "certbot"
"""Secrets of certbot, where it shows by DNS that names are ours."""
WEB = "web"
PHP = "php"

# Where containers find them.
SETTINGS_IN_CONTAINER = "/etc/twinmail"
SECRETS_IN_CONTAINER = "/etc/twinmail-secrets"
TLS_IN_CONTAINER = "/etc/twinmail/tls"
"""The certificate: from certbot or cert-manager, and renewed under the servers."""

CHALLENGES_IN_CONTAINER = "/etc/twinmail/challenges"
"""What the authority of the certificate asks for by HTTP."""

CREDENTIALS = "credentials"
RELAY_SECRET = "relay-secret"
DES_KEY = "des_key"
"""What the webmail encrypts sessions with; without it, it makes its own."""
AUTHORITIES = "authorities.pem"

SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_LOOPBACK = "127.0.0.1"


class NoSecrets(PermanentError):
    """Secrets that a server needs are not in the store."""


@dataclass(frozen=True)
class ServerPorts:
    """TCP ports of a server; `health` and `relay` are on its loopback network only.

    Attributes:
        sieve: ManageSieve; webmail uses it from the same machine, and the firewall lets nobody else in.
        http: plain HTTP, for certificate authorities and redirects.
    """

    imaps: int = 993
    submission: int = 465
    web: int = 443
    http: int = 80
    sieve: int = 14190
    health: int = 10080
    relay: int = 10025


@dataclass(frozen=True)
class Surroundings:
    """What a server is told of the world; the defaults are production.

    Attributes:
        endpoint: URL for all of AWS, if it is not AWS.
        ses: the SMTP endpoint of SES, if it is not the region's.
        authorities: PEM of the certificate authorities to trust instead of the system's.
        site: what mail clients are told, if it is not what the configuration says.
    """

    endpoint: str = ""
    ses: Endpoint | None = None
    authorities: bytes = b""
    site: Site | None = None

    def ses_of(self, config: Config) -> Endpoint:
        """The SMTP endpoint of SES."""
        return self.ses or Endpoint.of_region(config.region)


PRODUCTION = Surroundings()
PORTS = ServerPorts()


@dataclass(frozen=True)
class ServerSecrets:
    """What a server knows that nobody else may; empty is what it does not need.

    Attributes:
        syncer: AWS credentials file (INI) of the syncer.
        relay: password between Dovecot and the relay.
        relay_credentials: AWS credentials file (INI) of the relay.
        sender: the SMTP credential of the webmail.
        certificate: AWS credentials file (INI) of certbot, for Route 53.
        des_key: with which the webmail encrypts sessions; empty lets it make its own.
        wish: for a certificate with a new key: another one than last time.
    """

    syncer: bytes = field(repr=False)
    relay: str = field(default="", repr=False)
    relay_credentials: bytes = field(default=b"", repr=False)
    sender: Sender | None = None
    certificate: bytes = field(default=b"", repr=False)
    des_key: bytes = field(default=b"", repr=False)
    wish: bytes = b""


@dataclass(frozen=True)
class ServerFile:
    """One file.

    Attributes:
        group: which container reads it: the first folder of its path.
        name: its path in the group.
        secret: whether nobody else may read it.
        live: whether its reader notices a change by itself.
    """

    group: str
    name: str
    data: bytes = field(repr=False)
    secret: bool = False
    live: bool = False

    @property
    def path(self) -> str:
        """Its path from the folder of all groups."""
        return f"{self.group}/{self.name}"


def secret_names(config: Config, server: str) -> dict[str, str]:
    """The secrets that *server* needs, by name, each with the command that makes it."""
    one = config.servers[server]
    names = {f"syncer/{server}/credentials": "./inv deploy cloud"}
    if one.submission:
        names[f"relay/{server}/credentials"] = "./inv deploy cloud"
    if one.webmail:
        names["smtp/webmail"] = "./inv deploy cloud"
    return names


def des_key_name(server: str) -> str:
    """The secret with which the webmail of *server* encrypts sessions."""
    return f"webmail/{server}/des-key"


def wish_name(server: str) -> str:
    """The wish of *server* for a certificate with a new key."""
    return f"certificate/{server}/wish"


def unmade_secrets(store: SecretStore, config: Config, server: str) -> tuple[str, ...]:
    """The secrets that `make_secrets` would make.

    Raises:
        SecretStoreError: one cannot be read, or others can read it.
    """
    name = f"relay/{server}/password"
    needed = config.servers[server].submission and store.get(name) is None
    return (name,) if needed else ()


def make_secrets(store: SecretStore, config: Config, server: str) -> tuple[str, ...]:
    """Make those secrets of *server* that nobody else has to hand out; return the names of new ones.

    Raises:
        NotWritten: transient.
    """
    new = unmade_secrets(store, config, server)
    for name in new:
        store.put(name, secrets.token_hex(24).encode("ascii"))
    return new


def missing_secrets(store: SecretStore, config: Config, server: str) -> dict[str, str]:
    """Those of `secret_names` that *store* lacks.

    Raises:
        SecretStoreError: one cannot be read, or others can read it.
    """
    wanted = secret_names(config, server)
    return {name: how for name, how in wanted.items() if store.get(name) is None}


def read_secrets(store: SecretStore, config: Config, server: str) -> ServerSecrets:
    """What *store* holds for *server*; a relay password that is not made yet is left empty.

    Raises:
        NoSecrets: some are missing; each is named with the command that makes it.
        SecretStoreError: one cannot be read, or others can read it.
    """
    found = {name: store.get(name) for name in secret_names(config, server)}
    if missing := missing_secrets(store, config, server):
        lines = [f"secret {name}: not there; make it with: {how}" for name, how in missing.items()]
        raise NoSecrets("\n".join(lines))
    sender = found.get("smtp/webmail")
    return ServerSecrets(
        syncer=found[f"syncer/{server}/credentials"] or b"",
        relay=(store.get(f"relay/{server}/password") or b"").decode("ascii"),
        relay_credentials=found.get(f"relay/{server}/credentials") or b"",
        sender=_sender(sender) if sender else None,
        certificate=store.get(f"certificate/{server}/credentials") or b"",
        des_key=store.get(des_key_name(server)) or b"",
        wish=store.get(wish_name(server)) or b"",
    )


def aws_environment(
    config: Config, surroundings: Surroundings = PRODUCTION, credentials: bool = True
) -> dict[str, str]:
    """What the AWS SDKs read from the environment of a container: names of places, and nothing secret."""
    found = {
        "AWS_REGION": config.region,
        "AWS_DEFAULT_REGION": config.region,
        # No role of the machine: what a container may do is in its own credentials.
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if credentials:
        found["AWS_SHARED_CREDENTIALS_FILE"] = f"{SECRETS_IN_CONTAINER}/{CREDENTIALS}"
    if surroundings.endpoint:
        found |= {"AWS_ENDPOINT_URL": surroundings.endpoint, "AWS_ALLOW_HTTP": "true"}
    return found


def plan(
    config: Config,
    text: str,
    server: str,
    known: ServerSecrets,
    ports: ServerPorts = PORTS,
    surroundings: Surroundings = PRODUCTION,
) -> tuple[ServerFile, ...]:
    """Every file that the containers of *server* read, sorted by path.

    Args:
        text: of ``twinmail.toml``, from which *config* was read.
    """
    files = [
        ServerFile(CONFIG, FILE, text.encode("utf-8"), live=True),
        ServerFile(DOVECOT, dovecot.FILE, _local_conf(config, server, known, ports).encode(), secret=True),
        ServerFile(SYNCER, CREDENTIALS, known.syncer, secret=True),
    ]
    if known.certificate:
        files.append(ServerFile(CERTBOT, CREDENTIALS, known.certificate, secret=True))
    if known.wish:
        files.append(ServerFile(CERTBOT, WISH, known.wish))
    if config.servers[server].submission:
        files += [
            ServerFile(RELAY, CREDENTIALS, known.relay_credentials, secret=True),
            ServerFile(RELAY, RELAY_SECRET, known.relay.encode("ascii"), secret=True),
        ]
        if surroundings.authorities:
            files.append(ServerFile(CONFIG, AUTHORITIES, surroundings.authorities))
    if config.servers[server].webmail:
        files += _webmail(config, server, known, ports, surroundings)
    return tuple(sorted(files, key=lambda one: one.path))


def relay_arguments(
    config: Config, ports: ServerPorts, surroundings: Surroundings = PRODUCTION
) -> tuple[str, ...]:
    """The relay's command line, but for what is the same everywhere."""
    ses = surroundings.ses_of(config)
    authorities = f"{SETTINGS_IN_CONTAINER}/{AUTHORITIES}" if surroundings.authorities else SYSTEM_AUTHORITIES
    return (f"--port={ports.relay}", f"--ses={ses.host}:{ses.port}", f"--ca={authorities}")


def revision(files: Iterable[ServerFile], *groups: str) -> str:
    """A digest of those files of *groups* whose change their reader does not notice by itself."""
    digest = hashlib.sha256()
    for one in files:
        if one.group in groups and not one.live:
            digest.update(f"{one.path} {len(one.data)}\n".encode() + one.data)
    return digest.hexdigest()[:16]


def by_group(files: Iterable[ServerFile]) -> Mapping[str, tuple[ServerFile, ...]]:
    """*files* by group."""
    found: dict[str, tuple[ServerFile, ...]] = {}
    for one in files:
        found[one.group] = (*found.get(one.group, ()), one)
    return found


def _local_conf(config: Config, server: str, known: ServerSecrets, ports: ServerPorts) -> str:
    one = config.servers[server]
    listening = Listening(ports.imaps, ports.sieve)
    submission = Submission(ports.submission, ports.relay, known.relay) if one.submission else None
    return dovecot.local_conf(listening, one.full_text_search, submission)


def _webmail(
    config: Config, server: str, known: ServerSecrets, ports: ServerPorts, surroundings: Surroundings
) -> list[ServerFile]:
    host = config.servers[server].host
    ses = surroundings.ses_of(config)
    authorities = f"{SETTINGS_IN_CONTAINER}/{AUTHORITIES}" if surroundings.authorities else SYSTEM_AUTHORITIES
    settings = webmail.Settings(
        imap=Service(f"ssl://{_LOOPBACK}:{ports.imaps}", host, authorities),
        sieve=Service(f"ssl://{_LOOPBACK}:{ports.sieve}", host, authorities),
        smtp=Service(f"ssl://{ses.host}:{ses.port}", ses.host, authorities),
        hosts=(host,),
        product=f"Webmail of {config.domains[0]}",
    )
    listen = webmail.listen_conf(str(ports.web), web_names(config), f"[::]:{ports.web}")
    http = webmail.http_conf(str(ports.http), f"[::]:{ports.http}", challenges=CHALLENGES_IN_CONTAINER)
    files = [
        ServerFile(WEB, webmail.LISTEN, listen.encode("ascii")),
        ServerFile(WEB, webmail.HTTP, http.encode("ascii")),
        ServerFile(PHP, webmail.SETTINGS, settings.to_json().encode("ascii")),
        ServerFile(PHP, webmail.IDENTITIES, webmail.identities(config).encode("ascii"), live=True),
    ]
    if known.sender is not None:
        files.append(ServerFile(PHP, webmail.SENDER, known.sender.to_json().encode("ascii"), secret=True))
    if known.des_key:
        files.append(ServerFile(PHP, DES_KEY, known.des_key, secret=True))
    if surroundings.authorities:
        files.append(ServerFile(PHP, AUTHORITIES, surroundings.authorities))
    for name, data in web.files(config, surroundings.site or site(config), {}).items():
        files.append(ServerFile(WEB, f"{webmail.FILES}/{name}", data, live=True))
    return files


def _sender(data: bytes) -> Sender:
    try:
        document = json.loads(data)
        return Sender(document["user"], document["password"])
    except (ValueError, TypeError, KeyError) as error:
        raise NoSecrets(
            "secret smtp/webmail: expected JSON with user and password; make it anew with: "
            "./inv secrets rotate smtp"
        ) from error
