"""Who may do what in the cloud, and why: read from ``lambda/stack.yaml`` for docs/iam.md. Pure.

Every statement of every policy in the template says what it is for under ``Why``; a statement without it is
an error, so no permission comes in without a reason.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from twinmail.deployer import statements
from twinmail.errors import PermanentError
from twinmail.stack_template import REASON

BEGIN, END = "<!-- permissions: written by the tests -->", "<!-- end of permissions -->"
DEPLOYER_BEGIN = "<!-- permissions of who deploys: written by the tests -->"
DEPLOYER_END = "<!-- end of permissions of who deploys -->"
STACK, DEPLOYER = "lambda/stack.yaml", "lambda/deployer.yaml"

_PLACES = {
    "AWS::Partition": "aws",
    "AWS::Region": "REGION",
    "AWS::AccountId": "ACCOUNT",
    "BucketName": "BUCKET",
    "Prefix": "STACK",
    "Server": "SERVER",
    "Mailbox": "MAILBOX",
    "Domain": "DOMAIN",
    "Region": "REGION",
    "Account": "ACCOUNT",
}
# Parts of deployer.yaml that are not for who deploys.
_OTHERS = {"Certificates": "who gets certificates"}
_SUBSTITUTION = re.compile(r"\$\{([A-Za-z:]+)\}")


class NoReason(PermanentError):
    """A statement does not say what it is for."""


@dataclass(frozen=True)
class Grant:
    """One statement of a policy.

    Attributes:
        where: what the policy belongs to: a user, a role, or what it protects.
        who: who may do it; the same as *where* for policies of users and roles.
        denied: whether it forbids.
        conditions: ``key operator value``, for people.
    """

    where: str
    who: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[str, ...]
    why: str
    denied: bool = False


def grants(template: str) -> tuple[Grant, ...]:
    """Every statement of *template*, the text of ``lambda/stack.yaml``.

    Raises:
        NoReason: see there.
    """
    document = yaml.safe_load(template)
    groups = [document["Resources"], *document["Metadata"].values()]
    return tuple(
        grant
        for group in groups
        for name, resource in group.items()
        for grant in _of_resource(name, resource)
    )


def deployer_grants(text: str) -> tuple[Grant, ...]:
    """Every statement of *text*, the text of ``lambda/deployer.yaml``.

    Raises:
        NoReason: see there.
    """
    return tuple(
        replace(grant, who=_OTHERS.get(name, "who deploys"))
        for name, body in yaml.safe_load(text).items()
        for grant in _statements(name, f"part {name.lower()}", {"Statement": statements(body)}, DEPLOYER)
    )


def table(found: Sequence[Grant]) -> str:
    """*found* as Markdown, a table for each user, role or protected resource."""
    parts = []
    for where in dict.fromkeys(one.where for one in found):
        parts.append(f"### {where}\n\n| who | action | resource | why |\n|---|---|---|---|\n")
        for one in found:
            if one.where == where:
                actions = "<br>".join(f"`{text}`" for text in one.actions)
                resources = "<br>".join(f"`{text}`" for text in one.resources)
                only = "".join(f"<br>only if {text}" for text in one.conditions)
                who = f"**denied** to {one.who}" if one.denied else one.who
                parts.append(f"| {who} | {actions} | {resources}{only} | {one.why} |\n")
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def documented(text: str, template: str, deployer: str) -> str:
    """*text*, docs/iam.md, with the tables that *template* and *deployer* make between their marks."""
    for begin, end, found in (
        (BEGIN, END, grants(template)),
        (DEPLOYER_BEGIN, DEPLOYER_END, deployer_grants(deployer)),
    ):
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}\n\n{table(found)}\n{end}{tail}"
    return text


def _of_resource(name: str, resource: Mapping[str, Any]) -> Iterator[Grant]:
    kind, properties = resource["Type"], resource.get("Properties", {})
    if kind == "AWS::IAM::Role":
        where = f"role of {name.removesuffix('Role')}"
        yield from _statements(name, where, properties["AssumeRolePolicyDocument"])
        for policy in properties.get("Policies", ()):
            yield from _statements(name, where, policy["PolicyDocument"])
    elif kind == "AWS::IAM::ManagedPolicy":
        yield from _statements(
            name, f"user {_text(properties['ManagedPolicyName'])}", properties["PolicyDocument"]
        )
    elif kind == "AWS::Lambda::Permission":
        statement = {
            "Action": properties["Action"],
            "Effect": "Allow",
            "Principal": {"Service": properties["Principal"]},
            "Condition": {"ArnLike": {"aws:SourceArn": properties["SourceArn"]}},
            REASON: resource.get("Metadata", {}).get(REASON),
        }
        yield from _statements(name, f"on {_text(properties['FunctionName'])}", {"Statement": [statement]})
    elif isinstance(properties.get("PolicyDocument"), Mapping):
        protected = (
            properties.get("Bucket") or [*properties.get("Topics", ()), *properties.get("Queues", ())][0]
        )
        yield from _statements(name, f"on {_text(protected)}", properties["PolicyDocument"])


def _statements(name: str, where: str, policy: Mapping[str, Any], source: str = STACK) -> Iterator[Grant]:
    for number, one in enumerate(policy["Statement"], 1):
        why = one.get(REASON)
        if not isinstance(why, str) or not why.strip():
            raise NoReason(
                f"{source}: {name}: statement {number} ({', '.join(_list(one['Action']))}): "
                f"expected {REASON} with what it is for, got none"
            )
        principal = one.get("Principal")
        who = where if principal is None else _who(principal)
        yield Grant(
            where,
            who,
            tuple(_list(one["Action"])),
            tuple(_text(text) for text in _list(one.get("Resource", "itself"))),
            tuple(_conditions(one.get("Condition", {}))),
            why.strip(),
            one["Effect"] == "Deny",
        )


def _who(principal: Any) -> str:
    return "everybody" if principal == "*" else str(next(iter(principal.values())))


def _conditions(condition: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for operator, keys in condition.items():
        for key, values in keys.items():
            wanted = " or ".join(f"`{_text(one)}`" for one in _list(values))
            yield f"`{key}` {operator} {wanted}"


def _text(value: Any) -> str:
    """An intrinsic function as people read it."""
    if isinstance(value, Mapping):
        (function, argument), *_ = value.items()
        if function == "Fn::GetAtt":
            return _plain(argument[0])
        return _plain(argument) if function == "Fn::Sub" else _PLACES.get(argument, _plain(argument))
    return _plain(str(value))


def _plain(text: str) -> str:
    return _SUBSTITUTION.sub(lambda found: _PLACES.get(found[1], f"{{{found[1]}}}"), text).replace("{Id}", "")


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]
