"""Sees that a user moved a message into or out of Junk, with whichever client, and remembers the sender.

A client moves by MOVE, or by COPY, a flag and EXPUNGE; in the Maildir both are a base name that appears in
one folder and goes from another, so the folder is watched: two stats a mailbox, and a listing when it
changed.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from twinmail import durable_file, uidlist
from twinmail.config import Config
from twinmail.durable_file import NotWritten
from twinmail.errors import TransientError, TwinmailError
from twinmail.junk import TRASH_FOLDER, Look, folder_for, learn
from twinmail.ledger import Ledger
from twinmail.mailbox_settings import JUNK
from twinmail.maildir import stem
from twinmail.manifest import INBOX, Entry
from twinmail.manifest import JUNK as JUNK_FOLDER
from twinmail.message import HEADER_BYTES, from_address
from twinmail.sync.log import Log, utc_now
from twinmail.sync.settings import SharedSettings

FOLDER = "junk"
LOOK_SECONDS = 3.0

_OWN = re.compile(r"[0-9]+\.[0-9a-f]{32}\.twinmail(,[^:/]*)?")
# File systems stamp a folder by a clock of up to 10 ms; what changed so lately may change again unseen.
_FRESH_NS = 1_000_000_000

# Of arrival; a user who is faster than the watch is so with new mail.
_RECENT = timedelta(minutes=10)

Fingerprint = tuple[int, ...]


class JunkTrouble(TransientError):
    """The Junk folders of some mailboxes could not be looked into."""


class JunkMemory:
    """What delivery asks: where a user's opinion of its sender leads a message."""

    def __init__(self, shared: SharedSettings) -> None:
        self._shared = shared

    def folder(self, mailbox: str, entry: Entry, header: bytes) -> str | None:
        """The folder for the message of *entry* that begins with *header*; None for the entry's own."""
        settings = self._shared.of(mailbox)
        if not settings.senders:
            return None
        own = next((one.folder for one in entry.deliveries if one.mailbox == mailbox), INBOX)
        told = folder_for(entry.verdicts, from_address(header), settings, own)
        return told if told != own else None


class JunkLook:
    """The `Chore` that watches the Junk folders of *config* 's mailboxes under *mail*.

    What was in them at the last look is kept in the folder *state*, so that a restart misses no move.
    """

    name = "junk"
    prefix = ""

    def __init__(
        self,
        config: Config,
        mail: Path,
        state: Path,
        ledger: Ledger,
        shared: SharedSettings,
        log: Log,
        seconds: float = LOOK_SECONDS,
    ) -> None:
        self.seconds = seconds
        self._config = config
        self._mail = mail
        self._records = state / FOLDER
        self._ledger = ledger
        self._shared = shared
        self._log = log
        self._looks: dict[str, Look | None] = {}
        self._seen: dict[str, Fingerprint] = {}

    def turn(self) -> None:
        """See `Chore`.

        Raises:
            JunkTrouble: not for every mailbox.
        """
        troubles = []
        for mailbox in self._config.mailboxes:
            try:
                self._look(mailbox)
            except (TwinmailError, OSError) as error:
                troubles.append(f"{mailbox}: {error}")
        if troubles:
            raise JunkTrouble("; ".join(troubles))

    def _look(self, mailbox: str) -> None:
        maildir = self._mail / mailbox / "Maildir"
        seen = _fingerprint(maildir / f".{JUNK_FOLDER}")
        if self._seen.get(mailbox) == seen:
            return
        before = self._known(mailbox)
        inside = _messages(maildir / f".{JUNK_FOLDER}")
        if before is not None:
            # Also those that were delivered, and moved on, since the last look.
            since = f"{(utc_now() - _RECENT).timestamp():.0f}"
            recent = self._ledger.delivered_since(mailbox, since, JUNK_FOLDER)
            before = replace(before, inside=before.inside | (recent - before.left))
        gone = before.inside - inside.keys() if before else frozenset()
        elsewhere = self._elsewhere(maildir, gone) if gone else {}
        delivered = self._ledger.folders(mailbox, inside.keys() | gone)
        folders = {one: folder for one, (folder, _) in elsewhere.items()}
        lessons = learn(before, inside.keys(), delivered, folders)
        missed = set()
        for one, opinion in sorted(lessons.opinions.items()):
            try:
                with (inside.get(one) or elsewhere[one][1]).open("rb") as file:
                    start = file.read(HEADER_BYTES)
            except FileNotFoundError:
                # Renamed meanwhile: it is new, or gone, at the next look too.
                missed.add(one)
                continue
            self._remember(mailbox, from_address(start), opinion)
        kept = (lessons.look.inside - missed) | (missed & (before.inside if before else frozenset()))
        look = Look(kept, lessons.look.left)
        # The senders first: a crash in between teaches the same again.
        if look != self._known(mailbox):
            self._save(mailbox, look)
        settled = not missed and len(look.inside) == len(inside) and _settled(seen)
        self._seen[mailbox] = seen if settled else ()

    def _remember(self, mailbox: str, address: str, opinion: str) -> None:
        if not address:
            return
        if opinion == JUNK and address in self._config.addresses_of(mailbox):
            # Spam forges it; what users write to themselves is no spam.
            return
        before = self._shared.of(mailbox).sender(address)
        self._shared.remember(mailbox, address, opinion)
        if before != opinion:
            self._log.info("sender remembered", mailbox=mailbox, opinion=opinion or "none")

    def _elsewhere(self, maildir: Path, wanted: Collection[str]) -> Mapping[str, tuple[str, Path]]:
        """Folder and file of those of *wanted* that are in another folder; Trash only if nowhere else."""
        found: dict[str, tuple[str, Path]] = {}
        # Twice: a rename during the listing may hide a file from it.
        for _ in range(2):
            for name, folder in _folders(maildir):
                here = _messages(folder)
                for one in here.keys() & set(wanted):
                    if one not in found or found[one][0] == TRASH_FOLDER:
                        found[one] = (name, here[one])
            if len(found) == len(wanted):
                break
        return found

    def _known(self, mailbox: str) -> Look | None:
        if mailbox not in self._looks:
            self._looks[mailbox] = self._load(mailbox)
        return self._looks[mailbox]

    def _load(self, mailbox: str) -> Look | None:
        path = self._records / f"{mailbox}.json"
        try:
            document = json.loads(path.read_bytes())
            return Look(frozenset(map(str, document["inside"])), frozenset(map(str, document["left"])))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._log.warning("record left out", path=str(path), error=str(error), note="made again")
            return None

    def _save(self, mailbox: str, look: Look) -> None:
        document = {"inside": sorted(look.inside), "left": sorted(look.left)}
        try:
            self._records.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise NotWritten(f"{self._records}: {error.strerror}; free space or mend its mode") from error
        durable_file.write(self._records / f"{mailbox}.json", json.dumps(document).encode(), 0o600)
        self._looks[mailbox] = look


def _fingerprint(folder: Path) -> Fingerprint:
    """When the set of names in *folder* last changed."""
    times = [0, 0]
    for number, part in enumerate(("new", "cur")):
        with suppress(FileNotFoundError):
            times[number] = (folder / part).stat().st_mtime_ns
    return tuple(times)


def _settled(seen: Fingerprint) -> bool:
    return max(seen) < utc_now().timestamp() * 1e9 - _FRESH_NS


def _folders(maildir: Path) -> Iterator[tuple[str, Path]]:
    """INBOX and every folder but Junk, by name."""
    yield INBOX, maildir
    with suppress(FileNotFoundError):
        for path in maildir.iterdir():
            if path.name.startswith(".") and path.name != f".{JUNK_FOLDER}" and (path / "cur").is_dir():
                yield path.name[1:], path


def _messages(folder: Path) -> dict[str, Path]:
    """Our messages in *folder* by stem, without those that a client marked as deleted."""
    found: dict[str, Path] = {}
    others: dict[str, Path] = {}
    for part in ("new", "cur"):
        with suppress(FileNotFoundError):
            for path in (folder / part).iterdir():
                base, _, flags = path.name.partition(":2,")
                if "T" in flags:
                    continue
                if _OWN.fullmatch(base):
                    found.setdefault(stem(base), path)
                else:
                    others[base] = path
    if others:
        with suppress(FileNotFoundError), (folder / uidlist.NAME).open(errors="replace") as lines:
            for base, guid in uidlist.guids(lines).items():
                if base in others and _OWN.fullmatch(guid):
                    found.setdefault(stem(guid), others[base])
    return found
