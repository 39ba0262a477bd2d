"""``./inv secrets``: which secrets there are, and new ones in their place; never what they are."""

import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.user import PLACE_HELP

if TYPE_CHECKING:
    from twinmail.config import Config
    from twinmail.secret_store import SecretStore
    from twinmail.tasks.place import Place

_KEYS = ("smtp", "syncer")
_LOCAL = ("tls", "des-key")


@command(name="list", help=PLACE_HELP)
def list_(context: Any, aws: bool = False, config: str = "", state: str = "", json_: bool = False) -> None:
    """Show which secrets exist, since when, where they live and who reads them."""
    from rich.console import Console
    from rich.table import Table

    from twinmail.config import Config
    from twinmail.deploy import secret_kinds
    from twinmail.tasks import place

    loaded = Config.load(place.config_file(config, state))
    store = _store(None if aws else state)
    wanted = secret_kinds.expected(loaded)
    there = set(store.names())
    rows = []
    for name in sorted({*wanted, *there}):
        kind = wanted.get(name)
        made = datetime.fromtimestamp(store.path(name).stat().st_mtime, UTC) if name in there else None
        rows.append(
            {
                "name": name,
                "exists": made is not None,
                "made": made.isoformat(timespec="seconds") if made else None,
                "days": (datetime.now(UTC) - made).days if made else None,
                "lives": kind.lives if kind else "",
                "readers": kind.readers if kind else "",
                "rotation": kind.rotation if kind else "",
            }
        )
    if json_:
        print(json.dumps({"store": str(store.root), "secrets": rows}))
        return
    table = Table("secret", "age", "lives also", "read by", "replaced by", title=f"secrets in {store.root}")
    for row in rows:
        age = f"{row['days']} days" if row["exists"] else "not there"
        table.add_row(
            *(str(one) for one in (row["name"], age, row["lives"], row["readers"], row["rotation"]))
        )
    Console().print(table)


@command(
    help={
        "what": f"one of {', '.join((*_KEYS, *_LOCAL))}",
        "finish": "of smtp and syncer: remove the old key, once the servers have the new one",
        **PLACE_HELP,
    },
    positional=["what"],
)
def rotate(
    context: Any,
    what: str,
    finish: bool = False,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Put a new secret in the place of an old one, without losing mail; doing it again completes it."""
    if what not in (*_KEYS, *_LOCAL):
        raise PermanentError(f"{what!r}: expected one of {', '.join((*_KEYS, *_LOCAL))}")
    if finish and what not in _KEYS:
        raise PermanentError(f"--finish: {what} has no old key that goes on working")
    system, loaded = _open(aws, config, state)
    done = (
        _rotate_keys(system, loaded, what, finish) if what in _KEYS else _rotate_local(system, loaded, what)
    )
    if json_:
        print(json.dumps({"what": what, "finished": finish or what in _LOCAL, "done": done}))
        return
    print("\n".join(done) or "nothing to do")
    if what in _KEYS and not finish:
        print("The old keys still work. Bring the new ones to all servers, then run:")
        print(f"  ./inv secrets rotate {what} --finish")


def _rotate_keys(system: "Place", config: "Config", what: str, finish: bool) -> list[str]:
    from twinmail.deploy import access_key

    iam, store = system.session.client("iam"), _store_of(system)
    lines = []
    for owner in access_key.owners(config, what):
        if finish:
            removed = access_key.finish(iam, store, owner)
            lines += [f"{owner.secret}: removed, and of no use from now on: {one}" for one in removed]
        elif access_key.begin(iam, store, owner):
            lines.append(f"{owner.secret}: new key")
        else:
            lines.append(f"{owner.secret}: the new key is there already")
    return lines


def _rotate_local(system: "Place", config: "Config", what: str) -> list[str]:
    """Of the system on this machine, whose volumes are folders here."""
    from twinmail import durable_file
    from twinmail.local import pki, webmail

    if system.state is None:
        raise PermanentError(f"{what}: is made on the server itself; docs/secrets.md says how it is replaced")
    lines = []
    for name, server in config.servers.items():
        parts = webmail.folder(system.state, name)
        if what == "tls":
            folders = [system.state.settings(name), *([parts / "web-etc"] if server.webmail else [])]
            for folder in folders:
                hosts = pki.names(folder / "tls" / pki.CERTIFICATE)
                pki.ensure(system.state.tls, folder / "tls", hosts, anew=True)
            lines.append(f"{name}: new key and certificate; served within seconds, sessions go on")
        elif server.webmail:
            key = secrets.token_urlsafe(24).encode("ascii")
            durable_file.write(parts / "data" / "des_key", key, mode=0o600)
            lines.append(f"{name}: new des_key; who is logged in to the webmail logs in again")
    return lines


def _open(aws: bool, config: str, state: str) -> "tuple[Place, Config]":
    from twinmail.config import Config
    from twinmail.tasks import place

    loaded = Config.load(place.config_file(config, state))
    return place.find(loaded, state, aws), loaded


def _store_of(system: "Place") -> "SecretStore":
    """Where the secrets of *system* are: those of this machine are never mixed with production's."""
    return _at(None if system.state is None else system.state.root)


def _store(state: str | None) -> "SecretStore":
    """The same, without asking whether it runs: *state* is the folder, empty for the usual, None for AWS."""
    return _at(Path(state) if state else None)


def _at(root: Path | None) -> "SecretStore":
    from twinmail.secret_store import SecretStore
    from twinmail.tasks.config import PROJECT

    return SecretStore((root or PROJECT / ".twinmail") / "secrets")


collection = Collection("secrets", rotate)
collection.add_task(list_, default=True)
