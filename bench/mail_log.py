"""A bucket full of mail, as files: the same messages and manifest entries for the same seed."""

import hashlib
import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twinmail.layout import manifest_key, processed_key
from twinmail.manifest import Delivery, Entry

START = datetime(2026, 1, 1, tzinfo=UTC)
_MEDIAN = 12_000
_SPREAD = 1.3
_LEAST, _MOST = 600, 10 << 20


def write(folder: Path, count: int, mailbox: str, seed: int = 2026) -> tuple[list[str], int]:
    """Write *count* messages for *mailbox* below *folder*; returns their keys and their octets together.

    Sizes are log-normal around 12 KB with a tail to 10 MB.
    """
    chance = random.Random(seed)
    block = chance.randbytes(_MOST // 2).hex().encode()
    keys, octets = [], 0
    for number in range(count):
        size = int(min(_MOST, max(_LEAST, chance.lognormvariate(math.log(_MEDIAN), _SPREAD))))
        at = chance.randrange(len(block) - size + 1)
        part = block[at : at + size]
        lines = b"\r\n".join(part[start : start + 76] for start in range(0, size, 76))
        head = (
            "From: ann@example.com\r\nTo: ann@example.org\r\n"
            f"Subject: message {number}\r\nMessage-ID: <{number}@example.com>\r\n\r\n"
        )
        data = head.encode() + lines + b"\r\n"
        arrived = START + timedelta(minutes=20 * number)
        ses_id = hashlib.sha256(b"%d" % number).hexdigest()[:40]
        entry = Entry(
            ses_id,
            processed_key(ses_id, arrived),
            len(data),
            hashlib.sha256(data).hexdigest(),
            arrived,
            "ann@example.com",
            ("ann@example.org",),
            (Delivery(mailbox),),
            {"spam": "PASS"},
        )
        for key, content in ((entry.key, data), (manifest_key(ses_id, arrived), entry.to_bytes())):
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        keys.append(entry.key)
        octets += len(data)
    return keys, octets
