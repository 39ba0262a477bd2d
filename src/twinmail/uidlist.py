"""Dovecot's ``dovecot-uidlist`` in a Maildir folder, for the one thing that file names do not tell; pure.

A message keeps its base name, and with it its GUID, wherever it is copied or moved. Where Dovecot's list
still has that name from before, though, the file gets another one, and the list notes the GUID (``G``).
Source: Dovecot's ``src/lib-storage/index/maildir/maildir-uidlist.c``, version 3 of the format.
"""

from collections.abc import Iterable

NAME = "dovecot-uidlist"


def guids(lines: Iterable[str]) -> dict[str, str]:
    """GUID by base name of the files whose name is not their GUID; what cannot be read is left out."""
    found: dict[str, str] = {}
    for line in lines:
        facts, colon, file = line.rstrip("\n").partition(" :")
        if not colon:
            continue
        for fact in facts.split(" ")[1:]:
            if fact.startswith("G") and len(fact) > 1:
                found[file.partition(":")[0]] = fact[1:]
    return found
