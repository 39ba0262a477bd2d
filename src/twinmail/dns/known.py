"""What AWS alone knows of the records: the keys that SES signs with, the address of a rented machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from twinmail.config import Config
from twinmail.errors import TransientError

DKIM_ZONE = "dkim.amazonses.com"
"""Where SES publishes keys, unless it says another."""


class NotAsked(TransientError):
    """AWS refused a question or did not answer."""


@dataclass(frozen=True)
class Identity:
    """What SES says of a domain (SES API v2, GetEmailIdentity).

    Attributes:
        tokens: the names of its keys; none where the owner brought a key of their own.
        dkim: SES's word for what it saw of these records, such as ``PENDING`` or ``SUCCESS``.
        mail_from: domain of the envelope sender; empty is SES's own.
        mail_from_status: as *dkim*.
    """

    tokens: tuple[str, ...]
    dkim: str
    mail_from: str
    mail_from_status: str
    dkim_zone: str = DKIM_ZONE


@dataclass(frozen=True)
class Known:
    """What AWS answered.

    Attributes:
        identities: by domain.
        static_ips: IPv4 address by server, of those at Lightsail.
        asked: whether AWS was asked at all.
    """

    identities: Mapping[str, Identity] = field(default_factory=dict)
    static_ips: Mapping[str, str] = field(default_factory=dict)
    asked: bool = True


def read(config: Config, session: Any) -> Known:
    """Ask AWS by *session*, boto3's or one with its interface.

    Raises:
        NotAsked: transient.
    """
    try:
        ses = session.client("sesv2")
        identities = {domain: _identity(ses, domain) for domain in config.domains}
        rented = [one.name for one in config.servers.values() if one.lightsail and not one.addresses]
        lightsail = session.client("lightsail") if rented else None
        addresses = {name: _address(lightsail, static_ip_name(config, name)) for name in rented}
    except (BotoCoreError, ClientError) as error:
        raise NotAsked(f"AWS, {config.region}: {error}; check the credentials and the region") from error
    return Known(
        {domain: one for domain, one in identities.items() if one},
        {name: one for name, one in addresses.items() if one},
    )


def static_ip_name(config: Config, server: str) -> str:
    """Lightsail's name of the address of *server*, as `twinmail.deploy.lightsail` gives it."""
    return f"{config.stack}-{server}-ip"


def _identity(ses: Any, domain: str) -> Identity | None:
    try:
        found = ses.get_email_identity(EmailIdentity=domain)
    except ses.exceptions.NotFoundException:
        return None
    dkim, envelope = found.get("DkimAttributes", {}), found.get("MailFromAttributes", {})
    own = dkim.get("SigningAttributesOrigin") == "EXTERNAL"
    return Identity(
        tokens=() if own else tuple(dkim.get("Tokens", ())),
        dkim=dkim.get("Status", "NOT_STARTED"),
        mail_from=envelope.get("MailFromDomain", ""),
        mail_from_status=envelope.get("MailFromDomainStatus", "") if envelope.get("MailFromDomain") else "",
        dkim_zone=(dkim.get("SigningHostedZone") or DKIM_ZONE).rstrip("."),
    )


def _address(lightsail: Any, name: str) -> str:
    try:
        return str(lightsail.get_static_ip(staticIpName=name)["staticIp"]["ipAddress"])
    except lightsail.exceptions.NotFoundException:
        return ""
