"""What the configuration says of production: machines, money, names; nothing here is needed on a laptop."""

from dataclasses import dataclass, field

DMARC_POLICIES = ("none", "quarantine", "reject")
COMPONENTS = ("cert-manager", "cloudflare-tunnel", "service-monitor", "sieve")


@dataclass(frozen=True)
class Budget:
    """What a month may cost.

    Attributes:
        month_usd: dollars, before tax.
        vat_percent: tax that AWS adds.
    """

    month_usd: float = 10.0
    vat_percent: float = 19.0


@dataclass(frozen=True)
class Retention:
    """How long the cloud keeps what is not mail.

    Attributes:
        log_days: logs of the function; one of the numbers that CloudWatch Logs takes.
        deleted_days: earlier versions of objects, and deleted ones.
        archive_days: after which mail moves to a cheaper storage class; 0 is never.
    """

    log_days: int = 30
    deleted_days: int = 30
    archive_days: int = 0


@dataclass(frozen=True)
class Packs:
    """Past days folded into few large objects.

    Attributes:
        wait_days: after which mail is packed although there is not enough of it for a pack of the usual size.
        expire_originals_days: age at which objects that are in a pack may go; 0 is never.
    """

    enabled: bool = True
    wait_days: int = 92
    expire_originals_days: int = 0


@dataclass(frozen=True)
class Dns:
    """Names of the domains.

    Attributes:
        route53: whether Route 53 has the zones, so that records can be written.
        failover: whether ``imap.<domain>`` answers with the first healthy server, which costs a health check.
        dmarc: what receivers are asked to do with mail that only pretends to be ours.
        mail_from: label of the subdomain of each domain that SES names as envelope sender.
    """

    route53: bool = True
    failover: bool = False
    dmarc: str = "quarantine"
    mail_from: str = "bounce"


@dataclass(frozen=True)
class Usage:
    """How much mail a month brings: what the cost is computed for until there is something to measure.

    Attributes:
        stored_gb: GiB of mail in all mailboxes.
        message_kb: mean size of a message, in KiB.
    """

    messages_in: int = 1000
    messages_out: int = 200
    stored_gb: float = 10.0
    message_kb: float = 100.0


@dataclass(frozen=True)
class Lightsail:
    """The virtual machine of a server (Lightsail API, CreateInstances).

    Attributes:
        zone: availability zone.
        ssh_from: networks, in CIDR notation, that may connect by SSH.
        snapshot_hour: hour of the day, UTC, of the automatic snapshot.
    """

    bundle: str = "nano_3_0"
    blueprint: str = "debian_12"
    zone: str = "eu-central-1a"
    ssh_from: tuple[str, ...] = ()
    snapshot_hour: int = 3


@dataclass(frozen=True)
class Kubernetes:
    """Where in which cluster a server runs.

    Attributes:
        context: of the operator's kubeconfig; empty is the current one.
        storage_class: of the volume; empty is the cluster's default.
        storage_gb: size of the volume, in GiB.
        components: optional parts, of `COMPONENTS`.
        registry: where its images are pushed, and where the cluster gets them; empty if not in one.
        nodes: each node that may run the server, as ``ssh`` takes it; images are brought there.
    """

    context: str = ""
    namespace: str = "twinmail"
    storage_class: str = ""
    storage_gb: int = 50
    components: tuple[str, ...] = field(default=())
    registry: str = ""
    nodes: tuple[str, ...] = field(default=())
