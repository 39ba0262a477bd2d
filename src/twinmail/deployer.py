"""What the person or machine that deploys may do: the policies of ``lambda/deployer.yaml``. Pure."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import yaml

from twinmail.certificate.names import DNS, NoChallenge, request
from twinmail.config import Config
from twinmail.errors import PermanentError
from twinmail.stack_template import without_reasons

MANAGED_OCTETS = 6144
"""Characters of a managed policy, white space not counted (IAM User Guide, "IAM and AWS STS quotas")."""

_PLACE = re.compile(r"\$\{([A-Za-z]+)\}")


class NoPart(PermanentError):
    """There is no policy of that name."""


@dataclass(frozen=True)
class Part:
    """One policy.

    Attributes:
        name: of the part, in lower case.
        document: as IAM takes it.
    """

    name: str
    why: str
    document: Mapping[str, Any]


def parts(text: str, config: Config, account: str = "*") -> tuple[Part, ...]:
    """The policies that deploying *config* needs, of *text*, ``lambda/deployer.yaml``.

    Args:
        account: number of the account; a policy of an account's user reaches no other anyway.
    """
    challenges = _challenges(config)
    needed = {
        "Machines": any(one.lightsail for one in config.servers.values()),
        "Names": config.dns.route53,
        "Certificates": bool(challenges),
    }
    places = {
        "Prefix": config.stack,
        "BucketName": config.bucket,
        "Region": config.region,
        "Account": account,
        "Challenges": challenges,
    }
    return tuple(
        Part(name.lower(), body["Why"], _document(body, places))
        for name, body in yaml.safe_load(text).items()
        if needed.get(name, True)
    )


def part(found: tuple[Part, ...], name: str) -> Part:
    """The one of *found* with that *name*.

    Raises:
        NoPart: there is none; the message lists them.
    """
    for one in found:
        if one.name == name:
            return one
    raise NoPart(f"--part {name}: expected one of {', '.join(one.name for one in found)}")


def statements(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The statements of a part, each with the condition that ``Via`` stands for."""
    found = []
    for one in body["Statement"]:
        statement = {"Effect": "Allow", **one}
        if "Via" in body:
            via = {"ForAnyValue:StringEquals": {"aws:CalledVia": body["Via"]}}
            statement["Condition"] = {**one.get("Condition", {}), **via}
        found.append(statement)
    return found


def _challenges(config: Config) -> list[str]:
    """The records by which the servers show that their names are their own (RFC 8555, section 8.4)."""
    names: set[str] = set()
    for server in config.servers:
        with suppress(NoChallenge):
            wanted = request(config, server)
            names |= set(wanted.names) if wanted.challenge == DNS else set()
    return [f"_acme-challenge.{name}" for name in sorted(names)]


def _document(body: Mapping[str, Any], places: Mapping[str, Any]) -> dict[str, Any]:
    document = {"Version": "2012-10-17", "Statement": without_reasons(statements(body))}
    filled: dict[str, Any] = _filled(document, places)
    return filled


def _filled(node: Any, places: Mapping[str, Any]) -> Any:
    if isinstance(node, str):
        # A list takes the place of the whole text.
        if (whole := _PLACE.fullmatch(node)) and isinstance(places[whole[1]], list):
            return places[whole[1]]
        return _PLACE.sub(lambda found: places[found[1]], node)
    if isinstance(node, dict):
        return {key: _filled(value, places) for key, value in node.items()}
    return [_filled(one, places) for one in node] if isinstance(node, list) else node
