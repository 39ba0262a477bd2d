"""From which addresses an IAM user may send: patterns for the condition keys of SES.

IAM compares with ``StringLike``: case matters, ``*`` and ``?`` are wildcards, and ``${*}``, ``${?}`` and
``${$}`` stand for the characters themselves (IAM User Guide, "Policy variables"). SES's keys:
``ses:FromAddress`` is the address in the From field, ``ses:FeedbackAddress`` the Return-Path, by SMTP
MAIL FROM (SES Developer Guide, "Identity and access management in Amazon SES").
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from twinmail.config import Config
from twinmail.errors import PermanentError

POLICY_CHARACTERS = 6144
"""Characters of a managed policy, white space not counted (IAM User Guide, "IAM and AWS STS quotas")."""

USER_NAME_CHARACTERS = 64
"""Characters of the name of an IAM user."""


class SendingPolicyError(PermanentError):
    """A mailbox cannot have its user or its policy."""


def senders_of(config: Config, mailbox: str) -> tuple[str, ...]:
    """Patterns of what *mailbox* may write from: its addresses, also with a tag, and its whole catch-alls."""
    whole = config.catch_all_domains_of(mailbox)
    own = (one for one in config.addresses_of(mailbox) if one.rpartition("@")[2] not in whole)
    return (*(f"*@{domain}" for domain in whole), *_tagged(own))


def strangers_to(config: Config, mailbox: str) -> tuple[str, ...]:
    """Patterns of what a catch-all of *mailbox* does not mean: addresses there that belong to others."""
    whole, own = config.catch_all_domains_of(mailbox), config.addresses_of(mailbox)
    others = [
        address for name in config.mailboxes if name != mailbox for address in config.addresses_of(name)
    ]
    return _tagged(one for one in dict.fromkeys(others) if one not in own and one.rpartition("@")[2] in whole)


def _tagged(addresses: Iterable[str]) -> tuple[str, ...]:
    """*addresses* and their forms with a tag: what is written to user+tag@ is also answered from there."""
    patterns: list[str] = []
    for address in addresses:
        local, _, domain = address.rpartition("@")
        patterns.append(f"{_literal(local)}@{domain}")
        if "+" not in local:
            patterns.append(f"{_literal(local)}+*@{domain}")
    return tuple(patterns)


def all_senders(config: Config) -> tuple[str, ...]:
    """Patterns of everything at our domains, for what sends on behalf of all mailboxes."""
    return tuple(f"*@{domain}" for domain in config.domains)


def check(config: Config, mailbox: str, policy: Mapping[str, Any]) -> None:
    """Refuse what IAM would refuse only in the middle of a deployment.

    Raises:
        SendingPolicyError: the name of the user or the *policy* is too long.
    """
    name = config.smtp_user(mailbox)
    if len(name) > USER_NAME_CHARACTERS:
        raise SendingPolicyError(
            f"mailbox {mailbox}: its IAM user {name} has {len(name)} characters, IAM takes "
            f"{USER_NAME_CHARACTERS}; choose a shorter name or a shorter stack in twinmail.toml"
        )
    size = len(json.dumps(policy, separators=(",", ":")))
    if size > POLICY_CHARACTERS:
        remedy = (
            "give its catch-all a domain with fewer addresses of others"
            if config.catch_all_domains_of(mailbox)
            else "give it fewer addresses, or the catch-all *@domain, which counts once,"
        )
        raise SendingPolicyError(
            f"mailbox {mailbox}: what it may send from makes a policy of {size} characters, IAM takes "
            f"{POLICY_CHARACTERS}; {remedy} in twinmail.toml"
        )


def _literal(text: str) -> str:
    return "".join(f"${{{one}}}" if one in "*?$" else one for one in text)
