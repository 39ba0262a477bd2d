"""``./inv import``: bring an older account in, from its server or from files."""

import getpass
import json
import os
import ssl
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.exceptions import Exit

from twinmail.errors import PermanentError, TwinmailError
from twinmail.tasks.command import command
from twinmail.tasks.user import PLACE_HELP

if TYPE_CHECKING:
    from twinmail.config import Config
    from twinmail.importing.report import Report
    from twinmail.importing.source import Source
    from twinmail.tasks.place import Place

INCOMPLETE = 2
_SHOWN = 20


@command(
    name="import",
    help={
        "file": "an mbox, a Maildir, a folder of these or of .eml files, or a zip archive of such a folder; "
        "as words: ./inv import FILE|DIR...",
        "imap": "the server of the older account, HOST or HOST:PORT (TLS, port 993)",
        "user": "who to log in as there",
        "mailbox": "where the mail goes: a mailbox, or one of its addresses (default: --user, if it is one)",
        "folder": "only this folder of the older account, as its server names it; may be given several times",
        "into": "put all messages into this folder, whatever folders they come from",
        "password-fd": "read the password from this file descriptor (default: ask for it)",
        "secret": "take the password from the secret of this name, as ./inv secrets list shows it",
        "ca": "file of the certificate authority to trust, if the older server has one of its own",
        "plan": "count what there is and what would be new, and write nothing",
        **PLACE_HELP,
    },
    iterable=["file", "folder"],
)
def import_(
    context: Any,
    file: list[str],
    folder: list[str],
    imap: str = "",
    user: str = "",
    mailbox: str = "",
    into: str = "",
    password_fd: int = -1,
    secret: str = "",
    ca: str = "",
    plan: bool = False,
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Import an older account: ./inv import --imap HOST --user U, or ./inv import FILE|DIR... --mailbox M."""
    from twinmail import folder_name
    from twinmail.config import Config
    from twinmail.importing import folder_map, report
    from twinmail.importing.source import Folder
    from twinmail.routing import identify
    from twinmail.tasks import place

    if bool(imap) == bool(file):
        raise PermanentError("expected --imap HOST --user U, or files: ./inv import FILE|DIR... --mailbox M")
    if file and (user or folder or ca or secret or password_fd >= 0):
        raise PermanentError("--user, --folder, --ca, --secret and --password-fd go with --imap only")
    loaded = Config.load(place.config_file(config, state))
    name, _ = identify(loaded, _mailbox_word(loaded, mailbox, user))
    if into and not folder_name.is_folder_name(into):
        raise PermanentError(f"--into {into!r}: not the name of a folder; levels are separated by '/'")
    system = place.find(loaded, state, aws)
    source = _files(file, loaded) if file else _account(imap, user, secret, password_fd, ca, folder, loaded)
    folders = folder_map.plan(source.folders())
    targets: dict[Folder, str] = dict.fromkeys(folders, into) if into else folders
    done = _run(loaded, system, name, source, targets, plan)
    if json_:
        print(json.dumps({**done.document(), "plan": plan, "where": system.name}))
    else:
        for line in report.lines(done, "new" if plan else "imported"):
            print(line)
        _tell(loaded, system, done, plan)
    if done.failures:
        for one in done.failures[:_SHOWN] if not json_ else ():
            print(report.printable(f"✗ {one.place}: {one.reason}"), file=sys.stderr)
        count = len(done.failures)
        more = f"; all of them with --json, the first {_SHOWN} above" if count > _SHOWN else ""
        text = f"{count} message{'' if count == 1 else 's'} could not be imported{more}"
        raise Exit("" if json_ else text, code=INCOMPLETE)


def _mailbox_word(config: "Config", mailbox: str, user: str) -> str:
    if (
        mailbox
        or user in config.mailboxes
        or any(user in config.addresses_of(one) for one in config.mailboxes)
    ):
        return mailbox or user
    known = ", ".join(config.mailboxes)
    raise PermanentError(f"--mailbox: expected where the mail goes; mailboxes: {known}")


def _files(paths: Sequence[str], config: "Config") -> "Source":
    from twinmail.importing.files import Files

    return Files([Path(one) for one in paths], config.limits.message_bytes)


def _account(
    imap: str, user: str, secret: str, descriptor: int, ca: str, only: Sequence[str], config: "Config"
) -> "Source":
    from twinmail.importing.account import PORT, ImapAccount, Login

    host, _, port = imap.rpartition(":") if ":" in imap else (imap, "", "")
    if not user:
        raise PermanentError("--user: expected who to log in as at the older server")
    if port and not (port.isdigit() and 0 < int(port) < 65536):
        raise PermanentError(f"--imap {imap}: expected HOST or HOST:PORT")
    try:
        tls = ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        raise PermanentError(f"--ca {ca}: cannot be read: {error.strerror or error}") from error
    password = _password(f"{user} at {host}", secret, descriptor)
    return ImapAccount(Login(host, int(port or PORT), user, password, tls), config.limits.message_bytes, only)


def _password(who: str, secret: str, descriptor: int) -> str:
    from twinmail.secret_store import SecretStore
    from twinmail.tasks.config import PROJECT

    if secret and descriptor >= 0:
        raise PermanentError("--secret and --password-fd: give one of them, or none to be asked")
    if secret:
        data = SecretStore(PROJECT / ".twinmail" / "secrets").get(secret)
        if data is None:
            raise PermanentError(f"--secret {secret}: there is none of this name")
        return data.decode("utf-8", "replace").rstrip("\r\n")
    if descriptor >= 0:
        try:
            with os.fdopen(descriptor, "r", encoding="utf-8", closefd=False) as file:
                return file.readline().rstrip("\r\n")
        except OSError as error:
            raise PermanentError(f"--password-fd {descriptor}: {error.strerror}") from error
    if not sys.stdin.isatty():
        raise PermanentError("there is no terminal to ask for the password; use --password-fd or --secret")
    return getpass.getpass(f"Password of {who}: ")


def _run(
    config: "Config", system: "Place", mailbox: str, source: "Source", targets: dict[Any, str], plan: bool
) -> "Report":
    from botocore.config import Config as Settings
    from botocore.exceptions import BotoCoreError, ClientError

    from twinmail.importing import logged
    from twinmail.importing.importer import PARALLEL, Importer, Log
    from twinmail.importing.memory import Memory
    from twinmail.index import Index
    from twinmail.processor import Processor
    from twinmail.tasks.config import PROJECT
    from twinmail.tasks.import_progress import ImportProgress
    from twinmail.tasks.interruption import Patience

    settings = Settings(max_pool_connections=PARALLEL, retries={"mode": "standard", "max_attempts": 6})
    s3, dynamodb = (system.session.client(one, config=settings) for one in ("s3", "dynamodb"))
    try:
        received = logged.Received.of(s3, config.bucket, dynamodb, config.table, mailbox)
        imported = logged.imported(s3, config.bucket)
    except (BotoCoreError, ClientError) as error:
        raise PermanentError(
            f"{system.name}: {error}; deploy it first, or start it with: ./inv up"
        ) from error
    processor = None if plan else Processor(config, s3, Index(dynamodb, config.table))
    root = system.state.root if system.state else PROJECT / ".twinmail"
    memory = Memory(root / "import" / "memory.sqlite")
    log = Log(mailbox, processor, imported, received)
    with closing(memory), ImportProgress(targets) as progress, Patience() as patience:
        importer = Importer(log, source, memory, patience.pause, progress.show)
        try:
            return importer.run(targets)
        except (KeyboardInterrupt, TwinmailError):
            count = importer.report.total("imported")
            print(f"\n{count:,} messages were imported; the same command goes on from there", file=sys.stderr)
            raise


def _tell(config: "Config", system: "Place", done: "Report", plan: bool) -> None:
    from twinmail.quota import readable

    new, octets, quota = done.total("imported"), done.total("new_octets"), config.quota_of(done.mailbox)
    if plan:
        print(
            f"{new:,} messages ({readable(octets)}) would be imported into {done.mailbox} in {system.name}."
        )
    elif new:
        print(
            f"{new:,} messages ({readable(octets)}) are in the log; both servers show them as they get them."
        )
    else:
        print("nothing was new.")
    if octets > quota:
        print(
            f"They are more than the quota of {done.mailbox} ({readable(quota)}): what has no room waits in "
            f"S3, and comes when there is room. Raise mailboxes.{done.mailbox}.quota_bytes in twinmail.toml."
        )
