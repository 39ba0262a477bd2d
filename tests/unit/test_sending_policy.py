"""From which addresses a mailbox may send: the patterns in its policy, as IAM reads them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import CONFIG
from twinmail.config import Config, Mailbox
from twinmail.sending_policy import SendingPolicyError, senders_of, strangers_to
from twinmail.stack_template import TemplateError, render
from twinmail_localstack.policy import allows

TEMPLATE = Path(__file__).parents[2] / "lambda" / "stack.yaml"
RESOURCE = "arn:aws:ses:eu-central-1:000000000000:identity/example.org"

MANY = Config.parse(
    """
region = "eu-central-1"
stack = "tests"
bucket = "tests-example-mail"
domains = ["example.org", "example.net"]
[mailboxes.ann]
addresses = ["ann@example.org", "*@example.net"]
[mailboxes.bob]
addresses = ["bob@example.org", "bob@example.net", "b?b@example.org", "bob+fixed@example.org"]
[mailboxes."a.nn"]
addresses = ["$x@example.org"]
[aliases]
"team@example.org" = ["ann", "bob"]
[servers.primary]
platform = "linux/arm64"
host = "primary.example.org"
"""
)


def policies(config: Config) -> dict[str, Any]:
    """The policy document of each mailbox's user, its functions resolved, by the name of the user."""
    found = {}
    for name, resource in render(TEMPLATE.read_text(), config)["Resources"].items():
        properties = resource.get("Properties", {})
        if name.startswith("SmtpPolicy"):
            document = json.loads(json.dumps(properties["PolicyDocument"]))
            for statement in document["Statement"]:
                statement["Resource"] = [
                    one["Fn::Sub"]
                    .replace("${AWS::Partition}", "aws")
                    .replace("${AWS::Region}", "eu-central-1")
                    .replace("${AWS::AccountId}", "000000000000")
                    for one in statement["Resource"]
                ]
            found[properties["ManagedPolicyName"]["Fn::Sub"].removeprefix("${Prefix}-smtp-")] = document
    return found


def may(mailbox: str, from_: str, envelope: str | None = None) -> bool:
    context = {"ses:FromAddress": (from_,), "ses:FeedbackAddress": (envelope or from_,)}
    return allows([policies(MANY)[mailbox]], "ses:SendRawEmail", RESOURCE, context)


@pytest.mark.parametrize(
    "address",
    ["ann@example.org", "ann+tag@example.org", "team@example.org", "any@example.net", "any+tag@example.net"],
)
def test_own_addresses_tags_aliases_and_catch_alls_are_permitted(address: str) -> None:
    assert may("ann", address)


@pytest.mark.parametrize(
    "address",
    [
        "bob@example.org",
        "ann@example.com",
        "annx@example.org",
        "ANN@example.org",
        "ann@sub.example.org",
        "bob@example.net",
        "bob+tag@example.net",
    ],
)
def test_everything_else_is_not_in_either_place(address: str) -> None:
    assert not may("ann", address)
    assert not may("ann", "ann@example.org", address)
    assert not may("ann", address, "ann@example.org")


def test_characters_of_an_address_are_no_wildcards() -> None:
    assert may("bob", "b?b@example.org") and not may("bob", "bxb@example.org")
    assert may("a.nn", "$x@example.org") and not may("a.nn", "x@example.org")


def test_a_fixed_tag_is_that_tag() -> None:
    assert may("bob", "bob+fixed@example.org")
    assert "bob+fixed+*@example.org" not in senders_of(MANY, "bob")


def test_webmail_may_send_for_all_but_for_nobody_elsewhere() -> None:
    assert may("webmail", "bob@example.org") and may("webmail", "any@example.net")
    assert not may("webmail", "bob@example.com")


def test_other_actions_are_not_permitted() -> None:
    context = {"ses:FromAddress": ("ann@example.org",)}
    for action in ("ses:SendEmail", "ses:DeleteIdentity", "iam:CreateAccessKey"):
        assert not allows([policies(MANY)["ann"]], action, RESOURCE, context)


def test_strangers_are_those_in_the_domain_of_the_catch_all() -> None:
    assert strangers_to(MANY, "ann") == ("bob@example.net", "bob+*@example.net")
    assert strangers_to(MANY, "bob") == ()


def test_names_that_differ_in_points_alone_have_resources_of_their_own() -> None:
    assert {"ann", "a.nn", "bob", "webmail"} == set(policies(MANY))


def test_more_addresses_than_a_policy_holds() -> None:
    many = tuple(f"address-number-{number:03}@example.org" for number in range(50))
    config = replace(CONFIG, mailboxes={"ann": Mailbox("ann", many)})
    with pytest.raises(SendingPolicyError) as caught:
        render(TEMPLATE.read_text(), config)
    assert "mailbox ann: what it may send from makes a policy of" in str(caught.value)
    assert "IAM takes 6144; give it fewer addresses, or the catch-all *@domain" in str(caught.value)


def test_name_that_is_too_long_for_iam() -> None:
    name = "n" * 60
    config = replace(CONFIG, mailboxes={name: Mailbox(name, ("ann@example.org",))})
    with pytest.raises(SendingPolicyError, match="has 71 characters, IAM takes 64"):
        render(TEMPLATE.read_text(), config)


def test_no_mailbox_may_be_called_as_the_webmail() -> None:
    config = replace(CONFIG, mailboxes={"webmail": Mailbox("webmail", ("ann@example.org",))})
    with pytest.raises(TemplateError, match="no mailbox may be called webmail"):
        render(TEMPLATE.read_text(), config)


def test_two_hundred_mailboxes_fit_and_two_hundred_and_fifty_do_not() -> None:
    def config(count: int) -> Config:
        boxes = {f"u{one}": Mailbox(f"u{one}", (f"u{one}@example.org",)) for one in range(count)}
        return replace(CONFIG, mailboxes=boxes)

    text = json.dumps(render(TEMPLATE.read_text(), config(200)))
    assert len(text) < 1_000_000, "CloudFormation reads a megabyte from S3"
    with pytest.raises(TemplateError, match="CloudFormation takes 500"):
        render(TEMPLATE.read_text(), config(250))
