"""Keeps every mailbox's settings the same in the bucket, on this server's disk and in memory.

The order of writes: bucket, disk, marker, record. The record is what this server knows the mailbox's folder
to hold; a crash before it leaves work that is found again and already done. Nothing of this is on the way of
mail: what is known counts until something newer is.
"""

import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from twinmail import durable_file
from twinmail.durable_file import NotWritten
from twinmail.errors import TransientError, TwinmailError
from twinmail.mailbox_settings import PREFIX, Settings, SettingsDamaged, key, merge
from twinmail.sieve_folder import Fingerprint, SieveFolder
from twinmail.sync.log import Log
from twinmail.sync.settings_plan import Changes, Plan, changes, marker, plan
from twinmail.sync.state_store import Conflict, StateStore, Stored

FOLDER = "settings"
LOOK_SECONDS = 2.0
PULL_SECONDS = 300.0
# Somebody else may write first so often in a row; then the next turn goes on.
_ATTEMPTS = 5


class SettingsTrouble(TransientError):
    """Settings of some mailboxes are not the same everywhere now; filters go on with what is here."""


@dataclass
class _Known:
    """What is known of one mailbox.

    Attributes:
        etag: the version in the bucket that says the same; empty if none does.
        seen: the folder when it was last found to say the same; None to look into it.
    """

    settings: Settings
    etag: str = ""
    seen: Fingerprint | None = None


class SharedSettings:
    """The settings of *mailboxes* on *server*; `of` may be asked by any thread, the rest by one.

    *mailboxes* may change; *mail* is the folder of them, *state* the one of the records.
    """

    def __init__(
        self,
        server: str,
        mailboxes: Iterable[str],
        mail: Path,
        state: Path,
        store: StateStore,
        log: Log,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._server = server
        self._mail = mail
        self._records = state / FOLDER
        self._store = store
        self._log = log
        self._clock = clock
        self._said: dict[str, tuple[str, ...]] = {}
        self._mailboxes = mailboxes
        self._known: dict[str, _Known] = {}

    def of(self, mailbox: str) -> Settings:
        """What the user of *mailbox* decided, as far as this server knows."""
        return self._of(mailbox).settings

    def remember(self, mailbox: str, address: str, kind: str) -> None:
        """Remember *address* as a sender of *kind*; the other servers learn it at the next turn.

        Raises:
            NotWritten: the disk does not take the record.
        """
        known = self._of(mailbox)
        if known.settings.sender(address) != kind:
            settings = known.settings.with_sender(address, kind, self._now(), self._server)
            self._save(mailbox, _Known(settings, "", known.seen))

    def look(self) -> None:
        """Bring what changed on this disk to the bucket.

        Raises:
            SettingsTrouble: not for every mailbox.
        """
        self._each(self._mailboxes, self._look)

    def pull(self) -> None:
        """Bring what changed in the bucket to this disk.

        Raises:
            SettingsTrouble: not for every mailbox.
            SourceUnavailable.
        """
        there = dict(self._store.versions(PREFIX))
        behind = [one for one in self._mailboxes if there.get(key(one), "") != self._of(one).etag]
        self._each(behind, self._settle)

    def _each(self, mailboxes: Iterable[str], act: Callable[[str], None]) -> None:
        troubles = []
        for mailbox in tuple(mailboxes):
            try:
                act(mailbox)
            except TwinmailError as error:
                troubles.append(f"{mailbox}: {error}")
        if troubles:
            raise SettingsTrouble("; ".join(troubles))

    def _look(self, mailbox: str) -> None:
        known = self._of(mailbox)
        folder = SieveFolder(self._mail / mailbox)
        seen = folder.fingerprint()
        unsaid = not known.etag and known.settings != Settings()
        if seen == known.seen and not unsaid:
            return
        if known.seen is None and not unsaid:
            found = folder.read()
            here = changes(known.settings, found, known.settings, self._now(), self._server)
            marked = not known.settings.scripts or found.marker == marker(known.settings)
            if marked and here == Changes(known.settings) and plan(found, known.settings).empty:
                known.seen = seen
                return
        self._settle(mailbox)

    def _settle(self, mailbox: str) -> None:
        """Make the bucket, this disk and the record say the same."""
        folder = SieveFolder(self._mail / mailbox)
        for _ in range(_ATTEMPTS):
            known = self._of(mailbox)
            seen, found = folder.fingerprint(), folder.read()
            stored, remote = self._fetch(mailbox)
            here = changes(known.settings, found, remote, self._now(), self._server)
            settings = merge(here.settings, remote).pruned()
            todo = plan(found, settings)
            try:
                etag = self._put(mailbox, settings, remote, stored)
            except Conflict:
                continue
            self._say(mailbox, here)
            # A client may have written meanwhile; what it wrote must not be replaced by what is older.
            if folder.fingerprint() != seen:
                continue
            self._apply(mailbox, folder, todo)
            if todo.write or todo.remove or settings.scripts:
                told = marker(settings)
                if found.marker != told:
                    folder.mark(told)
            if (settings, etag) != (known.settings, known.etag):
                self._save(mailbox, _Known(settings, etag))
            # After own writes the folder is looked into once more: a client may have written in between.
            written = not todo.empty or found.marker != marker(settings)
            self._of(mailbox).seen = None if written else seen
            if here.refused:
                shown = "; ".join(f"{name}: {why}" for name, why in sorted(here.refused.items()))
                raise SettingsTrouble(f"works on this server only: {shown}")
            return
        raise SettingsTrouble(f"changed {_ATTEMPTS} times while it was read; tried again")

    def _fetch(self, mailbox: str) -> tuple[Stored | None, Settings]:
        stored = self._store.get(key(mailbox))
        try:
            return stored, Settings.from_bytes(stored.data) if stored else Settings()
        except SettingsDamaged as error:
            # Not overwritten: it may be of a newer version, or tell what went wrong.
            raise SettingsDamaged(
                f"{key(mailbox)}: {error}; filters go on as they are here; once the object is removed, "
                "the servers write it again from what they have"
            ) from error

    def _put(self, mailbox: str, settings: Settings, remote: Settings, stored: Stored | None) -> str:
        if stored is None:
            return self._store.create(key(mailbox), settings.to_bytes()) if settings != Settings() else ""
        if settings == remote:
            return stored.etag
        return self._store.replace(key(mailbox), settings.to_bytes(), stored.etag)

    def _apply(self, mailbox: str, folder: SieveFolder, todo: Plan) -> None:
        for name, body in todo.write.items():
            folder.write(name, body)
        if todo.activate is not None:
            folder.activate(todo.activate)
        for name in todo.remove:
            folder.remove(name)
        if not todo.empty:
            self._log.info(
                "settings applied",
                mailbox=mailbox,
                written=sorted(todo.write),
                removed=list(todo.remove),
                active=todo.activate,
            )

    def _say(self, mailbox: str, here: Changes) -> None:
        if here.doubts and self._said.get(mailbox) != here.doubts:
            self._log.warning("scripts put back", mailbox=mailbox, reason="; ".join(here.doubts))
        self._said[mailbox] = here.doubts

    def _now(self) -> int:
        return int(self._clock() * 1_000_000)

    # Records

    def _of(self, mailbox: str) -> _Known:
        known = self._known.get(mailbox)
        return known if known is not None else self._known.setdefault(mailbox, self._load(mailbox))

    def _load(self, mailbox: str) -> _Known:
        path = self._records / f"{mailbox}.json"
        try:
            document = json.loads(path.read_bytes())
            return _Known(Settings.from_bytes(document["settings"].encode()), str(document["etag"]))
        except FileNotFoundError:
            return _Known(Settings())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SettingsDamaged) as error:
            self._log.warning("record left out", path=str(path), error=str(error), note="made again")
            return _Known(Settings())

    def _save(self, mailbox: str, known: _Known) -> None:
        document = {"etag": known.etag, "settings": known.settings.to_bytes().decode("ascii")}
        try:
            with suppress(FileExistsError):
                self._records.mkdir(mode=0o700)
        except OSError as error:
            raise NotWritten(f"{self._records}: {error.strerror}; free space or mend its mode") from error
        durable_file.write(self._records / f"{mailbox}.json", json.dumps(document).encode(), 0o600)
        self._known[mailbox] = known


class SettingsLook:
    """The `Chore` that sees what clients of this server change: a few stats a mailbox."""

    name = "settings"
    prefix = ""

    def __init__(self, shared: SharedSettings, seconds: float = LOOK_SECONDS) -> None:
        self.seconds = seconds
        self._shared = shared

    def turn(self) -> None:
        """See `Chore`."""
        self._shared.look()


class SettingsPull:
    """The `Chore` that sees what the other servers wrote: when announced, and by itself."""

    name = "settings-pull"
    prefix = PREFIX

    def __init__(self, shared: SharedSettings, seconds: float = PULL_SECONDS) -> None:
        self.seconds = seconds
        self._shared = shared

    def turn(self) -> None:
        """See `Chore`."""
        self._shared.pull()
