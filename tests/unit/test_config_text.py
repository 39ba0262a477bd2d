"""Changes to twinmail.toml by the tasks: right afterwards, and everything else as it was."""

import difflib
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinmail import config_text
from twinmail.config import Config
from twinmail.errors import ConfigError
from twinmail.tasks.config import PROJECT

TEXT = """\
# Ours.
region = "eu-central-1"  # near
stack = "twinmail"
bucket = "example-mail"
domains = ["example.org", "example.net"]

# Who there is.
[mailboxes.ann]
addresses = ["ann@example.org"]  # first

[mailboxes.bob]
addresses = [
    "bob@example.org",  # old
    "*@example.net",
]

# One address, several mailboxes.
[aliases]
"team@example.org" = ["ann", "bob"]

# Where.
[servers.primary]
platform = "linux/amd64"
host = "primary.example.org"
"""


def changes(before: str, after: str) -> list[str]:
    return [
        line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line.startswith(("+", "-"))
    ]


def test_new_mailbox_comes_after_the_others() -> None:
    after = config_text.with_mailbox(TEXT, "carl", ["carl@example.org", "c@example.org"], "Carl Ü.")
    assert changes(TEXT, after) == [
        "+ [mailboxes.carl]",
        '+ full_name = "Carl Ü."',
        '+ addresses = ["carl@example.org", "c@example.org"]',
        "+ ",
    ]
    assert after.index("[mailboxes.carl]") < after.index("# One address")


def test_first_mailbox_of_all() -> None:
    empty = 'region = "eu-central-1"\nstack = "a"\nbucket = "example-mail"\ndomains = ["example.org"]\n'
    empty += '[servers.primary]\nplatform = "linux/amd64"\nhost = "primary.example.org"\n'
    assert config_text.mailboxes(empty) == ()
    after = config_text.with_mailbox(empty, "ann", ["ann@example.org"])
    assert after.startswith(empty)
    assert config_text.mailboxes(after) == ("ann",)


def test_removed_mailbox_is_no_target_either_and_comments_stay() -> None:
    after = config_text.without_mailbox(TEXT, "bob")
    assert [one for one in changes(TEXT, after) if one[2:] and not one.startswith("?")] == [
        "- [mailboxes.bob]",
        "- addresses = [",
        '-     "bob@example.org",  # old',
        '-     "*@example.net",',
        "- ]",
        '- "team@example.org" = ["ann", "bob"]',
        '+ "team@example.org" = ["ann"]',
    ]


def test_first_mailbox_removed_keeps_the_comment_above_it() -> None:
    after = config_text.without_mailbox(TEXT, "ann")
    assert "# Who there is.\n[mailboxes.bob]\n" in after
    assert "\n\n# One address, several mailboxes.\n[aliases]\n" in after


def test_alias_without_targets_goes() -> None:
    one = config_text.with_alias(TEXT, "x@example.org", ["bob"])
    assert "x@example.org" not in config_text.without_mailbox(one, "bob")


def test_last_mailbox_stays() -> None:
    with pytest.raises(ConfigError, match="mailboxes: missing; at least one is needed"):
        config_text.without_mailbox(config_text.without_mailbox(TEXT, "bob"), "ann")


def test_alias_added_changed_and_removed() -> None:
    added = config_text.with_alias(TEXT, "Info@example.org", ["ann"])
    assert changes(TEXT, added) == ['+ "info@example.org" = ["ann"]']
    changed = config_text.with_alias(added, "INFO@example.org", ["bob"])
    assert changes(TEXT, changed) == ['+ "info@example.org" = ["bob"]']
    assert config_text.without_alias(changed, "info@example.org") == TEXT


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda: config_text.with_mailbox(TEXT, "ann", ["a@example.org"]), "mailboxes.ann: is there already"),
        (
            lambda: config_text.with_mailbox(TEXT, "x", ["ann@example.org"]),
            "already belongs to mailboxes.ann",
        ),
        (lambda: config_text.with_mailbox(TEXT, "X y", ["x@example.org"]), "expected a name of lower-case"),
        (lambda: config_text.with_mailbox(TEXT, "x", ["x@elsewhere.org"]), "is not in domains"),
        (lambda: config_text.with_mailbox(TEXT, "x", []), "expected a list of strings"),
        (lambda: config_text.without_mailbox(TEXT, "x"), "mailboxes.x: is not there"),
        (lambda: config_text.with_alias(TEXT, "i@example.org", ["eve"]), "unknown mailbox 'eve'"),
        (lambda: config_text.with_alias(TEXT, "ann@example.org", ["bob"]), "already belongs to"),
        (lambda: config_text.without_alias(TEXT, "i@example.org"), 'aliases."i@example.org": is not there'),
        (lambda: config_text.with_alias("x = [", "i@example.org", ["ann"]), "not TOML"),
        (lambda: config_text.first_domain(""), "domains: missing"),
    ],
)
def test_what_would_be_wrong_is_refused(change: object, problem: str) -> None:
    assert callable(change)
    with pytest.raises(ConfigError) as error:
        change()
    assert problem in str(error.value)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "remove", "alias", "unalias"]),
            st.sampled_from(["ann", "bob", "carl", "dora"]),
            st.sampled_from(["i@example.org", "team@example.org"]),
        ),
        max_size=12,
    )
)
def test_any_changes_leave_what_they_say_and_every_comment(steps: list[tuple[str, str, str]]) -> None:
    text = TEXT
    expected = tomllib.loads(TEXT)
    for action, name, address in steps:
        boxes, aliases = expected["mailboxes"], expected["aliases"]
        if action == "add" and name not in boxes:
            text = config_text.with_mailbox(text, name, [f"{name}@example.org"])
            boxes[name] = {"addresses": [f"{name}@example.org"]}
        elif action == "remove" and name in boxes and len(boxes) > 1:
            text = config_text.without_mailbox(text, name)
            del boxes[name]
            for one in list(aliases):
                aliases[one] = [target for target in aliases[one] if target != name]
                if not aliases[one]:
                    del aliases[one]
        elif action == "alias" and name in boxes:
            text = config_text.with_alias(text, address, [name])
            aliases[address] = [name]
        elif action == "unalias" and address in aliases:
            text = config_text.without_alias(text, address)
            del aliases[address]
    assert tomllib.loads(text) == expected
    for comment in ("# Ours.", "# near", "# Who there is.", "# One address, several mailboxes.\n[aliases]"):
        assert comment in text
    assert "\n# Where.\n[servers.primary]\n" in text


def test_the_example_keeps_every_comment() -> None:
    text = (PROJECT / "twinmail.toml").read_text()
    domain = Config.parse(text).domains[0]
    after = config_text.with_mailbox(text, "newcomer", [f"newcomer@{domain}"])
    assert config_text.without_mailbox(after, "newcomer") == text
