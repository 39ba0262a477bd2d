"""What changed on this disk, and what has to change on it: decided here, done by the chore. Pure.

A file that is missing is a deletion only if everything says so: this server had left it there itself, the
folder is the very one it left (see the marker in ``twinmail.sieve_folder``), the link does not still lead to
it, and not everything vanished at once. In doubt the script is put back: a deletion can be done again.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from twinmail.mailbox_settings import NEVER, SCRIPTS, Settings, Written, after
from twinmail.sieve_folder import Found

# So many scripts gone at one look are no deletions: a client removes them one by one.
_SUSPICIOUS = 3


@dataclass(frozen=True)
class Changes:
    """What the user of this server did.

    Attributes:
        settings: the ones known before, with that in them.
        doubts: what looks like a deletion and is not believed.
        refused: why a script is not shared, by name.
    """

    settings: Settings
    doubts: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What to do on this disk, in this order.

    Attributes:
        write: body by name.
        activate: what the link has to lead to, empty for no link; None to leave it.
        remove: names; after the link, which must never lead nowhere.
    """

    write: Mapping[str, str]
    activate: str | None
    remove: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.write and not self.remove and self.activate is None


def marker(settings: Settings) -> str:
    """What to leave in a folder that holds what *settings* say."""
    digest = hashlib.sha256()
    for name, body in sorted(settings.live.items()):
        for part in (name, body):
            digest.update(hashlib.sha256(part.encode()).digest())
    digest.update(settings.active_name.encode())
    return digest.hexdigest()


def changes(base: Settings, found: Found, remote: Settings, now: int, server: str) -> Changes:
    """Compare *found* with *base*, what this server left on its disk, and add what *server* 's user did.

    What *remote* says already is taken from there: it was done on the other server, or here before a crash.
    """
    own = bool(found.marker) and found.marker == marker(base)
    scripts = dict(base.scripts)
    refused = dict(found.refused)
    live = len(base.live)
    for name, (body, at) in sorted(found.scripts.items()):
        known = base.scripts.get(name, NEVER)
        if known.value == body:
            continue
        if known.value is None and live >= SCRIPTS:
            refused[name] = f"more than {SCRIPTS} scripts"
            continue
        live += known.value is None
        scripts[name] = _taken(known, body, min(at, now), remote.scripts.get(name, NEVER), server, own)
    doubts, gone = _missing(base, found, own)
    for name in gone:
        known, told = base.scripts[name], remote.scripts.get(name, NEVER)
        scripts[name] = told if _says(told, known, None) else after(known, None, now, server)
    active = base.active
    if not found.foreign and not doubts and found.active != base.active_name:
        value = found.active or None
        if _says(remote.active, base.active, value):
            active = remote.active
        elif own or value:
            active = _taken(base.active, value, min(found.active_at, now) or now, remote.active, server, own)
    settings = replace(base, scripts=scripts, active=active)
    return Changes(settings, doubts, refused)


def plan(found: Found, settings: Settings) -> Plan:
    """Decide how to make *found* what *settings* say; what was refused is left alone."""
    wanted = {name: body for name, body in settings.live.items() if name not in found.refused}
    write = {name: body for name, body in wanted.items() if found.scripts.get(name, (None, 0))[0] != body}
    # Only what is known to be deleted: a script that nobody knows yet is not for this to remove.
    gone = {name for name, one in settings.scripts.items() if one.value is None}
    remove = tuple(sorted(gone & found.scripts.keys()))
    active = settings.active_name
    if found.foreign or active == found.active or found.active in found.refused:
        return Plan(write, None, remove)
    return Plan(write, active, remove)


def _missing(base: Settings, found: Found, own: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is not believed, and the names that were deleted."""
    here = found.scripts.keys() | found.refused.keys()
    missing = tuple(sorted(base.live.keys() - here))
    if not missing:
        return (), ()
    if not own:
        return (f"{len(missing)} scripts are missing from a folder that is not as this server left it",), ()
    if found.active in missing:
        return (f"the script {found.active!r} is missing although it is in use",), ()
    if not here and len(missing) >= _SUSPICIOUS:
        return (f"all {len(missing)} scripts are missing",), ()
    return (), missing


def _taken(known: Written, value: str | None, at: int, told: Written, server: str, own: bool) -> Written:
    """The register for *value*, found on the disk since *at*, where *known* was left."""
    if _says(told, known, value):
        return told
    if own:
        return after(known, value, at, server)
    # A folder that came from elsewhere may be old; only what was written later than what is known counts.
    mine = Written(at, server, value)
    return max(known, mine, key=lambda written: written.order)


def _says(told: Written, known: Written, value: str | None) -> bool:
    """Whether *told* is *value*, and later than *known*."""
    return told.value == value and told.order > known.order
