"""``./inv secrets``: which secrets there are, and new ones in their place; never what they are."""

import getpass
import json
import secrets
import sys
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
_ON_SERVERS = ("tls", "des-key")


@command(name="list", help=PLACE_HELP)
def list_(context: Any, aws: bool = False, config: str = "", state: str = "", json_: bool = False) -> None:
    """Show which secrets exist, since when, where they live and who reads them."""
    from rich.console import Console
    from rich.table import Table

    from twinmail.config import Config
    from twinmail.deploy import key_rotation, secret_kinds
    from twinmail.tasks import place

    loaded = Config.load(place.config_file(config, state))
    store = _at(None if aws or not state else Path(state))
    wanted = secret_kinds.expected(loaded)
    there = {one for one in store.names() if not one.startswith(f"{key_rotation.NOTES}/")}
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
    name="set",
    help={
        "name": "its name, as ./inv secrets lists it: certificate/SERVER/credentials, cloudflare/SERVER, "
        "tls/SERVER/key.pem, ssh/SERVER or import/NAME",
        "config": PLACE_HELP["config"],
        "json": PLACE_HELP["json"],
    },
    positional=["name"],
)
def set_(context: Any, name: str, config: str = "", json_: bool = False) -> None:
    """Keep a secret that somebody else has handed out: from standard input, or asked for."""
    from twinmail.config import Config
    from twinmail.deploy import given_secret
    from twinmail.tasks import place

    loaded = Config.load(place.config_file(config))
    # Before anybody types or pastes.
    given_secret.check_name(loaded, name)
    store = _at(None)
    kept = given_secret.check(loaded, name, _given(name))
    for one in kept:
        store.put(one.name, one.data)
    names = [one.name for one in kept]
    print(json.dumps({"kept": names}) if json_ else f"kept in {store.root}: {', '.join(names)}")


@command(
    help={
        "what": f"one of {', '.join((*_KEYS, *_ON_SERVERS))}",
        "finish": "of smtp and syncer: remove the old key, once the servers use the new one",
        "force": "with --finish: also if IAM has not seen the new key used",
        **PLACE_HELP,
    },
    positional=["what"],
)
def rotate(
    context: Any,
    what: str,
    finish: bool = False,
    force: bool = False,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Put a new secret in the place of an old one, without losing mail; doing it again completes it."""
    from twinmail.config import Config
    from twinmail.tasks import place

    if what not in (*_KEYS, *_ON_SERVERS):
        raise PermanentError(f"{what!r}: expected one of {', '.join((*_KEYS, *_ON_SERVERS))}")
    if finish and what not in _KEYS:
        raise PermanentError(f"--finish: {what} has no old key that goes on working")
    if force and not finish:
        raise PermanentError("--force: only with --finish")
    loaded = Config.load(place.config_file(config, state))
    deploy: list[str] = []
    if what in _KEYS:
        done = _rotate_keys(place.find(loaded, state, aws), loaded, what, finish, force)
    elif not aws and (here := place.local(loaded, state)):
        done = _rotate_local(here, loaded, what)
    else:
        done, deploy = _rotate_deployed(loaded, what)
    if json_:
        print(json.dumps({"what": what, "finished": finish or not deploy, "done": done, "deploy": deploy}))
        return
    print("\n".join(done) or "nothing to do")
    if what in _KEYS and not finish:
        print("The old keys still work. Bring the new ones to all servers with ./inv deploy, then run:")
        print(f"  ./inv secrets rotate {what} --finish")
    if deploy:
        print("\n".join(("To bring it to the servers, run:", *(f"  {one}" for one in deploy))))


def _rotate_keys(
    system: "Place", config: "Config", what: str, finish: bool, force: bool = False
) -> list[str]:
    from twinmail.deploy import key_rotation

    if system.state is not None:
        raise PermanentError(
            f"{what}: the local system makes its keys at each start; for the one in AWS say --aws"
        )
    iam, store = system.session.client("iam"), _at(None)
    lines = []
    for owner in key_rotation.owners(config, what):
        if finish:
            removed = key_rotation.finish(iam, store, owner, force)
            lines += [f"{owner.secret}: removed, and of no use from now on: {one}" for one in removed]
        elif key_rotation.begin(iam, store, owner):
            lines.append(f"{owner.secret}: new key")
        else:
            lines.append(f"{owner.secret}: the new key is there already")
    return lines


def _rotate_local(system: "Place", config: "Config", what: str) -> list[str]:
    """Of the system on this machine, whose volumes are folders here."""
    from twinmail import durable_file
    from twinmail.local import pki, webmail

    assert system.state is not None
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


def _rotate_deployed(config: "Config", what: str) -> tuple[list[str], list[str]]:
    """Of production: what was done, and the commands that bring it to the servers."""
    from twinmail.deploy import server_rotation

    rotated = server_rotation.rotate(config, _at(None), what)
    return (
        [f"{one.server}: {one.text}" for one in rotated],
        list(dict.fromkeys(one.deploy for one in rotated if one.deploy)),
    )


def _given(name: str) -> bytes:
    """What somebody types, pastes or pipes."""
    from twinmail.access_key import NewKey
    from twinmail.deploy import given_secret

    if not sys.stdin.isatty():
        return sys.stdin.buffer.read()
    if name.endswith("/credentials"):
        key = input("Access key ID: ").strip()
        return NewKey(key, getpass.getpass("Secret access key: ").strip()).to_file()
    if name.startswith("import/"):
        return getpass.getpass("Password: ").encode("utf-8")
    print(f"Paste {given_secret.form(name)}, then press Ctrl-D:", file=sys.stderr, flush=True)
    return sys.stdin.buffer.read()


def _at(root: Path | None) -> "SecretStore":
    """The secrets of the system in the state folder *root*; None is production."""
    from twinmail.secret_store import SecretStore
    from twinmail.tasks.config import PROJECT

    return SecretStore((root or PROJECT / ".twinmail") / "secrets")


collection = Collection("secrets", rotate, set_)
collection.add_task(list_, default=True)
