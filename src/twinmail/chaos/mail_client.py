"""What a mail client sees of the messages of a chaos run: the servers' own view, beside that of the files."""

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from twinmail import imap
from twinmail.chaos.traffic import Attempt, Heard
from twinmail.chaos.verdict import Verdict, label

SAMPLE = 20
"""So many messages of each mailbox are fetched whole."""

_UID = re.compile(rb"UID (\d+)")
_SECONDS = 120.0


def seen(
    attempts: Sequence[Attempt], accounts: Mapping[str, Mapping[str, imap.Account]], seed: int
) -> Verdict:
    """Compare *attempts* with the inboxes of *accounts*, by server and mailbox.

    Raises:
        LoginRefused, OSError, imaplib.IMAP4.error: a server does not show its mail.
    """
    chance = random.Random(f"{seed}/sample")
    found = [
        compare(f"{server} by IMAP", mailbox, attempts, *_inbox(account, chance))
        for server, boxes in accounts.items()
        for mailbox, account in boxes.items()
    ]
    return Verdict(
        *(
            tuple(line for one in found for line in getattr(one, kind))
            for kind in ("lost", "duplicated", "changed", "unasked")
        )
    )


def compare(
    server: str,
    mailbox: str,
    attempts: Iterable[Attempt],
    labels: Iterable[str],
    contents: Iterable[bytes],
) -> Verdict:
    """Compare *attempts* with what *mailbox* shows: *labels* of all its messages, octets of some. Pure."""
    wanted = {one.letter.label(one.number): one for one in attempts if mailbox in one.letter.mailboxes}
    place = f"{server}: {mailbox}: message"
    counts = Counter(labels)
    asked = {text for text, one in wanted.items() if one.heard is not Heard.REFUSED}
    whole = [(label(one), one) for one in contents]
    return Verdict(
        lost=tuple(
            f"{place} {text}, {one.ses_id}"
            for text, one in wanted.items()
            if one.heard is Heard.ACCEPTED and text not in counts
        ),
        duplicated=tuple(f"{place} {text}, {count} times" for text, count in counts.items() if count > 1),
        changed=tuple(
            f"{place} {text}"
            for text, content in whole
            if text in asked and not content.endswith(wanted[text].letter.octets(wanted[text].number))
        ),
        unasked=tuple(f"{place} {text}" for text in counts if text not in asked),
    )


def _inbox(account: imap.Account, chance: random.Random) -> tuple[list[str], list[bytes]]:
    """The labels of all messages, and the octets of some."""
    with imap.session(account, _SECONDS) as client:
        _, (many, *_) = client.select("INBOX", readonly=True)
        if not int(many or 0):
            return [], []
        _, answers = client.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (X-CHAOS)])")
        labels: dict[bytes, str] = {}
        for one in answers:
            if isinstance(one, tuple) and (found := _UID.search(one[0])):
                labels[found[1]] = label(one[1])
        contents = []
        for uid in chance.sample(sorted(labels), min(SAMPLE, len(labels))):
            _, parts = client.uid("FETCH", uid.decode(), "(BODY.PEEK[])")
            contents += [one[1] for one in parts if isinstance(one, tuple)]
        return list(labels.values()), contents
