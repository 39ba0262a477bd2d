"""Imports point inward: entry points → domain → nothing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SOURCE = PROJECT / "src"

# What a package may import of the project, beside itself. Everything not named is the domain.
OUTER = {
    "twinmail.tasks": None,
    "twinmail.deploy": {"twinmail.client_profile", "twinmail.dns", "twinmail.oci"},
    "twinmail.local": {
        "twinmail.client_profile",
        "twinmail.deploy",
        "twinmail.runtime",
        "twinmail.oci",
    },
    "twinmail.chaos": {
        "twinmail.client_profile",
        "twinmail.deploy",
        "twinmail.local",
        "twinmail.oci",
        "twinmail.runtime",
    },
    "twinmail.certificate.__main__": {"twinmail.sync"},
    "twinmail.client_profile": set(),
    "twinmail.cost": set(),
    "twinmail.dns": {"twinmail.client_profile"},
    "twinmail.doctor": {"twinmail.deploy", "twinmail.dns", "twinmail.oci"},
    "twinmail.importing": set(),
    "twinmail.rehearsal": {
        "twinmail.client_profile",
        "twinmail.deploy",
        "twinmail.local",
        "twinmail.oci",
        "twinmail.runtime",
    },
    "twinmail.runtime": {"twinmail.oci"},
    "twinmail.oci": set(),
    "twinmail.relay": {"twinmail.sync"},
    "twinmail.sync": set(),
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


def room(name: str) -> str | None:
    return next((one for one in OUTER if name == one or name.startswith(f"{one}.")), None)


MODULES = sorted((SOURCE / "twinmail").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_inward(path: Path) -> None:
    own = room(module_name(path))
    allowed = set() if own is None else OUTER[own]
    for name in imports(path):
        assert not name.startswith(("twinmail_localstack", "localstack.")), (
            "production code imports the emulator"
        )
        target = room(name)
        if target is None or target == own or allowed is None:
            continue
        assert target in allowed, f"{module_name(path)} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_only_the_configuration_reads_the_environment(path: Path) -> None:
    if path.name == "config.py" and path.parent.name == "twinmail":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr not in ("environ", "getenv", "environb"), (
                f"{path.name}:{node.lineno} reads the environment"
            )


@pytest.mark.parametrize("word", ["utils", "helpers", "common", "manager", "misc"])
def test_modules_are_nouns(word: str) -> None:
    assert not [path for path in MODULES if word in path.stem]
