"""The two names of a folder: the one people and IMAP know, and the one on the disk. Pure.

On the disk (Maildir++ as our Dovecot keeps it) ``.`` separates levels, what is not ASCII is in modified UTF-7
(RFC 3501, section 5.1.3), and a character that has a meaning there is ``%`` and two hexadecimal digits
(``mailbox_list_storage_escape_char``; `mailbox_list_escape_name_params` in Dovecot 2.4.1).
"""

import base64
import hashlib
import re
import unicodedata

INBOX = "INBOX"
SEPARATOR = "/"

# A directory's name has at most 255 octets, and Dovecot's own files beside it need a few.
_DISK_OCTETS = 240
_LEVELS = 32
_SHORT = 20
_ENCODED = re.compile(r"&([A-Za-z0-9+,]*)-")
_ESCAPED = re.compile(r"%([0-9a-f]{2})")
# RFC 9051 (section 5.1) lets servers refuse them, and ours does; so with halves of surrogate pairs.
_REFUSED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN = re.compile(r"[\x20-\x25\x27-\x7e]+")


def imap_name(folder: str) -> str:
    """The name under which IMAP knows the *folder* of this name on the disk, in Unicode."""
    if folder == INBOX:
        return folder
    levels = _ENCODED.sub(_decoded, folder.replace(".", SEPARATOR))
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), levels)


def disk_name(folder: str) -> str:
    """The name on the disk, without its first dot, of the *folder* that IMAP knows by this name."""
    if folder == INBOX:
        return folder
    return ".".join(_encoded(_escaped(level)) for level in folder.split(SEPARATOR))


def is_folder_name(folder: str) -> bool:
    """Whether *folder* is a name that every server can keep, with ``/`` between levels."""
    levels = folder.split(SEPARATOR)
    return (
        0 < len(levels) <= _LEVELS
        and all(levels)
        and not _REFUSED.search(folder)
        and (folder == INBOX or folder.upper() != INBOX)
        and len(disk_name(folder)) <= _DISK_OCTETS
    )


def fitting(levels: list[str]) -> str:
    """The name of the folder with *levels* of another server, changed where our servers would refuse it.

    Characters have one form (NFC), so that the same name of two sources is the same folder.
    """
    kept = [_REFUSED.sub("_", unicodedata.normalize("NFC", one)).replace(SEPARATOR, "_") for one in levels]
    kept = [one or "_" for one in kept]
    name = SEPARATOR.join(kept[: _LEVELS - 1] + ["_".join(kept[_LEVELS - 1 :])] * (len(kept) >= _LEVELS))
    if not name or name.upper() == INBOX:
        return INBOX
    if kept[0].upper() == INBOX:
        # It is the same folder in any case of letters, also as a parent.
        name = INBOX + name[len(INBOX) :]
    if len(disk_name(name)) > _DISK_OCTETS:
        # Short and still apart from every other one.
        mark = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = SEPARATOR.join([*(one[:_SHORT] for one in kept[:3]), mark])
        if len(disk_name(name)) > _DISK_OCTETS:
            name = SEPARATOR.join([kept[0][:_SHORT], mark])
    return name


def modified_utf7(text: str) -> str:
    """What the modified UTF-7 *text* says; unchanged where it is none."""
    return _ENCODED.sub(_decoded, text)


def _decoded(found: re.Match[str]) -> str:
    text = found[1]
    if not text:
        return "&"
    try:
        octets = base64.b64decode(text.replace(",", "/") + "=" * (-len(text) % 4))
    except ValueError:
        return found[0]
    return octets.decode("utf-16-be", "replace")


def _escaped(level: str) -> str:
    """*level* with what has a meaning on the disk escaped."""
    start, rest = ("%7e", level[1:]) if level.startswith("~") else ("", level)
    return start + rest.replace("%", "%25").replace(".", "%2e")


def _encoded(level: str) -> str:
    """*level* in modified UTF-7."""
    parts, position = [], 0
    for plain in _PLAIN.finditer(level):
        parts += [_shifted(level[position : plain.start()]), plain[0]]
        position = plain.end()
    return "".join([*parts, _shifted(level[position:])])


def _shifted(text: str) -> str:
    """*text*, which has only ampersands and what is not ASCII, in modified UTF-7."""
    parts = []
    for run in re.findall(r"&|[^&]+", text):
        if run == "&":
            parts.append("&-")
            continue
        octets = base64.b64encode(run.encode("utf-16-be")).decode("ascii")
        parts.append(f"&{octets.rstrip('=').replace('/', ',')}-")
    return "".join(parts)
