"""The cloud stack as a template: ``lambda/stack.yaml``, rendered for servers, domains and mailboxes. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import yaml

from twinmail import sending_policy, smtp_credentials
from twinmail.config import Config
from twinmail.errors import PermanentError

RESOURCES = 500
"""Resources of one template, two of them a mailbox (CloudFormation User Guide, "Quotas")."""


REASON = "Why"
"""The key of a statement that says what it is for."""


class TemplateError(PermanentError):
    """The configuration gives no template that CloudFormation takes."""


def render(template: str, config: Config) -> dict[str, Any]:
    """The template for *config*: what is there once a server, domain or mailbox copied into ``Resources``.

    Raises:
        TemplateError: two names give one resource, or there are more resources than CloudFormation takes.
        SendingPolicyError: a mailbox has more addresses than its policy holds.
    """
    document: dict[str, Any] = json.loads(_parsed(template))
    metadata = document.pop("Metadata")
    ours = sending_policy.all_senders(config)
    for name in config.servers:
        values: dict[str, str | Sequence[str]] = {
            "Server": name,
            "Id": name.title().replace("-", ""),
            "Senders": ours,
        }
        _copy(document, metadata["PerServer"], str(values["Id"]), values)
        if config.servers[name].submission:
            _copy(document, metadata["PerRelay"], str(values["Id"]), values)
    for domain in config.domains:
        # By name, not by number: a domain put before another must not touch the other's identity.
        suffix = hashlib.sha256(domain.encode()).hexdigest()[:8]
        values = {"Domain": domain, "MailFrom": config.mail_from(domain)}
        _copy(document, metadata["PerDomain"], suffix, values)
    for mailbox in smtp_credentials.names(config):
        webmail, suffix = mailbox == smtp_credentials.WEBMAIL, _suffix(mailbox)
        own = ours if webmail else sending_policy.senders_of(config, mailbox)
        others = () if webmail else sending_policy.strangers_to(config, mailbox)
        values = {"Mailbox": mailbox, "Id": suffix, "Senders": own, "Strangers": others}
        _copy(document, metadata["PerMailbox"], suffix, values)
        policy = document["Resources"][f"SmtpPolicy{suffix}"]["Properties"]["PolicyDocument"]
        if not others:
            # A condition without a value is refused.
            del policy["Statement"][0]["Condition"]["StringNotLike"]
        sending_policy.check(config, mailbox, policy)
    count = len(document["Resources"])
    if count > RESOURCES:
        raise TemplateError(
            f"{len(config.mailboxes)} mailboxes make {count} resources, CloudFormation takes {RESOURCES}; "
            "divide them between two stacks"
        )
    return document


def without_reasons(node: Any) -> Any:
    """*node* without what only people and `twinmail.iam` read: ``Why`` in the statements of policies."""
    if isinstance(node, dict):
        return {
            key: without_reasons(value)
            for key, value in node.items()
            if not (key == REASON and "Effect" in node)
        }
    return [without_reasons(one) for one in node] if isinstance(node, list) else node


@cache
def _parsed(template: str) -> str:
    """*template* as JSON, which is read a hundred times faster, without what CloudFormation does not read."""
    return json.dumps(without_reasons(yaml.safe_load(template)))


def _suffix(mailbox: str) -> str:
    """Part of a logical id, which has letters and digits alone: readable, and one name's only."""
    readable = re.sub("[^A-Za-z0-9]", "", mailbox.title())
    return f"{readable}{hashlib.sha256(mailbox.encode()).hexdigest()[:8]}"


def _copy(
    document: dict[str, Any],
    resources: Mapping[str, Any],
    suffix: str,
    values: Mapping[str, str | Sequence[str]],
) -> None:
    for logical_id, resource in resources.items():
        text = json.dumps(resource)
        for name, value in values.items():
            if isinstance(value, str):
                text = text.replace(f"${{{name}}}", value)
            else:
                text = text.replace(f'"${{{name}}}"', json.dumps(value))
        if f"{logical_id}{suffix}" in document["Resources"]:
            raise TemplateError(
                f"names give {logical_id}{suffix} twice: servers must differ in more than '-', and no "
                f"mailbox may be called {smtp_credentials.WEBMAIL}; rename one in twinmail.toml"
            )
        document["Resources"][f"{logical_id}{suffix}"] = json.loads(text)
