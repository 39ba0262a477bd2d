"""What moving a message into or out of Junk teaches, and what it changes for later ones; pure.

SES's verdict is a guess about everybody's mail; where a person moves a message is what this person thinks of
its sender. A sender is the address in the From field, which is what mail clients show. Anybody can write any
address there, so the good opinion of a sender helps only where DMARC (RFC 7489) did not fail; the bad one
always counts.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from twinmail.mailbox_settings import HAM, JUNK, Settings
from twinmail.manifest import INBOX
from twinmail.manifest import JUNK as JUNK_FOLDER

TRASH_FOLDER = "Trash"

LEFT = 2000
"""Messages remembered that left Junk."""


def folder_for(verdicts: Mapping[str, str], from_address: str, settings: Settings, folder: str) -> str:
    """Where a message from *from_address* goes that SES's *verdicts* send to *folder*."""
    opinion = settings.sender(from_address) if from_address else ""
    if opinion == JUNK and folder == INBOX:
        return JUNK_FOLDER
    if opinion == HAM and folder == JUNK_FOLDER and verdicts.get("dmarc", "").upper() != "FAIL":
        return INBOX
    return folder


@dataclass(frozen=True)
class Look:
    """What was known of a Junk folder at one look, by stem of the base names.

    Attributes:
        inside: messages that were in it.
        left: of those delivered to it, the ones that were moved elsewhere.
    """

    inside: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Lessons:
    """What a look teaches, by stem.

    Attributes:
        opinions: `JUNK`, `HAM`, or empty to forget the sender.
        look: what is known now.
    """

    opinions: Mapping[str, str] = field(default_factory=dict)
    look: Look = Look()


def learn(
    before: Look | None, inside: Set[str], delivered: Mapping[str, str], elsewhere: Mapping[str, str]
) -> Lessons:
    """Compare *inside*, what is in Junk now, with the look *before*; None if there was none.

    *delivered* is where each message was delivered, *elsewhere* the folder in which one is that left Junk.
    A message without a row in *delivered* is being delivered just now, or is none of ours: it is looked at
    again. One that is nowhere was deleted, or its disk is lost: that teaches nothing, and neither does Trash.
    """
    known = frozenset(one for one in inside if one in delivered)
    if before is None:
        # Nobody knows who put these here.
        return Lessons(look=Look(known))
    opinions: dict[str, str] = {}
    left = set(before.left)
    for one in known - before.inside:
        if delivered[one] != JUNK_FOLDER or one in before.left:
            opinions[one] = JUNK
        left.discard(one)
    for one in before.inside - inside:
        if elsewhere.get(one, TRASH_FOLDER) == TRASH_FOLDER:
            continue
        if delivered.get(one) == JUNK_FOLDER:
            opinions[one] = HAM
            left.add(one)
        else:
            # The user took the own move back.
            opinions[one] = ""
    if len(left) > LEFT:
        # Names begin with the time of arrival.
        left = set(sorted(left)[-LEFT:])
    return Lessons(opinions, Look(known, frozenset(left)))
