"""``./inv smtp-credentials``: what a mail client needs to send through SES as one mailbox."""

import json
from typing import TYPE_CHECKING, Any

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.user import PLACE_HELP

if TYPE_CHECKING:
    from twinmail.config import Config
    from twinmail.smtp_credentials import Endpoint
    from twinmail.tasks.place import Place


@command(
    name="smtp-credentials",
    help={
        "mailbox": "the mailbox that sends; its addresses are the only ones it may send from",
        "rotate": "make a new credential and remove all others",
        "revoke": "remove all credentials, or the one named by --key",
        "list": "list the credentials, without passwords",
        "key": "with --revoke: the user name (access key id) of the one to remove",
        **PLACE_HELP,
    },
    positional=["mailbox"],
)
def smtp_credentials(
    context: Any,
    mailbox: str,
    rotate: bool = False,
    revoke: bool = False,
    list_: bool = False,
    key: str = "",
    aws: bool = False,
    json_: bool = False,
    config: str = "",
    state: str = "",
) -> None:
    """Make SES SMTP credentials for a mailbox, and show the password this once."""
    from twinmail import smtp_credentials as credentials
    from twinmail.config import Config
    from twinmail.tasks import place

    chosen = [name for name, on in (("--rotate", rotate), ("--revoke", revoke), ("--list", list_)) if on]
    if len(chosen) > 1:
        raise PermanentError(f"{' and '.join(chosen)}: choose one of them")
    if key and not revoke:
        raise PermanentError("--key: only with --revoke, to remove one credential")
    loaded = Config.load(place.config_file(config, state))
    iam, endpoint = _account(place.find(loaded, state, aws), loaded)
    if list_:
        found = [
            {"user": one.id, "active": one.active, "created": one.created.isoformat(timespec="seconds")}
            for one in credentials.keys(iam, loaded, mailbox)
        ]
        lines = [
            f"{one['user']}  {one['created']}{'' if one['active'] else '  (inactive)'}" for one in found
        ] or [f"{mailbox} has no SMTP credentials"]
        _print({"mailbox": mailbox, "credentials": found}, lines, json_)
        return
    if revoke:
        removed = credentials.revoke(iam, loaded, mailbox, key)
        text = f"removed, and of no use from now on: {', '.join(removed)}" if removed else "there was none"
        _print({"mailbox": mailbox, "removed": removed}, [text], json_)
        return
    removed = ()
    if rotate:
        made, removed = credentials.rotate(iam, loaded, mailbox)
    else:
        made = credentials.create(iam, loaded, mailbox)
    shown = {
        "host": endpoint.host,
        "port": endpoint.port,
        "starttls_port": endpoint.starttls_port,
        "user": made.user,
        "password": made.password,
    }
    lines = [
        f"host      {endpoint.host}",
        f"port      {endpoint.port} (SSL/TLS), or {endpoint.starttls_port} (STARTTLS)",
        f"user      {made.user}",
        f"password  {made.password}",
        "",
        "The password is shown only now. It belongs into one mail client: make another for the next.",
    ]
    lines += [f"removed: {', '.join(removed)}"] if removed else []
    _print({"mailbox": mailbox, **shown, "removed": removed}, lines, json_)


def _account(system: "Place", config: "Config") -> "tuple[Any, Endpoint]":
    """IAM, and where to send: of AWS, or of the system that runs here."""
    from twinmail.local.state import LOOPBACK
    from twinmail.smtp_credentials import Endpoint

    iam = system.session.client("iam")
    if system.description is None:
        return iam, Endpoint.of_region(config.region)
    ports = system.description.ports
    return iam, Endpoint(LOOPBACK, ports["submissions"], ports["submission"])


def _print(document: dict[str, Any], lines: list[str], as_json: bool) -> None:
    print(json.dumps(document) if as_json else "\n".join(lines))
