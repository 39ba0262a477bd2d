"""The stack that upgrades are tested from is the one that people have."""

from tests.contract import previous_stack

RENEW = "run: .venv/bin/python -m tests.contract.previous_stack COMMIT"


def test_it_is_of_the_newest_release_and_else_not_old() -> None:
    kept = previous_stack.load()
    newest = previous_stack.released((previous_stack.ROOT / "CHANGELOG.md").read_text("utf-8"))
    assert kept.release == newest, f"{RENEW} of the release {newest}"
    if not newest:
        # A clone without history knows no older commit, and cannot tell.
        changes = previous_stack.behind(kept.commit) or 0
        assert changes <= previous_stack.BEHIND, f"the template has changed {changes} times since; {RENEW}"


def test_a_release_and_a_change_are_noticed() -> None:
    assert previous_stack.released("# Changelog\n\n## Unreleased\n\n- It is so.\n") == ""
    assert previous_stack.released("## Unreleased\n\n## 1.1.0 (2027-01-02)\n\n## 1.0.0\n") == "1.1.0"
    assert previous_stack.behind("HEAD") in (0, None)
    assert previous_stack.behind("0" * 40) is None
