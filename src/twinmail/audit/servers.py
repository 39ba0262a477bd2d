"""The audit of the servers: their ledgers and Maildirs beside what the log says, and what mends them."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from twinmail import versioned_json
from twinmail.audit.finding import Finding
from twinmail.audit.served import Served, Wanted, want
from twinmail.audit.tally import Tally
from twinmail.basename import derived
from twinmail.delivery_lines import DEEP, KEYS, PATH, VERSION, LinesCut
from twinmail.server_page import Page, Unreachable

DONE = "finished"
"""What a server says of an entry that needs nothing any more."""


@dataclass
class Servers:
    """Audits the servers that *pages* lead to, within *tally*.

    Attributes:
        mailboxes: that are configured; what others got is nobody's any more.
        deep: whether each file is read on its server, for its digest.
        unreachable: why a server could not be audited, by name.
    """

    tally: Tally
    pages: Mapping[str, Page]
    mailboxes: Collection[str]
    deep: bool = False
    say: Callable[[str], None] = lambda text: None
    unreachable: dict[str, str] = field(default_factory=dict)
    _served: dict[str, Served] = field(default_factory=dict)

    def listen(self) -> None:
        """Hear every server once, before the cloud is listed."""
        for number, name in enumerate(self.pages):
            self._served[name] = Served(self.tally.database, name, number)
            self._hear(name)

    def findings(self, until: datetime) -> Iterator[Finding]:
        """Every discrepancy about messages that were in the log by then, after the tally was gathered."""
        heard = [one for name, one in self._served.items() if name not in self.unreachable]
        if heard:
            want(self.tally.database, self._wanted(until))
        for served in heard:
            if served.suspect():
                # Mail went on while it was listed: what is still so now is a finding.
                self._hear(served.server)
                if served.server not in self.unreachable:
                    yield from served.confirmed()
            told = served.figures
            self.say(
                f"{served.server}: {told.recorded:,} delivered, {told.absent:,} deleted by their users, "
                f"{told.own:,} not of the log (sent, notices)"
            )

    def _wanted(self, until: datetime) -> Iterator[Wanted]:
        for one in self.tally.belonging(until):
            part = derived(one.ses_id)
            for mailbox in one.mailboxes:
                if mailbox in self.mailboxes:
                    yield Wanted(part, mailbox, one.number, one.sha256 if self.deep else None)

    def _hear(self, name: str) -> None:
        try:
            self._served[name].take(self.pages[name].lines(DEEP if self.deep else PATH))
        except (Unreachable, LinesCut) as error:
            self.unreachable[name] = str(error)

    def repair(self, findings: Sequence[Finding]) -> Sequence[str]:
        """Have the servers mend *findings*, and return of each an empty text, or why it stays."""
        answers: dict[tuple[str, str], str] = {}
        for name in {one.server for one in findings}:
            keys = sorted({one.key for one in findings if one.server == name and one.repairable})
            for start in range(0, len(keys), KEYS):
                part = keys[start : start + KEYS]
                answers |= {(name, key): text for key, text in self._mend(name, part).items()}
        told = []
        for one in findings:
            answer = answers.get((one.server, one.key), one.remedy)
            told.append("" if answer == DONE else answer)
        return told

    def _mend(self, name: str, keys: Sequence[str]) -> Mapping[str, str]:
        try:
            answer = self.pages[name].read(
                PATH, versioned_json.write({"version": VERSION, "keys": list(keys)})
            )
            found = json.loads(answer)
            return {key: str(found.get(key, "the server did not say")) for key in keys}
        except (Unreachable, ValueError) as error:
            return dict.fromkeys(keys, str(error))


def batches(findings: Iterable[Finding]) -> Iterator[Sequence[Finding]]:
    """Findings as many at a time as are mended at once."""
    waiting = iter(findings)
    while batch := list(islice(waiting, KEYS)):
        yield batch
