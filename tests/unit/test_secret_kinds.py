"""``docs/secrets.md`` says what there is, and what there is can be found there."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from tests.golden.test_client_profile import CONFIG
from twinmail.deploy import credentials, given_secret, key_rotation, secret_kinds, server_files

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "secrets.md"


def test_the_page_has_the_table() -> None:
    _, _, rest = PAGE.read_text().partition("<!-- secrets: from twinmail.deploy.secret_kinds -->\n")
    assert rest.startswith(secret_kinds.table())


def test_everything_that_servers_are_given_has_a_kind() -> None:
    known = secret_kinds.expected(CONFIG)
    assert {one.secret for one in credentials.every(CONFIG)} <= set(known)
    for server in CONFIG.servers:
        assert set(server_files.secret_names(CONFIG, server)) <= set(known)


def text_of(node: ast.AST, module: object) -> str:
    """A string, or one that is filled in: constants as they are, ``SERVER`` for the rest."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    text = ""
    for part in parts:
        value = part.value if isinstance(part, ast.FormattedValue) else part
        if isinstance(value, ast.Constant):
            text += str(value.value)
        elif isinstance(value, ast.Name) and isinstance(found := getattr(module, value.id, None), str):
            text += found
        elif isinstance(node, ast.JoinedStr):
            text += "SERVER"
    return text


def names(path: Path) -> Iterator[str]:
    """The names of secrets in the module at *path*: what it asks a store for, and what looks like one."""
    module = importlib.import_module(".".join(path.relative_to(PROJECT / "src").with_suffix("").parts))
    folders = {one.name.partition("/")[0] for one in secret_kinds.KINDS if one.name}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("store.") and node.args:
            if isinstance(node.args[0], ast.JoinedStr | ast.Constant):
                yield text_of(node.args[0], module)
        elif isinstance(node, ast.JoinedStr | ast.Constant):
            text = text_of(node, module)
            if re.fullmatch(r"[\w.-]+/SERVER(/[\w.-]+)?", text) and text.partition("/")[0] in folders:
                yield text


def test_every_name_in_the_sources_has_a_kind() -> None:
    known = {one.name for one in secret_kinds.KINDS}
    sources = [PROJECT / "src" / "twinmail" / "deploy", PROJECT / "src" / "twinmail" / "tasks"]
    found = {name: path.name for folder in sources for path in folder.glob("*.py") for name in names(path)}
    assert {"tls/SERVER/cert.pem", "syncer/SERVER/credentials", "cloudflare/SERVER"} <= set(found)
    notes = {f"{key_rotation.NOTES}/SERVER"}  # which key is to go; nothing secret
    assert {name: where for name, where in found.items() if name not in known | notes} == {}


def test_what_people_bring_has_a_kind() -> None:
    known = {one.name for one in secret_kinds.KINDS}
    assert {one.name for one in given_secret._KINDS} <= known
