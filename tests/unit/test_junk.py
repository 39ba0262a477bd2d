"""What moves into and out of Junk teach: the rules, and the watch over real Maildirs."""

import io
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.log_simulator import StateSimulator, entry_of
from twinmail.basename import base_name
from twinmail.config import Config
from twinmail.journal import Record
from twinmail.junk import Lessons, Look, folder_for, learn
from twinmail.ledger import Ledger
from twinmail.mailbox_settings import HAM, JUNK, Settings
from twinmail.maildir import Maildir, stem
from twinmail.message import from_address
from twinmail.sync import junk as watching
from twinmail.sync.junk import JunkLook, JunkMemory, JunkTrouble
from twinmail.sync.log import Log
from twinmail.sync.settings import SharedSettings
from twinmail.uidlist import guids

SPAM = "spam@example.com"
ARRIVED = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
BAD = Settings().with_sender(SPAM, JUNK, 1, "primary")
GOOD = Settings().with_sender(SPAM, HAM, 1, "primary")
CONFIG = Config.parse(
    'region = "eu-central-1"\nstack = "twinmail"\nbucket = "example-mail"\ndomains = ["example.org"]\n'
    '[mailboxes.ann]\naddresses = ["ann@example.org"]\n[mailboxes.bob]\naddresses = ["bob@example.org"]\n'
    '[servers.primary]\nplatform = "linux/amd64"\nhost = "a.example.org"\n'
)


@pytest.mark.parametrize("dmarc", ["PASS", "GRAY", "FAIL", "fail", "DISABLED", None])
@pytest.mark.parametrize("folder", ["INBOX", "Junk", "Lists"])
def test_bad_sender_leads_from_inbox_to_junk_whatever_dmarc_says(dmarc: str | None, folder: str) -> None:
    verdicts = {} if dmarc is None else {"dmarc": dmarc}
    assert folder_for(verdicts, SPAM, BAD, folder) == ("Junk" if folder == "INBOX" else folder)


@pytest.mark.parametrize("dmarc", ["PASS", "GRAY", "PROCESSING_FAILED", None])
def test_good_sender_leads_out_of_junk(dmarc: str | None) -> None:
    verdicts = {"spam": "FAIL"} if dmarc is None else {"spam": "FAIL", "dmarc": dmarc}
    assert folder_for(verdicts, SPAM, GOOD, "Junk") == "INBOX"


@pytest.mark.parametrize("dmarc", ["FAIL", "fail"])
def test_good_sender_does_not_help_who_only_pretends_to_be_it(dmarc: str) -> None:
    assert folder_for({"dmarc": dmarc}, SPAM, GOOD, "Junk") == "Junk"


@pytest.mark.parametrize("address", ["", "other@example.com"])
def test_unknown_sender_changes_nothing(address: str) -> None:
    for settings in (Settings(), BAD, GOOD):
        for folder in ("INBOX", "Junk"):
            assert folder_for({}, address, settings, folder) == folder


STEMS = st.frozensets(st.sampled_from(["a", "b", "c", "d"]))
FOLDERS = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.sampled_from(["INBOX", "Junk", "Lists"]))


@given(STEMS, STEMS, STEMS, FOLDERS)
def test_absence_alone_teaches_nothing(
    inside: frozenset[str], left: frozenset[str], now: frozenset[str], delivered: dict[str, str]
) -> None:
    lessons = learn(Look(inside, left), now, delivered, {})
    assert set(lessons.opinions) <= now - inside
    assert set(lessons.opinions.values()) <= {JUNK}


@given(STEMS, FOLDERS, FOLDERS)
def test_looking_again_teaches_nothing_new(
    now: frozenset[str], delivered: dict[str, str], elsewhere: dict[str, str]
) -> None:
    once = learn(Look(), now, delivered, elsewhere)
    assert learn(once.look, now, delivered, elsewhere) == Lessons({}, once.look)


@given(STEMS, FOLDERS)
def test_first_look_teaches_nothing(now: frozenset[str], delivered: dict[str, str]) -> None:
    assert not learn(None, now, delivered, {}).opinions


def test_moves_in_and_out() -> None:
    delivered = {"plain": "INBOX", "spam": "Junk"}
    look = learn(Look(), {"spam"}, delivered, {}).look
    moved_in = learn(look, {"spam", "plain"}, delivered, {})
    assert moved_in.opinions == {"plain": JUNK}
    back = learn(moved_in.look, {"spam"}, delivered, {"plain": "INBOX"})
    assert back.opinions == {"plain": ""}
    out = learn(back.look, set(), delivered, {"spam": "Archive"})
    assert out.opinions == {"spam": HAM}
    in_again = learn(out.look, {"spam"}, delivered, {})
    assert in_again.opinions == {"spam": JUNK}


def test_trash_teaches_nothing() -> None:
    assert not learn(Look(frozenset({"a"})), set(), {"a": "Junk"}, {"a": "Trash"}).opinions


def test_message_that_is_being_delivered_is_looked_at_again() -> None:
    first = learn(Look(), {"a"}, {}, {})
    assert first == Lessons({}, Look())
    assert not learn(first.look, {"a"}, {"a": "Junk"}, {}).opinions


@pytest.mark.parametrize(
    ("field", "address"),
    [
        ("spam@example.com", "spam@example.com"),
        ("Spam <SPAM@Example.com>", "spam@example.com"),
        ('"Real Person <real@example.org>" <spam@example.com>', "spam@example.com"),
        ('"quote \\" <a@b>" <spam@example.com>', "spam@example.com"),
        ("(comment <a@b> (nested)) spam@example.com", "spam@example.com"),
        ("=?utf-8?Q?=3Creal=40example=2Eorg=3E?= <spam@example.com>", "spam@example.com"),
        ("one@example.com, two@example.com", "one@example.com"),
        ("One <one@example.com>, Two <two@example.com>", "one@example.com"),
        ("Folded\r\n\t<spam@example.com>", "spam@example.com"),
        ("jörg@example.com", "jörg@example.com"),
        ("Group: one@example.com;", ""),
        ("<>", ""),
        ("", ""),
        ("nobody", ""),
        ('"john doe"@example.com', ""),
        ("<spam@example.com", ""),
        ("a" * 65 + "@example.com", ""),
    ],
)
def test_address_of_the_sender(field: str, address: str) -> None:
    assert from_address(f"Subject: x\r\nFrom: {field}\r\n\r\nFrom: body@example.com\r\n".encode()) == address


@given(st.binary(max_size=300))
def test_any_octets_give_an_address_or_none(data: bytes) -> None:
    address = from_address(b"From: " + data + b"\r\n\r\n")
    assert address == address.lower()
    assert not address or address.count("@") == 1


def test_first_of_repeated_from_fields_counts() -> None:
    assert from_address(b"From: one@example.com\nFrom: two@example.com\n\n") == "one@example.com"


class Mailbox:
    """Ann's mailbox, its watch, and what mail clients do to the files."""

    def __init__(self, root: Path) -> None:
        self.root, self.mail, self.state = root, root / "mail", root / "state"
        for folder in (self.mail, self.state):
            folder.mkdir()
        self.ledger = Ledger(self.state, self.mail)
        self.store = StateSimulator()
        self.log = io.StringIO()
        self.maildir = Maildir(self.mail / "ann" / "Maildir")
        self.count = 0
        self.arrived = ARRIVED
        self.restart()
        self.look()

    def restart(self) -> None:
        log = Log(self.log)
        self.shared = SharedSettings("primary", ["ann", "bob"], self.mail, self.state, self.store, log)
        self.watch = JunkLook(CONFIG, self.mail, self.state, self.ledger, self.shared, log)

    def look(self) -> None:
        self.watch.turn()

    def deliver(self, sender: str = SPAM, folder: str = "INBOX", record: bool = True) -> str:
        self.count += 1
        data = f"From: Somebody <{sender}>\r\nSubject: x\r\n\r\nbody\r\n".encode()
        name = base_name(self.arrived, f"m{self.count}", len(data), len(data))
        staged = self.maildir.stage(stem(name), [data], ARRIVED)
        self.maildir.link(staged, folder, name)
        self.maildir.discard(staged.path)
        if record:
            self.record(name, folder)
        return name

    def record(self, name: str, folder: str) -> None:
        self.ledger.record("ann", Record(folder, name))

    def file(self, name: str, folder: str) -> Path:
        (path,) = [
            path for part in ("new", "cur") for path in (self.maildir.folder(folder) / part).glob(f"{name}*")
        ]
        return path

    def copy(self, name: str, source: str, target: str) -> None:
        self.maildir.prepare(target)
        os.link(self.file(name, source), self.maildir.folder(target) / "cur" / f"{name}:2,S")

    def flag(self, name: str, folder: str, flags: str) -> None:
        path = self.file(name, folder)
        path.rename(path.parent.parent / "cur" / f"{name}:2,{flags}")

    def expunge(self, name: str, folder: str) -> None:
        self.file(name, folder).unlink()

    def move(self, name: str, source: str, target: str) -> None:
        self.copy(name, source, target)
        self.expunge(name, source)

    def opinion(self, sender: str = SPAM) -> str:
        return self.shared.of("ann").sender(sender)


@pytest.fixture
def ann(tmp_path: Path) -> Iterator[Mailbox]:
    box = Mailbox(tmp_path)
    yield box
    box.ledger.close()


def test_moved_into_junk_is_remembered_and_moved_back_is_forgotten(ann: Mailbox) -> None:
    name = ann.deliver("Spam@Example.COM")
    ann.look()
    ann.move(name, "INBOX", "Junk")
    ann.look()
    assert ann.opinion() == JUNK
    ann.move(name, "Junk", "INBOX")
    ann.look()
    assert ann.opinion() == ""


def test_copy_then_flag_then_expunge_is_a_move(ann: Mailbox) -> None:
    name = ann.deliver(folder="Junk")
    ann.look()
    ann.copy(name, "Junk", "INBOX")
    ann.look()
    assert ann.opinion() == ""
    # Some clients only mark, and expunge when they end.
    ann.flag(name, "Junk", "ST")
    ann.look()
    assert ann.opinion() == HAM
    ann.expunge(name, "Junk")
    ann.look()
    assert ann.opinion() == HAM


def test_moved_out_of_junk_before_anybody_looked(tmp_path: Path) -> None:
    ann = Mailbox(tmp_path)
    ann.arrived = datetime.now(UTC)
    name = ann.deliver(folder="Junk")
    ann.move(name, "Junk", "INBOX")
    ann.look()
    assert ann.opinion() == HAM
    ann.shared.remember("ann", SPAM, "")
    ann.deliver("other@example.com", "Junk")
    ann.look()
    assert ann.opinion() == "", "the same move teaches once"
    ann.ledger.close()


def test_copied_to_where_it_was_before_it_has_another_name(ann: Mailbox) -> None:
    """Dovecot's list still has the old one there; so it notes which message the new name is."""
    name = ann.deliver()
    ann.move(name, "INBOX", "Junk")
    ann.look()
    assert ann.opinion() == JUNK
    ann.maildir.prepare("INBOX")
    (ann.maildir.root / "cur" / "1795415131.M578184P25.vm,S=9,W=9:2,S").hardlink_to(ann.file(name, "Junk"))
    (ann.maildir.root / "dovecot-uidlist").write_text(
        f"3 V1795415129 N3 G59e7a03359dc036b\n2 G{name} W9 :1795415131.M578184P25.vm,S=9,W=9\n1 :other\n"
    )
    ann.expunge(name, "Junk")
    ann.look()
    assert ann.opinion() == ""


def test_list_that_cannot_be_read_names_nothing() -> None:
    assert guids(["", "3 V1 N1 G1", "x", "1 :a", "2 G :b", "3 Gx :c:2,S\n", "4 S1 W2 Gy P3 :d"]) == {
        "c": "x",
        "d": "y",
    }


def test_delivered_to_junk_is_nobodys_opinion(ann: Mailbox) -> None:
    ann.deliver(folder="Junk")
    ann.look()
    assert ann.opinion() == ""


def test_delivered_to_junk_and_not_yet_recorded_is_nobodys_opinion(ann: Mailbox) -> None:
    name = ann.deliver(folder="Junk", record=False)
    ann.look()
    ann.record(name, "Junk")
    ann.look()
    ann.look()
    assert ann.opinion() == ""


def test_flags_in_junk_teach_nothing(ann: Mailbox) -> None:
    name = ann.deliver(folder="Junk")
    ann.look()
    ann.flag(name, "Junk", "FS")
    ann.look()
    assert ann.opinion() == ""


@pytest.mark.parametrize("how", ["expunged", "moved to Trash", "folder lost"])
def test_deleted_from_junk_teaches_nothing(ann: Mailbox, how: str) -> None:
    name = ann.deliver(folder="Junk")
    ann.look()
    if how == "expunged":
        ann.expunge(name, "Junk")
    elif how == "moved to Trash":
        ann.move(name, "Junk", "Trash")
    else:
        ann.maildir.folder("Junk").rename(ann.root / "lost")
    ann.look()
    assert ann.opinion() == ""


def test_moved_while_the_syncer_was_down(ann: Mailbox) -> None:
    inbox, junk = ann.deliver("a@example.com"), ann.deliver("b@example.com", "Junk")
    ann.look()
    ann.move(inbox, "INBOX", "Junk")
    ann.move(junk, "Junk", "Archive")
    ann.restart()
    ann.look()
    assert (ann.opinion("a@example.com"), ann.opinion("b@example.com")) == (JUNK, HAM)


def test_lost_record_teaches_nothing(ann: Mailbox) -> None:
    name = ann.deliver()
    ann.move(name, "INBOX", "Junk")
    (ann.state / "junk" / "ann.json").write_text("[")
    ann.restart()
    ann.look()
    assert ann.opinion() == ""
    assert "record left out" in ann.log.getvalue()


def test_own_address_is_never_junk(ann: Mailbox) -> None:
    name = ann.deliver("Ann@example.org")
    ann.move(name, "INBOX", "Junk")
    ann.look()
    assert not ann.shared.of("ann").senders


def test_message_without_a_sender_teaches_nothing(ann: Mailbox) -> None:
    name = ann.deliver("")
    ann.move(name, "INBOX", "Junk")
    ann.look()
    assert not ann.shared.of("ann").senders


def test_mail_that_a_client_stored_teaches_nothing(ann: Mailbox) -> None:
    ann.maildir.prepare("Junk")
    (ann.maildir.folder("Junk") / "cur" / "1.M1P1.host,S=1:2,S").write_bytes(b"From: x@example.com\n\n")
    ann.look()
    assert not ann.shared.of("ann").senders


def test_renamed_while_it_was_read_is_read_at_the_next_look(
    ann: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = ann.deliver()
    ann.move(name, "INBOX", "Junk")
    real = watching._messages

    def stale(folder: Path) -> dict[str, Path]:
        return {one: path.with_name(f"{path.name}F") for one, path in real(folder).items()}

    with monkeypatch.context() as patch:
        patch.setattr(watching, "_messages", stale)
        ann.look()
    assert ann.opinion() == ""
    ann.look()
    assert ann.opinion() == JUNK


def test_unchanged_folder_is_not_listed_again(ann: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    ann.deliver(folder="Junk")
    old = 1_700_000_000
    for part in ("new", "cur"):
        os.utime(ann.maildir.folder("Junk") / part, (old, old))
    ann.look()

    def listed(folder: Path) -> dict[str, Path]:
        raise AssertionError(f"{folder} was listed")

    monkeypatch.setattr(watching, "_messages", listed)
    ann.look()


def test_trouble_with_one_mailbox_holds_no_other_back(ann: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    name = ann.deliver()
    ann.move(name, "INBOX", "Junk")
    real = watching._messages

    def failing(folder: Path) -> dict[str, Path]:
        if "bob" in folder.parts:
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(watching, "_messages", failing)
    ann.watch._seen.clear()
    with pytest.raises(JunkTrouble, match=r"bob: .*Permission denied"):
        ann.look()
    assert ann.opinion() == JUNK


def test_memory_answers_only_what_differs_from_the_entry(ann: Mailbox) -> None:
    memory = JunkMemory(ann.shared)
    header = f"From: {SPAM}\r\n\r\n".encode()
    inbox = entry_of("m1", b"", ARRIVED)
    spam = entry_of("m2", b"", ARRIVED, folder="Junk")
    assert memory.folder("ann", inbox, header) is None
    ann.shared.remember("ann", SPAM, JUNK)
    assert memory.folder("ann", inbox, header) == "Junk"
    assert memory.folder("ann", spam, header) is None
    assert memory.folder("bob", inbox, header) is None
    ann.shared.remember("ann", SPAM, HAM)
    assert memory.folder("ann", inbox, header) is None
    assert memory.folder("ann", spam, header) == "INBOX"
    assert memory.folder("ann", replace(spam, verdicts={"dmarc": "FAIL"}), header) is None
    assert memory.folder("ann", inbox, b"") is None
