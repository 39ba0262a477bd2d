"""A message with several copies, a crash anywhere, and a user who does something before the restart."""

import io
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.log_simulator import entry_of
from twinmail.filter.decision import Placement
from twinmail.ledger import Ledger
from twinmail.sync.log import Log
from twinmail.sync.placing import Placing
from twinmail.sync.plan import message_stem
from twinmail.sync.recovery import recover

BODY = b"Subject: x\r\n\r\nbody\r\n"
ENTRY = entry_of("m1", BODY, datetime(2026, 11, 23, tzinfo=UTC))
STEM = message_stem(ENTRY)
FOLDERS = ("INBOX", "A", "B.c", "Trash")

placements = st.lists(
    st.builds(
        Placement,
        folder=st.sampled_from(FOLDERS),
        flags=st.sampled_from(["", "F", "RS"]),
        keywords=st.sampled_from([(), ("wichtig",), ("$label1", "wichtig")]),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda one: one.folder,
)


class Crashed(BaseException):
    """The process ends here; nothing of it cleans up after this."""


class Server:
    def __init__(self, root: Path) -> None:
        self.mail, self.state = root / "mail", root / "state"
        self.mail.mkdir()
        self.state.mkdir()

    def run(self, copies: list[Placement], crash_at: int) -> None:
        """Start, and deliver what is not delivered; end at checkpoint number *crash_at*."""
        left = crash_at

        def checkpoint(step: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Crashed

        ledger = Ledger(self.state, self.mail)
        try:
            recover(self.mail, ledger, Log(io.StringIO()))
            if "ann" not in ledger.mailboxes(STEM):
                placing = Placing(self.mail, ledger, checkpoint)
                staged = placing.maildir("ann").stage(STEM, [BODY], ENTRY.arrived)
                placing.place("ann", staged, ENTRY, copies, None)
                placing.maildir("ann").discard(staged.path)
        finally:
            ledger.close()

    def places(self) -> dict[str, list[Path]]:
        root = self.mail / "ann" / "Maildir"
        found: dict[str, list[Path]] = {}
        for path in root.rglob(f"{STEM},*"):
            folder = path.parent.parent
            found.setdefault("INBOX" if folder == root else folder.name[1:], []).append(path)
        return found

    def archive(self, path: Path) -> None:
        folder = self.mail / "ann" / "Maildir" / ".Archive" / "cur"
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / f"{path.name.partition(':')[0]}:2,S")


@settings(max_examples=150, deadline=None)
@given(
    placements, st.integers(1, 9), st.sampled_from(["nothing", "read", "move", "delete"]), st.integers(0, 3)
)
def test_all_copies_come_and_none_comes_twice(
    copies: list[Placement], crash_at: int, action: str, which: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        with suppress(Crashed):
            server.run(copies, crash_at)
        made = [one.folder for one in copies if one.folder in server.places()]
        touched = made[which % len(made)] if made else None
        if touched is not None:
            (path,) = server.places()[touched]
            if action == "read":
                path.rename(path.parent.parent / "cur" / f"{path.name.partition(':')[0]}:2,S")
            elif action == "move":
                server.archive(path)
            elif action == "delete":
                path.unlink()
        known = (server.mail / "ann" / "delivered.journal").exists()
        for _ in range(2):
            server.run(copies, 0)
        expected = {one.folder for one in copies}
        if touched is not None and action == "move":
            expected = expected - {touched} | {"Archive"}
        if touched is not None and action == "delete" and (known or touched != made[-1]):
            # Of the last copy made before the crash nothing is left that tells; it comes again.
            expected -= {touched}
        found = server.places()
        assert set(found) == expected and all(len(paths) == 1 for paths in found.values()), found
        assert not list((server.mail / "ann").glob("copies/*"))
        assert not list((server.mail / "ann" / "Maildir" / "tmp").iterdir())
