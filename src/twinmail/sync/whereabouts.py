"""Where one message is on this server, by the ledger and the Maildirs, for the person who looks for it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twinmail.basename import derived
from twinmail.ledger import Ledger
from twinmail.maildir import Maildir, stem


def whereabouts(ledger: Ledger, mail: Path, ses_id: str) -> Mapping[str, Any]:
    """What this server did with the message *ses_id*, as JSON takes it.

    Returns:
        ``entries``: its settled manifest entries, with the reason where one was put aside; ``waiting``: the
        mailboxes that have no room for it; ``deliveries``: for each mailbox the folder it was delivered to,
        when (None if that is not known any more), and the folders it is in now with its flags.

    Raises:
        LayoutError: *ses_id* is no id.
        NotWritten: the disk is in trouble; transient.
    """
    delivered = ledger.deliveries(derived(ses_id))
    return {
        "entries": ledger.entries(ses_id),
        "waiting": [one.mailbox for one in ledger.waiting() if one.key.endswith(f"Z-{ses_id}.json")],
        "deliveries": [
            {
                "mailbox": one.mailbox,
                "folder": one.folder,
                "at": None if one.at is None else datetime.fromtimestamp(one.at, UTC).isoformat(),
                "now": [
                    {"folder": folder, "flags": flags}
                    for folder, flags in Maildir(mail / one.mailbox / "Maildir").copies(stem(one.name))
                ],
            }
            for one in delivered
        ],
    }
