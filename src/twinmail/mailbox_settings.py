"""What the user of a mailbox decided about filtering: one document, the same on every server; pure.

It holds the Sieve scripts by name, which of them is active, and the senders that were moved into or out of
Junk. Each of these is a register of its own, and of two values for one register the later one counts: by time
(microseconds), then by the name of the server, then by the value, so that every server picks the same. A
deleted script stays in the document as a register without a value: only that is a deletion, an absence is
none. So merging is commutative, associative and idempotent, and edits of different scripts never meet.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from twinmail import versioned_json
from twinmail.errors import PermanentError
from twinmail.layout import STATE

VERSION = 1
PREFIX = f"{STATE}mailboxes/"

SCRIPTS = 64
"""Live scripts shared of one mailbox."""

SCRIPT_BYTES = 256 * 1024
"""Octets of the largest script that is shared."""

DOCUMENT_BYTES = 24 * 1024 * 1024
"""Octets of the largest document that is read: all scripts, as JSON at its longest."""

SENDERS = 2000
"""Senders kept: those moved last."""

DELETED = 256
"""Deleted scripts that are remembered: those deleted last."""

JUNK = "junk"
HAM = "ham"

# What Pigeonhole does not take for a script's name, and what no file name can hold.
_UNNAMED = re.compile("[\x00-\x1f/\x7f-\x9f\xff\u2028\u2029]")
_NAME_OCTETS = 240


class SettingsDamaged(PermanentError):
    """The octets are not a settings document that this version understands."""


@dataclass(frozen=True)
class Written:
    """A register.

    Attributes:
        at: when it was written, microseconds since the epoch.
        by: the server where it was.
        value: None if it was removed.
    """

    at: int = 0
    by: str = ""
    value: str | None = None

    @property
    def order(self) -> tuple[int, str, bool, str]:
        """The greater one counts."""
        return self.at, self.by, self.value is not None, self.value or ""


NEVER = Written()


@dataclass(frozen=True)
class Settings:
    """The document.

    Attributes:
        scripts: body by name.
        active: the name of the script in use.
        senders: `JUNK` or `HAM` by address, in lower case.
    """

    scripts: Mapping[str, Written] = field(default_factory=dict)
    active: Written = NEVER
    senders: Mapping[str, Written] = field(default_factory=dict)

    @property
    def live(self) -> dict[str, str]:
        """Body by name, without what was deleted."""
        return {name: one.value for name, one in self.scripts.items() if one.value is not None}

    @property
    def active_name(self) -> str:
        """The script in use; empty if there is none, also when it was deleted."""
        script = self.scripts.get(self.active.value or "", NEVER)
        return (self.active.value or "") if script.value is not None else ""

    def sender(self, address: str) -> str:
        """`JUNK`, `HAM`, or empty if *address* was never moved."""
        return self.senders.get(address.lower(), NEVER).value or ""

    def with_script(self, name: str, body: str | None, now: int, server: str) -> "Settings":
        """With *body* as the script *name*, or without it."""
        written = after(self.scripts.get(name, NEVER), body, now, server)
        return replace(self, scripts={**self.scripts, name: written})

    def with_active(self, name: str, now: int, server: str) -> "Settings":
        """With the script *name* in use, or none."""
        return replace(self, active=after(self.active, name or None, now, server))

    def with_sender(self, address: str, kind: str, now: int, server: str) -> "Settings":
        """With *address* remembered as *kind*, or forgotten."""
        address = address.lower()
        written = after(self.senders.get(address, NEVER), kind or None, now, server)
        return replace(self, senders=_newest({**self.senders, address: written}, SENDERS))

    def pruned(self) -> "Settings":
        """Without the oldest deletions, beyond `DELETED`.

        A server that was away while so many later scripts were deleted brings the script back.
        """
        gone = {name: one for name, one in self.scripts.items() if one.value is None}
        if len(gone) <= DELETED:
            return self
        kept = _newest(gone, DELETED)
        scripts = {name: one for name, one in self.scripts.items() if one.value is not None or name in kept}
        return replace(self, scripts=scripts)

    def to_bytes(self) -> bytes:
        """Encode as canonical JSON: equal documents are equal octets."""
        document = {
            "version": VERSION,
            "scripts": {name: _plain(one) for name, one in self.scripts.items()},
            "active": _plain(self.active),
            "senders": {address: _plain(one) for address, one in self.senders.items()},
        }
        return versioned_json.write(document)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Settings":
        """Decode *data*.

        Raises:
            SettingsDamaged: it is damaged, too large, or of another version; the text says where.
        """
        if len(data) > DOCUMENT_BYTES:
            raise SettingsDamaged(f"settings: expected at most {DOCUMENT_BYTES} octets, got {len(data)}")
        try:
            document = versioned_json.read(data, VERSION)
        except ValueError as error:
            raise SettingsDamaged(f"settings: {error}") from error
        settings = cls(
            scripts=_registers("scripts", document.get("scripts")),
            active=_register("active", document.get("active")),
            senders=_registers("senders", document.get("senders")),
        )
        for name in settings.scripts:
            if not is_script_name(name):
                raise SettingsDamaged(f"settings: scripts: {name!r} is not the name of a script")
        return settings


def key(mailbox: str) -> str:
    """Key of the document of *mailbox*."""
    return f"{PREFIX}{mailbox}/settings.json"


def merge(one: Settings, other: Settings) -> Settings:
    """Both, register by register."""
    return Settings(
        scripts=_merged(one.scripts, other.scripts),
        active=max(one.active, other.active, key=lambda written: written.order),
        senders=_newest(_merged(one.senders, other.senders), SENDERS),
    )


def after(before: Written, value: str | None, now: int, server: str) -> Written:
    """*value* written over *before*: later than it, even where this server's clock is behind."""
    return Written(max(now, before.at + 1), server, value)


def is_script_name(name: str) -> bool:
    """Whether Pigeonhole takes *name* and the file system its file.

    Source: ``sieve_script_name_is_valid`` of Pigeonhole.
    """
    try:
        octets = len(name.encode())
    except UnicodeEncodeError:
        return False
    return 0 < octets <= _NAME_OCTETS and not _UNNAMED.search(name)


def _merged(one: Mapping[str, Written], other: Mapping[str, Written]) -> dict[str, Written]:
    names = one.keys() | other.keys()
    return {
        name: max(one.get(name, NEVER), other.get(name, NEVER), key=lambda written: written.order)
        for name in names
    }


def _newest(registers: Mapping[str, Written], count: int) -> Mapping[str, Written]:
    """The *count* written last.

    What is left out here is left out of every later merge too, because what it was left out for only gets
    newer; so the limit keeps merging associative.
    """
    if len(registers) <= count:
        return registers
    order = sorted(registers.items(), key=lambda item: (item[1].at, item[1].by, item[0]), reverse=True)
    return dict(order[:count])


def _plain(written: Written) -> dict[str, int | str | None]:
    return {"at": written.at, "by": written.by, "value": written.value}


def _registers(name: str, value: Any) -> dict[str, Written]:
    if not isinstance(value, dict):
        raise SettingsDamaged(f"settings: {name}: expected an object, got {value!r}")
    return {key: _register(f"{name}.{key}", one) for key, one in value.items()}


def _register(name: str, value: Any) -> Written:
    if isinstance(value, dict):
        at, by, kept = value.get("at"), value.get("by"), value.get("value")
        if isinstance(at, int) and isinstance(by, str) and isinstance(kept, str | None):
            written = Written(int(at), by, kept)
            if 0 <= written.at < 1 << 62 and _is_text(by + (kept or "")):
                return written
    raise SettingsDamaged(f"settings: {name}: expected at, by and value, got {str(value)[:80]}")


def _is_text(value: str) -> bool:
    """Whether *value* is Unicode that can be written; JSON can hold halves of characters."""
    try:
        return len(value.encode()) >= 0
    except UnicodeEncodeError:
        return False
