"""IAM policies, as the emulator evaluates them."""

from typing import Any

import pytest

from twinmail_localstack.policy import allows, like


def statement(effect: str = "Allow", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": "ses:SendRawEmail", "Resource": "*", **more}


def permits(*statements: dict[str, Any], resource: str = "arn:x", **keys: tuple[str, ...]) -> bool:
    context = {name.replace("_", ":"): values for name, values in keys.items()}
    return allows([{"Statement": list(statements)}], "ses:SendRawEmail", resource, context)


def test_nothing_said_is_not_allowed() -> None:
    assert not permits()
    assert not allows([], "ses:SendRawEmail", "arn:x", {})


def test_deny_wins_over_any_allow() -> None:
    assert permits(statement())
    assert not permits(statement(), statement("Deny"))
    assert not allows(
        [{"Statement": statement()}, {"Statement": statement("Deny")}], "ses:SendRawEmail", "arn:x", {}
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"Action": "SES:sendrawemail"}, True),
        ({"Action": ["s3:*", "ses:Send*"]}, True),
        ({"Action": "ses:SendEmail"}, False),
        ({"Action": None, "NotAction": "s3:*"}, True),
        ({"Action": None, "NotAction": "ses:*"}, False),
        ({"Resource": "arn:?"}, True),
        ({"Resource": "ARN:X"}, False),
        ({"NotResource": "arn:x"}, False),
    ],
)
def test_actions_and_resources(more: dict[str, Any], expected: bool) -> None:
    made = {key: value for key, value in statement(**more).items() if value is not None}
    assert permits(made) is expected


@pytest.mark.parametrize(
    ("operator", "expected", "values", "holds"),
    [
        ("StringEquals", "a@b", ("a@b",), True),
        ("StringEquals", "a*", ("ab",), False),
        ("StringEquals", ["x", "a@b"], ("a@b",), True),
        ("StringEqualsIgnoreCase", "A@b", ("a@B",), True),
        ("StringLike", "*@b", ("a@b",), True),
        ("StringLike", "*@b", ("a@B",), False),
        ("StringLike", "a?@b", ("a@b",), False),
        ("StringNotLike", "*@b", ("a@c",), True),
        ("StringNotLike", ["*@c", "*@b"], ("a@b",), False),
        ("StringNotEquals", "a", ("a",), False),
        ("ForAllValues:StringLike", "*@b", ("a@b", "c@b"), True),
        ("ForAllValues:StringLike", "*@b", ("a@b", "c@d"), False),
        ("ForAnyValue:StringLike", "*@b", ("a@d", "c@b"), True),
        ("NumericEquals", "1", ("1",), False),
    ],
)
def test_conditions(operator: str, expected: Any, values: tuple[str, ...], holds: bool) -> None:
    made = statement(Condition={operator: {"ses:FromAddress": expected}})
    assert permits(made, ses_FromAddress=values) is holds


def test_keys_that_are_absent() -> None:
    def made(operator: str, value: str = "x") -> dict[str, Any]:
        return statement(Condition={operator: {"ses:FeedbackAddress": value}})

    assert not permits(made("StringLike"))
    assert permits(made("StringLikeIfExists"))
    assert permits(made("StringNotLike"))
    assert permits(made("Null", "true")) and not permits(made("Null", "false"))


def test_names_of_keys_ignore_case() -> None:
    made = statement(Condition={"StringLike": {"SES:fromaddress": "a"}})
    assert permits(made, ses_FromAddress=("a",))


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("a.c", "abc", False),
        ("a${*}c", "a*c", True),
        ("a${*}c", "abc", False),
        ("${?}${$}", "?$", True),
        ("*", "", True),
        ("*", "a\nb", True),
    ],
)
def test_patterns(pattern: str, text: str, expected: bool) -> None:
    assert like(pattern, text) is expected
