"""``./inv test`` and ``./inv e2e``: all tests, or groups of them, on a fresh machine."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.config import PROJECT

# In the order in which a failure is cheapest to learn.
GROUPS = ("lint", "unit", "golden", "fuzz", "contract", "image", "e2e", "deploy", "browser")
NEEDS_IMAGES = frozenset({"contract", "image", "e2e", "deploy", "browser"})


@command(
    help={
        "group": f"run only this group; may be given several times, or as words ({', '.join(GROUPS)})",
        "runtime": "docker, namespace, or both (default: what this machine has)",
        "keep-going": "run the next group after a failed one",
        "match": "run only tests whose name matches this pytest expression",
        "no-skips": "fail where a test is skipped because this machine lacks something",
    },
    iterable=["group"],
)
def test(
    context: Any,
    group: list[str],
    runtime: str = "",
    keep_going: bool = False,
    match: str = "",
    no_skips: bool = False,
) -> None:
    """Run every test of the project, or the groups named: ./inv test unit e2e."""
    run(group or GROUPS, runtime, keep_going, match, no_skips)


@command(
    help={
        "runtime": "docker or namespace (default: each that this machine has)",
        "match": "run only tests whose name matches this pytest expression",
    }
)
def e2e(context: Any, runtime: str = "", match: str = "") -> None:
    """Run the end-to-end tests: real SMTP in, real IMAPS out, a fresh LocalStack."""
    run(["e2e"], runtime, False, match)


@command()
def screenshots(context: Any) -> None:
    """Take the pictures of docs/screenshots anew, from a system with letters to an imaginary person."""
    find_browser()
    install_test_requirements()
    build_images()
    pytest = [sys.executable, "-m", "pytest", "-q", "tests/browser/test_screenshots.py", "-k", "picture_of"]
    if subprocess.run([*pytest, "--screenshots", "docs/screenshots"], cwd=PROJECT, check=False).returncode:
        raise PermanentError("not all pictures could be taken; see above")


def run(groups: Sequence[str], runtime: str, keep_going: bool, match: str, no_skips: bool = False) -> None:
    """Run *groups* in order.

    Raises:
        PermanentError: a group is unknown, or tests failed.
    """
    unknown = [one for one in groups if one not in GROUPS]
    if unknown:
        raise PermanentError(f"unknown test group {unknown[0]!r}; known: {', '.join(GROUPS)}")
    if "browser" in groups:
        find_browser()
    if "deploy" in groups:
        find("sshd", "deploy")
    install_test_requirements()
    if NEEDS_IMAGES & set(groups):
        build_images()
    failed = []
    for group in groups:
        print(f"\n── {group} " + "─" * (96 - len(group)), flush=True)
        for argv in commands(group, runtime, match, no_skips):
            if subprocess.run(argv, cwd=PROJECT, check=False).returncode:
                failed.append(group)
                break
        if failed and not keep_going:
            break
    if failed:
        raise PermanentError(f"failed: {', '.join(failed)}; run it alone with ./inv test {failed[0]}")


def commands(group: str, runtime: str, match: str, no_skips: bool = False) -> Iterator[list[str]]:
    """The command lines of *group*."""
    python = [sys.executable, "-m"]
    if group == "lint":
        yield [*python, "ruff", "check"]
        yield [*python, "ruff", "format", "--check", "--quiet"]
        yield [*python, "mypy", "src", "localstack/twinmail_localstack", "tasks.py", "lambda/handler.py"]
    else:
        yield [
            *python,
            "pytest",
            "-q",
            f"tests/{group}",
            *(["--runtime", runtime] if runtime else []),
            *(["-k", match] if match else []),
            *(["--no-skips"] if no_skips else []),
        ]


def install_test_requirements() -> None:
    """Add the hash-locked test requirements to the venv, once and on change."""
    lock, done = PROJECT / "requirements-test.lock", Path(sys.prefix) / "requirements-test.lock"
    if done.is_file() and done.read_bytes() == lock.read_bytes():
        return
    print("installing the test requirements", flush=True)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    if subprocess.run([*install, "--require-hashes", "-r", str(lock)], check=False).returncode:
        raise PermanentError(f"{lock.name} could not be installed; see above")
    shutil.copyfile(lock, done)


def find_browser() -> None:
    """Find Chromium, or install it; asked before anything that takes time."""
    find("chromium", "browser")


def find(program: str, group: str) -> None:
    """Find *program*, which the tests of *group* start, or install it.

    Raises:
        PermanentError: it is missing, and installing it needs root.
    """
    done = subprocess.run(["sh", str(PROJECT / ".ci" / program)], capture_output=True, text=True, check=False)
    if done.returncode:
        others = " ".join(one for one in GROUPS if one != group)
        raise PermanentError(
            f"no {program} for the group {group}: {done.stderr[-2000:].strip()}\n"
            f"or run the other groups: ./inv test {others}"
        )
    print(done.stdout.strip(), flush=True)


def build_images() -> None:
    """Build what the tests run; unchanged inputs build nothing."""
    if subprocess.run([sys.executable, str(PROJECT / "tasks.py"), "build"], check=False).returncode:
        raise PermanentError("the images could not be built; see above")
