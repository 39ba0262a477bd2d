"""What a start makes good: leftovers of a killed process, and deliveries that the ledger does not know."""

from functools import partial
from pathlib import Path

from twinmail import copies, subscription_file
from twinmail.filter import shadow
from twinmail.journal import Record
from twinmail.ledger import Ledger
from twinmail.maildir import Maildir
from twinmail.sync.log import Log


def recover(mail: Path, ledger: Ledger, log: Log) -> None:
    """Search every Maildir under *mail* once, before anything is delivered.

    A process killed between link and ledger left a message that is visible but unknown. Only then can there
    be such a message, so that no delivery needs to search a Maildir.

    Raises:
        NotWritten: a disk is failing; transient.
    """
    shadow.sweep(mail)
    for path in sorted(mail.glob("*/Maildir")):
        maildir, mailbox = Maildir(path), path.parent.name
        # Before the search: one copy of several would count for all.
        copied = copies.complete(maildir, recorded=partial(_recorded, ledger, mailbox))
        swept = maildir.sweep() + subscription_file.release(path)
        found = {name: Record(*place) for name, place in maildir.scan().items()}
        adopted = ledger.adopt(mailbox, found)
        if swept or adopted or copied:
            log.info(
                "recovered",
                mailbox=mailbox,
                leftovers=swept,
                copies=copied,
                deliveries=adopted,
                messages=len(found),
            )


def _recorded(ledger: Ledger, mailbox: str, name: str) -> bool:
    return mailbox in ledger.mailboxes(name)
