"""One copy in Sent, under the id that recipients know, whoever wrote it and however often."""

import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden.test_client_profile import CONFIG
from tests.log_simulator import StateSimulator
from twinmail import layout
from twinmail.basename import virtual_size
from twinmail.sent import Copy, message_id, rewritten, settle
from twinmail.sent_record import SentRecord
from twinmail.sync.log import Log
from twinmail.sync.sent import SentPull, SentSettle

OLD, NEW = "<abc@client>", "<0107-x@eu-central-1.amazonses.com>"
MESSAGE = (
    b"Date: Mon, 23 Nov 2026 07:00:00 +0000\r\nFrom: Ann <ann@example.org>\r\nMessage-ID: <abc@client>\r\n"
    b"Subject: x\r\n\r\nMessage-ID: <abc@client>\r\nbody\r\n"
)


class TestId:
    def test_the_host_is_the_region_but_for_one(self) -> None:
        assert message_id("0107-x", "eu-central-1") == NEW
        assert message_id("0107-x", "us-east-1") == "<0107-x@email.amazonses.com>"


class TestRewritten:
    def test_only_the_field_changes_and_the_old_id_is_kept(self) -> None:
        expected = MESSAGE.replace(
            b"Message-ID: <abc@client>\r\nSubject",
            b"Message-ID: " + NEW.encode() + b"\r\nX-Original-Message-ID: <abc@client>\r\nSubject",
        )
        assert rewritten(MESSAGE, NEW) == expected

    def test_again_changes_nothing(self) -> None:
        once = rewritten(MESSAGE, NEW)
        assert rewritten(once, NEW) == once

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (b"A: 1\n\nb\n", b"Message-ID: <n@x>\nA: 1\n\nb\n"),
            (
                b"message-id:<a@b>\nA: 1\n\nb",
                b"Message-ID: <n@x>\nX-Original-Message-ID: <a@b>\nA: 1\n\nb",
            ),
            (
                b"A: 1\r\nMESSAGE-ID :\r\n <a@b>\r\n\r\nb",
                b"A: 1\r\nMessage-ID: <n@x>\r\nX-Original-Message-ID: \r\n <a@b>\r\n\r\nb",
            ),
            (b"\r\nMessage-ID: <a@b>\r\n", b"Message-ID: <n@x>\n\r\nMessage-ID: <a@b>\r\n"),
        ],
    )
    def test_odd_headers(self, before: bytes, after: bytes) -> None:
        assert rewritten(before, "<n@x>") == after

    @given(st.binary(max_size=200))
    def test_the_body_is_never_touched(self, body: bytes) -> None:
        head = b"From: a@b\r\nMessage-ID: <abc@client>\r\n\r\n"
        assert rewritten(head + body, NEW).endswith(b"\r\n\r\n" + body)


def copy(file: str, ident: str = OLD, flags: str = "", date: str = "d", sender: str = "s") -> Copy:
    return Copy(file, ident, date, sender, flags)


class TestSettle:
    def test_nothing_there(self) -> None:
        assert settle(OLD, NEW, []) is None
        assert settle(OLD, NEW, [copy("a", "<other@client>")]) is None

    def test_one_copy_gets_the_id(self) -> None:
        told = settle(OLD, NEW, [copy("a", flags="S")])
        assert told is not None
        assert (told.keep.file, told.rewrite, told.remove, told.flags) == ("a", True, (), "S")

    def test_a_settled_copy_stays_as_it_is(self) -> None:
        assert settle(OLD, NEW, [copy("a", NEW, "S")]) is None

    def test_of_two_one_remains_with_the_flags_of_both(self) -> None:
        told = settle(OLD, NEW, [copy("a", flags="S"), copy("b", flags="FS")])
        assert told is not None
        assert (told.keep.file, told.rewrite, told.flags) == ("a", True, "FS")
        assert [one.file for one in told.remove] == ["b"]

    def test_a_copy_stored_after_the_settled_one_goes(self) -> None:
        told = settle(OLD, NEW, [copy("a", OLD, "S"), copy("z", NEW, "S")])
        assert told is not None
        assert (told.keep.file, told.rewrite) == ("z", False)
        assert [one.file for one in told.remove] == ["a"]

    def test_another_message_with_the_same_id_stays(self) -> None:
        told = settle(OLD, NEW, [copy("a"), copy("b", date="other"), copy("c", sender="other")])
        assert told is not None
        assert told.remove == ()

    def test_what_its_user_deleted_counts_for_nothing(self) -> None:
        assert settle(OLD, NEW, [copy("a", flags="ST")]) is None

    def test_a_message_without_an_id_has_no_copy_that_could_be_told(self) -> None:
        assert settle("", NEW, [copy("a", "")]) is None

    @given(
        st.lists(
            st.builds(
                copy,
                st.uuids().map(str),
                st.sampled_from([OLD, NEW, "<other@x>"]),
                st.sampled_from(["", "S", "FS", "T"]),
                st.sampled_from(["d", "e"]),
            ),
            max_size=6,
        )
    )
    def test_carried_out_it_is_settled(self, copies: list[Copy]) -> None:
        told = settle(OLD, NEW, copies)
        if told is None:
            return
        assert told.keep not in told.remove
        assert all(one.message_id in (OLD, NEW) and "T" not in one.flags for one in told.remove)
        left = [one for one in copies if one not in told.remove and one != told.keep]
        after = [*left, Copy("kept", NEW, told.keep.date, told.keep.sender, told.flags)]
        again = settle(OLD, NEW, after)
        # Another message that claims the same id may remain; it is not removed for that.
        assert again is None or not any(
            (one.date, one.sender) == (told.keep.date, told.keep.sender) for one in again.remove
        )


@dataclass
class Office:
    """The Sent folder of ann, and the chores that settle it."""

    mail: Path
    state: StateSimulator
    log: io.StringIO
    pull: SentPull
    settle: SentSettle

    @property
    def folder(self) -> Path:
        return self.mail / "ann" / "Maildir" / ".Sent"

    def store(self, name: str, data: bytes = MESSAGE, flags: str = "S") -> Path:
        """What Dovecot does on APPEND."""
        for part in ("new", "cur", "tmp"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        sizes = f",S={len(data)},W={virtual_size([data])}"
        path = self.folder / "cur" / f"{name}{sizes}:2,{flags}"
        path.write_bytes(data)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        return path

    def event(self, ses_id: str = "0107-x", original: str = OLD, at: datetime | None = None) -> None:
        """What the function writes when SES says that it sent."""
        record = SentRecord(
            ses_id, original, "ann@example.org", "ann", ("ann",), ("bob@example.org",), at or now()
        )
        self.state.put(record.key, record.to_bytes())

    def copies(self) -> list[bytes]:
        return [path.read_bytes() for part in ("new", "cur") for path in (self.folder / part).iterdir()]

    def names(self) -> list[str]:
        return [path.name for part in ("new", "cur") for path in (self.folder / part).iterdir()]

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.log.getvalue().splitlines()]


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    log, state = io.StringIO(), StateSimulator()
    settling = SentSettle(CONFIG, tmp_path, Log(log))
    return Office(tmp_path, state, log, SentPull(state, settling, Log(log)), settling)


FINAL = rewritten(MESSAGE, NEW)


class TestChore:
    @pytest.mark.parametrize("order", ["copy first", "event first"])
    def test_one_copy_with_the_id_of_ses(self, office: Office, order: str) -> None:
        if order == "copy first":
            office.store("1.M1.host")
            office.event()
            office.pull.turn()
        else:
            office.event()
            office.pull.turn()
            office.store("1.M1.host")
            office.settle.turn()
        assert office.copies() == [FINAL]
        (name,) = office.names()
        assert name.endswith(":2,S")
        assert f",S={len(FINAL)},W={virtual_size([FINAL])}" in name
        assert (office.folder / "cur" / name).stat().st_mtime == 1_700_000_000

    def test_stored_twice_it_is_there_once(self, office: Office) -> None:
        office.store("1.M1.host", flags="S")
        office.store("2.M2.host", flags="F")
        office.event()
        office.pull.turn()
        assert office.copies() == [FINAL]
        assert office.names()[0].endswith(":2,FS")

    def test_stored_again_much_later_it_is_there_once(self, office: Office) -> None:
        office.store("1.M1.host")
        office.event()
        office.pull.turn()
        office.store("2.M2.host")
        office.settle.turn()
        assert office.copies() == [FINAL]

    def test_what_the_user_deleted_does_not_come_back(self, office: Office) -> None:
        office.store("1.M1.host")
        office.event()
        office.pull.turn()
        (office.folder / "cur" / office.names()[0]).unlink()
        office.pull.turn()
        assert office.copies() == []

    def test_what_the_user_moved_elsewhere_stays_there_as_it_is(self, office: Office) -> None:
        copy = office.store("1.M1.host")
        archive = office.folder.with_name(".Archive") / "cur"
        archive.mkdir(parents=True)
        moved = copy.rename(archive / copy.name)
        office.event()
        office.pull.turn()
        assert moved.read_bytes() == MESSAGE
        assert office.copies() == []

    def test_other_mail_stays_untouched(self, office: Office) -> None:
        other = MESSAGE.replace(b"abc@client", b"def@client")
        kept = office.store("1.M1.host", other)
        office.event()
        office.pull.turn()
        assert kept.read_bytes() == other
        assert office.names() == [kept.name]

    def test_a_restart_changes_nothing(self, office: Office) -> None:
        office.store("1.M1.host")
        office.event()
        office.pull.turn()
        before = office.names()
        settling = SentSettle(CONFIG, office.mail, Log(office.log))
        SentPull(office.state, settling, Log(office.log)).turn()
        assert office.names() == before
        assert office.events().count("sent copy settled") == 1

    @pytest.mark.parametrize("call", ["unlink", "hardlink_to"])
    def test_killed_in_between_the_next_turn_completes_it(
        self, office: Office, call: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        office.store("1.M1.host")
        office.event()
        real: Callable[..., None] = getattr(Path, call)

        def killed(path: Path, *arguments: object, **named: object) -> None:
            if path.parent.name == "cur":
                raise KeyboardInterrupt
            real(path, *arguments, **named)

        with monkeypatch.context() as patched:
            patched.setattr(Path, call, killed)
            with pytest.raises(KeyboardInterrupt):
                office.pull.turn()
        assert office.copies()
        settling = SentSettle(CONFIG, office.mail, Log(office.log))
        SentPull(office.state, settling, Log(office.log)).turn()
        assert office.copies() == [FINAL]
        assert list((office.folder.parent / "tmp").iterdir()) == []

    def test_a_damaged_record_is_said_once_and_stops_nothing(self, office: Office) -> None:
        office.state.put(layout.sent_key("0000-bad", now()), b"{")
        office.store("1.M1.host")
        office.event()
        office.pull.turn()
        office.pull.turn()
        assert office.copies() == [FINAL]
        assert office.events().count("record left out") == 1

    def test_what_was_sent_long_ago_is_not_looked_for(self, office: Office) -> None:
        office.store("1.M1.host")
        office.event(at=now() - timedelta(days=2, minutes=1))
        office.pull.turn()
        assert office.copies() == [MESSAGE]

    def test_no_sent_folder_is_no_trouble(self, office: Office) -> None:
        office.event()
        office.pull.turn()
        assert "chore failed" not in office.log.getvalue()
