"""Where the folders of another server lead to here; pure.

Special-use attributes (RFC 6154) say it best. Where a source has none, the names that servers and mail
clients give these folders do. Ours are Sent, Drafts, Junk, Trash and Archive, which Dovecot makes.
"""

from collections.abc import Mapping, Sequence

from twinmail.folder_name import INBOX, fitting
from twinmail.importing.source import Folder

ROLES: Mapping[str, str] = {
    "sent": "Sent",
    "drafts": "Drafts",
    "junk": "Junk",
    "trash": "Trash",
    "archive": "Archive",
    "all": "Archive",
}
# Each shows messages that are in other folders.
VIEWS = frozenset({"flagged", "important"})

_NAMES = {
    "Sent": (
        "sent",
        "sent items",
        "sent messages",
        "sent mail",
        "sent-mail",
        "gesendet",
        "gesendete objekte",
        "gesendete elemente",
        "gesendete nachrichten",
        "objets envoyés",
        "éléments envoyés",
    ),
    "Drafts": ("drafts", "draft", "entwürfe", "entwurf", "brouillons"),
    "Junk": (
        "junk",
        "junk e-mail",
        "junk email",
        "junk mail",
        "junk-e-mail",
        "junk-email",
        "bulk mail",
        "spam",
        "spamverdacht",
        "unerwünscht",
        "courrier indésirable",
    ),
    "Trash": (
        "trash",
        "deleted items",
        "deleted messages",
        "bin",
        "papierkorb",
        "gelöscht",
        "gelöschte objekte",
        "gelöschte elemente",
        "corbeille",
        "éléments supprimés",
    ),
    "Archive": ("archive", "archives", "archiv"),
    INBOX: ("inbox", "posteingang", "boîte de réception"),
}
_BY_NAME = {name: target for target, names in _NAMES.items() for name in names}
_GMAIL = ("[gmail]", "[google mail]")


def plan(folders: Sequence[Folder]) -> dict[Folder, str]:
    """The folder here of each of *folders* that is to be read, in the order to read them.

    Left out are views of what is in other folders. A folder of all mail comes last: only what is in no other
    folder is imported from it.
    """
    roles = {tuple(one.levels): ROLES[one.role] for one in folders if one.role in ROLES and one.role != "all"}
    taken = set(roles.values())
    targets = {one: _target(one, roles, taken) for one in folders if one.role not in VIEWS}
    return dict(sorted(targets.items(), key=lambda item: item[0].role == "all"))


def is_known_name(level: str) -> bool:
    """Whether servers or clients give a special folder this name."""
    return level.lower() in _BY_NAME


def _target(folder: Folder, roles: Mapping[tuple[str, ...], str], taken: set[str]) -> str:
    levels = tuple(folder.levels)
    if folder.role in ROLES:
        return ROLES[folder.role]
    # What is below a special folder stays below it.
    for length in range(len(levels), 0, -1):
        if levels[:length] in roles:
            return fitting([roles[levels[:length]], *levels[length:]])
    if len(levels) > 1 and levels[0].lower() in _GMAIL:
        levels = levels[1:]
    target = _BY_NAME.get(levels[0].lower()) if levels else INBOX
    # Where the source says which one is Sent, another of such a name is an ordinary folder.
    if target is None or (target in taken and levels[0] != target):
        return fitting(list(levels))
    return fitting([target, *levels[1:]])
