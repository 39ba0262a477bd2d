"""What README and docs claim exists: commands, options and files."""

import re
from pathlib import Path

import pytest

from twinmail.tasks.test import GROUPS

PROJECT = Path(__file__).parents[2]
PAGES = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist_with_their_options(page: Path) -> None:
    from tasks import namespace

    # A group may do something by its own name.
    contexts = {name: one for one in namespace.to_contexts() for name in (one.name, *one.aliases)}
    groups = {name.partition(".")[0] for name in contexts if "." in name}
    for line in re.findall(r"\./inv ([^`\n|]*)", page.read_text()):
        words = line.split()
        if not words or not words[0].replace("-", "").isalpha():
            continue
        task = words[0].rstrip(",;.")
        if len(words) > 1 and f"{task}.{words[1]}" in contexts:
            task = f"{task}.{words[1]}"
        elif task in groups and len(words) == 1:
            continue  # the group itself
        assert task in contexts, f"{page.name}: ./inv {task}"
        for option in re.findall(r"(?<!\S)(--[a-z-]+)", line):
            assert option in contexts[task].flags, f"{page.name}: ./inv {task} {option}"


@pytest.mark.parametrize(
    "page", sorted((PROJECT / "docs" / "runbooks").glob("[!R]*.md")), ids=lambda page: page.name
)
def test_runbook_says_when_and_how_to_see_that_it_worked(page: Path) -> None:
    text = page.read_text()
    assert "\n**When.** " in text and "\n## How to see that it worked\n" in text
    assert f"]({page.name})" in (page.parent / "README.md").read_text()


def test_groups_have_their_folder() -> None:
    for group in GROUPS:
        assert group == "lint" or (PROJECT / "tests" / group).is_dir(), group
