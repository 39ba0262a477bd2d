"""``./inv client-profile``: the files with which a mail client sets itself up."""

import json
from pathlib import Path
from typing import Any

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.config import PROJECT


@command(
    help={
        "user": "mailbox, or one of its addresses; as a word: ./inv client-profile USER",
        "output": "folder for the two files (default: the current one)",
        "smtp-user": "user name for SES, as ./inv smtp-credentials printed it (default: the device asks)",
        "certificate": "sign the profile: PEM file with the certificate and its chain",
        "key": "sign the profile: PEM file with the key of that certificate",
        "dns": "print the DNS records by which clients find everything, and write nothing",
        "config": "another configuration than twinmail.toml",
        "json": "print one JSON object",
    },
    iterable=["user"],
)
def client_profile(
    context: Any,
    user: list[str],
    output: str = ".",
    smtp_user: str = "",
    certificate: str = "",
    key: str = "",
    dns: bool = False,
    config: str = "",
    json_: bool = False,
) -> None:
    """Write the Apple profile and a set-up sheet for USER, or print the DNS records with --dns."""
    from twinmail import durable_file
    from twinmail.client_profile import apple
    from twinmail.client_profile.sheet import sheet
    from twinmail.client_profile.site import site
    from twinmail.config import FILE, Config
    from twinmail.routing import identify

    loaded = Config.load(Path(config) if config else PROJECT / FILE)
    endpoints = site(loaded)
    if dns:
        _print_records(loaded, endpoints, json_)
        return
    if bool(certificate) != bool(key):
        raise PermanentError("--certificate and --key: give both to sign, or none")
    if len(user) != 1:
        raise PermanentError(f"expected one user, got {len(user)}: ./inv client-profile USER")
    mailbox, address = identify(loaded, user[0])
    signer = apple.Signer.from_pem(_read(certificate), _read(key)) if key else None
    folder = Path(output)
    if not folder.is_dir():
        raise PermanentError(f"--output: {folder} is not a folder; make it first")
    made = {
        "profile": (
            folder / f"{mailbox}{apple.SUFFIX}",
            apple.profile(loaded, endpoints, mailbox, address, smtp_user, signer),
        ),
        "sheet": (folder / f"{mailbox}.html", sheet(loaded, endpoints, mailbox, address, smtp_user)),
    }
    for path, data in made.values():
        durable_file.write(path, data, mode=0o644)
    if json_:
        paths = {what: str(path) for what, (path, _) in made.items()}
        print(json.dumps({"mailbox": mailbox, "address": address, "signed": signer is not None, **paths}))
        return
    print(f"{made['profile'][0]}  for iPhone, iPad and Mac{'' if signer else ' (not signed)'}")
    print(f"{made['sheet'][0]}  to print or send: all clients, no password in it")


def _print_records(config: Any, endpoints: Any, as_json: bool) -> None:
    from dataclasses import asdict

    from twinmail.client_profile.records import records, zone_lines

    found = records(config, endpoints)
    if as_json:
        print(json.dumps({"records": [asdict(one) for one in found]}))
    else:
        print("\n".join(zone_lines(found)))


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise PermanentError(f"{path}: cannot be read: {error.strerror}") from error
