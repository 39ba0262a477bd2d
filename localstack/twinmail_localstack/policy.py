"""IAM policies, as far as they say who may do what: Allow, Deny, wildcards and conditions on strings. Pure.

Source: IAM User Guide, "Policy evaluation logic" and "IAM JSON policy elements: Condition operators".
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]
Context = Mapping[str, Sequence[str]]
"""Values by condition key; a key that the request does not have is absent."""

_TOKEN = re.compile(r"\$\{([*?$])\}|(\*)|(\?)")
_SETS = ("ForAllValues:", "ForAnyValue:")


def allows(policies: Iterable[Document], action: str, resource: str, context: Context) -> bool:
    """Whether *policies* together allow *action* on *resource*: some Allow, and no Deny."""
    effects = {
        statement.get("Effect")
        for policy in policies
        for statement in _list(policy.get("Statement"))
        if _applies(statement, action, resource, context)
    }
    return "Allow" in effects and "Deny" not in effects


def like(pattern: str, text: str) -> bool:
    """Whether *text* is *pattern*, with ``*``, ``?`` and their literal forms ``${*}``, ``${?}``, ``${$}``."""
    parts, end = [], 0
    for found in _TOKEN.finditer(pattern):
        parts.append(re.escape(pattern[end : found.start()]))
        literal, many, _ = found.groups()
        parts.append(re.escape(literal) if literal else ".*" if many else ".")
        end = found.end()
    parts.append(re.escape(pattern[end:]))
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def _applies(statement: Document, action: str, resource: str, context: Context) -> bool:
    return (
        _named(statement, "Action", action.lower(), lambda text: text.lower())
        and _named(statement, "Resource", resource, str)
        and all(
            _holds(operator, key, _list(values), context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _named(statement: Document, element: str, name: str, normal: Callable[[str], str]) -> bool:
    if f"Not{element}" in statement:
        return not any(like(normal(one), name) for one in _list(statement[f"Not{element}"]))
    return any(like(normal(one), name) for one in _list(statement.get(element)))


def _holds(operator: str, key: str, expected: Sequence[str], context: Context) -> bool:
    """Whether one condition holds. An operator that is not known here never does."""
    prefix = next((one for one in _SETS if operator.startswith(one)), "")
    name = operator.removeprefix(prefix)
    optional = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    values = next((context[one] for one in context if one.lower() == key.lower()), None)
    if name == "Null":
        return (str(expected[0]).lower() == "true") == (values is None)
    negated = "Not" in name
    match = _MATCHES.get(name.replace("Not", ""))
    if match is None:
        return False
    if values is None:
        return optional or negated or prefix == "ForAllValues:"
    hits = [any(match(one, value) for one in expected) for value in values]
    if negated:
        return any(not hit for hit in hits) if prefix == "ForAnyValue:" else not any(hits)
    return all(hits) if prefix == "ForAllValues:" else any(hits)


_MATCHES: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda expected, value: like(expected.replace("*", "${*}").replace("?", "${?}"), value),
    "StringEqualsIgnoreCase": lambda expected, value: expected.lower() == value.lower(),
    "StringLike": like,
    "ArnEquals": like,
    "ArnLike": like,
}


def _list(value: Any) -> Sequence[Any]:
    return () if value is None else value if isinstance(value, list | tuple) else (value,)
