"""Receipt rules: what they match, in which order their actions come, and where they stop."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmail_localstack.edge.receipt import (
    S3,
    AddHeader,
    Bounce,
    Disposition,
    Ignored,
    Lambda,
    Rule,
    RuleSet,
    Sns,
    Step,
    Stop,
    following,
    matches,
)


@pytest.mark.parametrize(
    ("condition", "recipient", "expected"),
    [
        ("user@example.com", "user@example.com", True),
        ("user@example.com", "USER@Example.COM", True),
        ("User@Example.com", "user@example.com", True),
        ("user@example.com", "user+label@example.com", True),
        ("user@example.com", "user+a+b@example.com", True),
        ("user@example.com", "other@example.com", False),
        ("user@example.com", "user@sub.example.com", False),
        ("user+label@example.com", "user+label@example.com", True),
        ("user+label@example.com", "user+other@example.com", False),
        ("user+label@example.com", "user@example.com", False),
        ("example.com", "any+thing@example.com", True),
        ("example.com", "any@sub.example.com", False),
        ("example.com", "any@notexample.com", False),
        (".example.com", "any@sub.example.com", True),
        (".example.com", "any@a.b.example.com", True),
        (".example.com", "any@example.com", False),
        (".example.com", "any@notexample.com", False),
        ("sub.example.com", "any@sub.example.com", True),
        ("example.com", "postmaster", False),
        ("example.com", '"odd@local"@example.com', True),
    ],
)
def test_recipient_conditions(condition: str, recipient: str, expected: bool) -> None:
    assert matches(condition, recipient) is expected


def test_rule_is_read_from_the_api() -> None:
    rule = Rule.from_api(
        {
            "Name": "all",
            "Enabled": True,
            "TlsPolicy": "Require",
            "ScanEnabled": True,
            "Recipients": ["example.com"],
            "Actions": [
                {"AddHeaderAction": {"HeaderName": "X-A", "HeaderValue": "b"}},
                {"S3Action": {"BucketName": "mail", "ObjectKeyPrefix": "in/", "TopicArn": "t"}},
                {"LambdaAction": {"FunctionArn": "f", "InvocationType": "RequestResponse"}},
                {"LambdaAction": {"FunctionArn": "f"}},
                {"SNSAction": {"TopicArn": "t", "Encoding": "Base64"}},
                {"BounceAction": {"SmtpReplyCode": "550", "Message": "no", "Sender": "m@example.com"}},
                {"WorkmailAction": {"OrganizationArn": "o"}},
                {"StopAction": {"Scope": "RuleSet"}},
            ],
        }
    )
    assert rule == Rule(
        "all",
        ("example.com",),
        (
            AddHeader("X-A", "b"),
            S3("mail", "in/", "t"),
            Lambda("f", wait=True),
            Lambda("f"),
            Sns("t", "Base64"),
            Bounce("550", "5.0.0", "no", "m@example.com"),
            Ignored("WorkmailAction"),
            Stop(),
        ),
        enabled=True,
        scan=True,
        require_tls=True,
    )


def test_rule_without_condition_takes_the_verified_domains_and_their_subdomains() -> None:
    rules = RuleSet((Rule("all", enabled=True),), domains=("example.com",))
    assert rules.matching("a@example.com")
    assert rules.matching("a@b.example.com")
    assert not rules.matching("a@example.net")


def test_disabled_rules_and_an_empty_rule_set_match_nothing() -> None:
    assert not RuleSet().matching("a@example.com")
    assert not RuleSet((Rule("off", ("example.com",), enabled=False),)).matching("a@example.com")


def test_each_rule_acts_once_for_all_recipients_it_matches_in_order() -> None:
    rules = RuleSet(
        (
            Rule("first", ("example.com",), (S3("a"), Lambda("f")), enabled=True),
            Rule("none", ("example.net",), (S3("b"),), enabled=True),
            Rule("last", ("ann@example.com", "x@example.org"), (Stop(),), enabled=True),
        )
    )
    assert rules.plan(["bob@example.com", "ann@example.com", "x@example.org"]) == (
        Step("first", ("bob@example.com", "ann@example.com"), S3("a")),
        Step("first", ("bob@example.com", "ann@example.com"), Lambda("f")),
        Step("last", ("ann@example.com", "x@example.org"), Stop()),
    )


def test_scanning_is_on_if_any_matching_rule_wants_it() -> None:
    rules = RuleSet(
        (Rule("a", ("example.com",), enabled=True), Rule("b", ("ann@example.com",), enabled=True, scan=True))
    )
    assert rules.scans(["bob@example.com", "ann@example.com"])
    assert not rules.scans(["bob@example.com"])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"disposition": "STOP_RULE"}, Disposition.STOP_RULE),
        ({"disposition": "stop_rule_set"}, Disposition.STOP_RULE_SET),
        ({"disposition": "CONTINUE"}, Disposition.CONTINUE),
        ({"disposition": "HALT"}, Disposition.CONTINUE),
        ({"disposition": 7}, Disposition.CONTINUE),
        ({}, Disposition.CONTINUE),
        (None, Disposition.CONTINUE),
        ("STOP_RULE", Disposition.CONTINUE),
    ],
)
def test_what_a_function_may_answer(answer: object, expected: Disposition) -> None:
    assert Disposition.of(answer) is expected


steps = st.lists(st.integers(1, 4), max_size=4).map(
    lambda sizes: tuple(Step(f"rule {n}", (), Stop()) for n, size in enumerate(sizes) for _ in range(size))
)


@given(steps, st.data())
def test_stopping_skips_exactly_the_rest_of_the_rule_or_of_the_set(
    plan: tuple[Step, ...], data: st.DataObject
) -> None:
    position = 0
    while position < len(plan):
        disposition = data.draw(st.sampled_from(Disposition))
        after = following(plan, position, disposition)
        if disposition is Disposition.CONTINUE:
            assert after == position + 1
        elif disposition is Disposition.STOP_RULE_SET:
            assert after == len(plan)
        else:
            assert all(one.rule == plan[position].rule for one in plan[position:after])
            assert after == len(plan) or plan[after].rule != plan[position].rule
        assert after > position
        position = after
