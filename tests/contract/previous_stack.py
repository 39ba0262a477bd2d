"""The stack as an earlier commit made it: what an upgrade starts from.

A clone may have no history, so the rendered template is a file, ``stack-previous.json``. It is of the newest release,
and until there is one, not many changes of the template old. Write it anew when a release
is written into ``CHANGELOG.md``: ``.venv/bin/python -m tests.contract.previous_stack HEAD``.
"""

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("stack-previous.json")
ROOT = Path(__file__).resolve().parents[2]
BEHIND = 8
"""Changes of the template since then, at most, while nothing is released."""

_RELEASE = re.compile(r"^## v?([0-9]\S*)", re.MULTILINE)

# With nothing that a later version has added.
TOML = """
region = "eu-central-1"
stack = "upgraded"
bucket = "upgraded-example-mail"
domains = ["upgraded.example"]
[mailboxes.ann]
addresses = ["ann@upgraded.example"]
[servers.primary]
platform = "linux/arm64"
host = "primary.upgraded.example"
[servers.backup]
platform = "linux/amd64"
host = "backup.upgraded.example"
"""

# Runs on the sources of that commit.
_RENDER = """
import json, sys
from pathlib import Path
from twinmail import stack, stack_template
from twinmail.config import Config
from twinmail.function_zip import FunctionZip
config = Config.parse(sys.argv[1])
template = stack_template.render(Path("lambda/stack.yaml").read_text("utf-8"), config)
parameters = stack.parameters(config, FunctionZip(b"", "0" * 64))
print(json.dumps({"template": template, "parameters": parameters}))
"""


@dataclass(frozen=True)
class Previous:
    """An earlier stack.

    Attributes:
        commit: which made it.
        release: the newest one at that time; empty if there was none.
        parameters: values by name; that of ``CodeKey`` is none that exists.
    """

    commit: str
    release: str
    template: dict[str, Any]
    parameters: dict[str, str]


def load() -> Previous:
    """The stack that is kept here."""
    return Previous(**json.loads(FILE.read_text("utf-8")))


def released(changelog: str) -> str:
    """The newest release that *changelog* tells of; empty if there is none."""
    found = _RELEASE.search(changelog)
    return found[1] if found else ""


def behind(commit: str) -> int | None:
    """How often the template has changed since *commit*; None where the history does not go back to it."""
    count = ["git", "rev-list", "--count", f"{commit}..HEAD", "--", "lambda/stack.yaml"]
    try:
        done = subprocess.run(count, cwd=ROOT, capture_output=True, check=False)
    except OSError:
        return None
    return None if done.returncode else int(done.stdout)


def _git(*arguments: str, **options: Any) -> bytes:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, **options).stdout


def write(revision: str) -> None:
    """Keep the stack as *revision* makes it."""
    commit = _git("rev-parse", "--short=12", revision).decode().strip()
    archive = _git("archive", commit, "src", "lambda")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        answer = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, 'src')\n{_RENDER}", TOML],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    # Of these sources: a release is written there in the very commit that keeps its stack.
    release = released((ROOT / "CHANGELOG.md").read_text("utf-8"))
    found = {"commit": commit, "release": release, **json.loads(answer.stdout)}
    FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    write(sys.argv[1])
