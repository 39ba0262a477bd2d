"""What the senders heard against what the mailboxes hold: lost, duplicated, changed, and what nobody sent."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinmail.chaos.letters import LABEL
from twinmail.chaos.traffic import Attempt, Heard


@dataclass(frozen=True)
class Verdict:
    """Lines for a person, each about one file or the lack of it.

    Attributes:
        lost: accepted with 250, and not there.
        duplicated: there more than once.
        changed: there, and not octet by octet as sent below what SES and we write above it, or not the same
            on every server.
        unasked: there, although its sender was told to keep it, or nobody sent it.
    """

    lost: tuple[str, ...] = ()
    duplicated: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether everything is as promised."""
        return not (self.lost or self.duplicated or self.changed or self.unasked)


def verdict(attempts: Sequence[Attempt], mail: Mapping[str, Path]) -> Verdict:
    """Compare *attempts* with the Maildirs in the folders *mail*, by server."""
    wanted = {
        (mailbox, one.letter.label(one.number)): one for one in attempts for mailbox in one.letter.mailboxes
    }
    lost, duplicated, changed, unasked = [], [], [], []
    first: dict[tuple[str, str], bytes] = {}
    for server, folder in mail.items():
        counts: Counter[tuple[str, str]] = Counter()
        for mailbox, path in files(folder):
            content = path.read_bytes()
            place = (mailbox, label(content))
            attempt = wanted.get(place)
            if attempt is None or attempt.heard is Heard.REFUSED:
                unasked.append(f"{server}: {mailbox}: {place[1] or path.name}")
                continue
            counts[place] += 1
            sent = attempt.letter.octets(attempt.number)
            digest = hashlib.sha256(content).digest()
            if not content.endswith(sent) or first.setdefault(place, digest) != digest:
                changed.append(f"{server}: {mailbox}: message {place[1]} in {path.name}")
        for (mailbox, text), one in wanted.items():
            count = counts[mailbox, text]
            if one.heard is Heard.ACCEPTED and not count:
                lost.append(f"{server}: {mailbox}: message {text}, {one.ses_id}")
            if count > 1:
                duplicated.append(f"{server}: {mailbox}: message {text}, {count} times")
    return Verdict(tuple(lost), tuple(duplicated), tuple(changed), tuple(unasked))


def missing(attempts: Iterable[Attempt], mail: Mapping[str, Path]) -> int:
    """How many deliveries of accepted messages are not there yet, judged by the number of files alone."""
    wanted = sum(len(one.letter.mailboxes) for one in attempts if one.heard is Heard.ACCEPTED)
    return sum(max(0, wanted - sum(1 for _ in files(folder))) for folder in mail.values())


def files(mail: Path) -> Iterator[tuple[str, Path]]:
    """Mailbox and path of every file that Dovecot shows below *mail*."""
    for path in sorted(mail.glob("*/Maildir")):
        for part in ("new", "cur"):
            for found in (*path.glob(f"{part}/*"), *path.glob(f".*/{part}/*")):
                yield path.parent.name, found


def label(content: bytes) -> str:
    """Which attempt to send which message *content* is; empty if it is none."""
    start = 0 if content.startswith(LABEL) else content.find(b"\n" + LABEL) + 1
    if not content.startswith(LABEL, start):
        return ""
    return content[start + len(LABEL) : content.find(b"\r\n", start)].decode("ascii", "replace")
