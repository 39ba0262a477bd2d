"""The configuration: ``twinmail.toml`` as frozen dataclasses, with every problem reported at once.

This is also the only module that reads the process environment; the AWS SDKs read their own standard
variables (``AWS_REGION``, ``AWS_ENDPOINT_URL``, …) themselves.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from twinmail.errors import ConfigError
from twinmail.production import Budget, Dns, Kubernetes, Lightsail, Packs, Retention, Usage

FILE = "twinmail.toml"


@dataclass(frozen=True)
class Limits:
    """Bounds that keep one large message, or many, from taking a server down.

    Attributes:
        message_bytes: octets of the largest message accepted (SES stores at most 40 MB in S3).
        parallel_downloads: objects a syncer fetches at once.
        download_bytes: octets a syncer holds in memory at once.
        quota_bytes: octets of a mailbox on a server, where the mailbox does not say otherwise.
    """

    message_bytes: int = 40 * 1024 * 1024
    parallel_downloads: int = 32
    download_bytes: int = 256 * 1024 * 1024
    quota_bytes: int = 10 * 1024 * 1024 * 1024


@dataclass(frozen=True)
class Server:
    """One of the mail servers.

    Attributes:
        host: the name clients connect to.
        webmail: whether it serves Roundcube.
        submission: whether it takes mail from clients and sends it on to SES.
        full_text_search: whether it keeps an index of the words in messages.
        addresses: where it is reached, if AWS does not know: IP addresses, or one other name of it.
        lightsail: the machine that AWS rents us for it.
        kubernetes: the cluster that runs it.
    """

    name: str
    platform: str
    host: str
    webmail: bool = False
    submission: bool = False
    full_text_search: bool = True
    addresses: tuple[str, ...] = ()
    lightsail: Lightsail | None = None
    kubernetes: Kubernetes | None = None


@dataclass(frozen=True)
class Mailbox:
    """One IMAP user and the addresses delivered to it (lower case; ``*@domain`` is a catch-all).

    Attributes:
        quota_bytes: octets of it on a server, if not `Limits.quota_bytes`.
        full_name: what stands before the address in From, or empty.
    """

    name: str
    addresses: tuple[str, ...]
    quota_bytes: int | None = None
    full_name: str = ""


@dataclass(frozen=True)
class Config:
    """Everything that twinmail is told; all AWS names derive from it.

    Attributes:
        aliases: mailbox names by address.
        operator: address of the person whom certificate authorities and other mail servers write to.
    """

    region: str
    stack: str
    bucket: str
    domains: tuple[str, ...]
    mailboxes: Mapping[str, Mailbox]
    aliases: Mapping[str, tuple[str, ...]]
    servers: Mapping[str, Server]
    limits: Limits = field(default_factory=Limits)
    operator: str | None = None
    budget: Budget = field(default_factory=Budget)
    retention: Retention = field(default_factory=Retention)
    dns: Dns = field(default_factory=Dns)
    usage: Usage = field(default_factory=Usage)
    packs: Packs = field(default_factory=Packs)

    @classmethod
    def load(cls, path: Path) -> "Config":
        """Read and check the file at *path*.

        Raises:
            ConfigError: all problems together, one line each.
        """
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise ConfigError(path.name, [f"cannot be read: {error.strerror} ({path})"]) from error
        except UnicodeDecodeError as error:
            raise ConfigError(path.name, [f"not UTF-8: octet {error.start}"]) from error
        return cls.parse(text, path.name)

    @classmethod
    def parse(cls, text: str, source: str = FILE) -> "Config":
        """Check the TOML document *text*; see `load`."""
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(source, [f"not TOML: {error}"]) from error
        # It makes this class, and is no part of it.
        from twinmail.config_reader import Reader

        return Reader(source).read(document)

    @property
    def table(self) -> str:
        """Name of the DynamoDB table."""
        return f"{self.stack}-index"

    @property
    def topic(self) -> str:
        """Name of the SNS topic that announces manifest entries."""
        return f"{self.stack}-manifest"

    @property
    def function(self) -> str:
        """Name of the Lambda function."""
        return f"{self.stack}-processor"

    @property
    def compactor(self) -> str:
        """Name of the Lambda function that folds past days into packs."""
        return f"{self.stack}-compactor"

    @property
    def dead_letter_queue(self) -> str:
        """Name of the queue for events the function gave up on."""
        return f"{self.stack}-dead-letters"

    @property
    def arrivals_queue(self) -> str:
        """Name of the queue in which SES tells of each message that it stored, for the reconciler."""
        return f"{self.stack}-arrivals"

    @property
    def rule_set(self) -> str:
        """Name of the SES receipt rule set."""
        return self.stack

    @property
    def rule(self) -> str:
        """Name of the SES receipt rule."""
        return f"{self.stack}-receive"

    @property
    def configuration_set(self) -> str:
        """Name of the SES configuration set, which says who hears of sent mail."""
        return self.stack

    @property
    def outgoing_topic(self) -> str:
        """Name of the SNS topic that announces what became of sent mail."""
        return f"{self.stack}-outgoing"

    @property
    def alarm_topic(self) -> str:
        """Name of the SNS topic that alarms notify."""
        return f"{self.stack}-alarms"

    def mail_from(self, domain: str) -> str:
        """The domain of the envelope sender of what is sent from *domain*: SES takes the bounces there."""
        return f"{self.dns.mail_from}.{domain}"

    @property
    def operator_is_here(self) -> bool:
        """Whether the operator reads mail on the very system that it is to be told about."""
        return self.operator is not None and self.operator.lower().rpartition("@")[2] in self.domains

    def smtp_user(self, mailbox: str) -> str:
        """Name of the IAM user whose access keys are the SMTP credentials of *mailbox*."""
        return f"{self.stack}-smtp-{mailbox}"

    def syncer_user(self, server: str) -> str:
        """Name of the IAM user of the syncer of *server*."""
        return f"{self.stack}-syncer-{server}"

    def relay_user(self, server: str) -> str:
        """Name of the IAM user of the relay of *server*."""
        return f"{self.stack}-relay-{server}"

    def smtp_mailbox(self, user: str) -> str | None:
        """The mailbox whose IAM user is *user*; None if it is none's."""
        name = user.removeprefix(f"{self.stack}-smtp-")
        return name if name != user and name in self.mailboxes else None

    def addresses_of(self, mailbox: str) -> tuple[str, ...]:
        """The addresses that *mailbox* may write from: its own and its aliases, without catch-alls."""
        own = (one for one in self.mailboxes[mailbox].addresses if not one.startswith("*@"))
        shared = (address for address, names in self.aliases.items() if mailbox in names)
        return (*own, *shared)

    def catch_all_domains_of(self, mailbox: str) -> tuple[str, ...]:
        """The domains whose every other address is delivered to *mailbox*."""
        addresses = self.mailboxes[mailbox].addresses
        return tuple(one.removeprefix("*@") for one in addresses if one.startswith("*@"))

    def primary_address(self, mailbox: str) -> str | None:
        """The address that *mailbox* writes from unless its user chooses another; None if it has none."""
        return next(iter(self.addresses_of(mailbox)), None)

    def quota_of(self, mailbox: str) -> int:
        """Octets that *mailbox* may take on a server."""
        quota = self.mailboxes[mailbox].quota_bytes
        return self.limits.quota_bytes if quota is None else quota

    def queue(self, server: str) -> str:
        """Name of the SQS queue of *server*."""
        return f"{self.stack}-{self.servers[server].name}"

    @property
    def receipt_recipients(self) -> tuple[str, ...]:
        """What the receipt rule matches: a whole domain where there is a catch-all, else each address.

        SES refuses everything else during the SMTP conversation, so nobody's mail vanishes after a 250.
        """
        exact = {one for box in self.mailboxes.values() for one in box.addresses} | set(self.aliases)
        whole = {address.removeprefix("*@") for address in exact if address.startswith("*@")}
        named = {one for one in exact if not one.startswith("*@") and one.partition("@")[2] not in whole}
        return tuple(sorted(whole) + sorted(named))


@dataclass(frozen=True)
class Environment:
    """The few variables of the process environment that twinmail knows.

    Attributes:
        debian_mirror: base URL that overrides the Debian mirrors of this machine's apt settings.
        ci: whether a machine, not a person, reads the output.
        home: the user's home directory.
        path: the search path for commands.
    """

    debian_mirror: str | None
    ci: bool
    home: Path
    path: str

    @classmethod
    def read(cls) -> "Environment":
        """Read the variables once; empty counts as not set."""
        return cls(
            debian_mirror=os.environ.get("TWINMAIL_DEBIAN_MIRROR") or None,
            ci=os.environ.get("CI", "") not in ("", "0", "false"),
            home=Path(os.environ.get("HOME") or "/"),
            path=os.environ.get("PATH") or os.defpath,
        )
