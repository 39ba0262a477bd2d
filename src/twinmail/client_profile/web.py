"""The files that the web server serves to clients, by path; pure."""

from collections.abc import Mapping

from twinmail.client_profile import apple, discovery, records
from twinmail.client_profile.site import Site
from twinmail.config import Config


def files(
    config: Config, site: Site, smtp_users: Mapping[str, str], signer: apple.Signer | None = None
) -> dict[str, bytes]:
    """Every file, by its path below the web server's folder.

    Args:
        smtp_users: user names for SES by mailbox, as far as they are known.
    """
    autoconfig = discovery.autoconfig(config, site)
    found = {
        "mail/config-v1.1.xml": autoconfig,
        ".well-known/autoconfig/mail/config-v1.1.xml": autoconfig,
        "autodiscover/autodiscover.xml": discovery.autodiscover(site),
        ".well-known/mta-sts.txt": records.mta_sts_policy(config),
    }
    for mailbox in config.mailboxes:
        for address in config.addresses_of(mailbox):
            # An alias of several mailboxes has one path and no single owner.
            if len(config.aliases.get(address, (mailbox,))) == 1:
                smtp_user = smtp_users.get(mailbox, "")
                found[f"mobileconfig/{address}{apple.SUFFIX}"] = apple.profile(
                    config, site, mailbox, address, smtp_user, signer
                )
    return found
