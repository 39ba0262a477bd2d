"""The base name of a message in every Maildir.

In Maildir the base name, ``,S=`` and ``,W=`` included, is Dovecot's GUID. It is a pure function of the
message, so that two servers which never spoke to each other hold it under the same name.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

from twinmail.layout import checked_ses_id

HOST = "twinmail"


def base_name(arrived: datetime, ses_id: str, size: int, vsize: int) -> str:
    """Return ``<arrival-epoch>.<ses-id-derived>.twinmail,S=<size>,W=<vsize>``.

    *size* counts the octets of the file, *vsize* the octets IMAP shows (every bare LF becomes CRLF). Both
    must be computed from the very bytes: Dovecot renames a file whose W is wrong, which changes its GUID.

    The middle part is derived, not the id itself: an id may be too long for a file name beside flags, and
    may hold characters that Maildir gives a meaning.
    """
    return f"{int(arrived.astimezone(UTC).timestamp())}.{derived(ses_id)}.{HOST},S={size},W={vsize}"


# A delivery asks for that of its message several times.
@lru_cache(maxsize=4096)
def derived(ses_id: str) -> str:
    """The middle part of the base name of the message *ses_id*: 32 hexadecimal digits."""
    return hashlib.sha256(checked_ses_id(ses_id).encode("ascii")).hexdigest()[:32]


def virtual_size(chunks: Iterable[bytes]) -> int:
    """Count the octets of the message as IMAP shows them: each LF without a CR before it counts as two."""
    total = 0
    last_was_cr = False
    for chunk in chunks:
        if not chunk:
            continue
        bare = chunk.count(b"\n") - chunk.count(b"\r\n")
        if last_was_cr and chunk.startswith(b"\n"):
            bare -= 1
        total += len(chunk) + bare
        last_was_cr = chunk.endswith(b"\r")
    return total
