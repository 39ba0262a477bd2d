"""Readers of old mail: what they find in files, and what they say of what they cannot take."""

import io
import os
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from twinmail.importing import mbox, moment
from twinmail.importing.files import Files
from twinmail.importing.folder_map import plan
from twinmail.importing.source import Folder, Item, Mail, Passed, SourceBroken, Trouble

LIMIT = 10_000
NOW = datetime(2026, 11, 23, tzinfo=UTC)
OLD = datetime(2009, 2, 13, 23, 31, 30, tzinfo=UTC)
LINE = b"From ann@example.com Fri Feb 13 23:31:30 2009\n"


def message(subject: str = "x", extra: str = "") -> bytes:
    return f"{extra}From: a@example.com\nSubject: {subject}\n\nbody\n".encode()


def read_mbox(data: bytes, limit: int = LIMIT) -> list[Item]:
    return list(mbox.read("old", lambda: closing(io.BytesIO(data)), limit, NOW, NOW))


def read(path: Path) -> dict[tuple[str, ...], list[Item]]:
    source = Files([path], LIMIT)
    found: dict[tuple[str, ...], list[Item]] = {}
    for folder in source.folders():
        found.setdefault(folder.levels, []).extend(source.read(folder, lambda one, mark: False))
    return found


def mails(items: list[Item]) -> Iterator[Mail]:
    for one in items:
        assert isinstance(one, Mail), one
        yield one


# mbox


@pytest.mark.parametrize(
    ("extra", "flags", "keywords"),
    [
        ("", {"\\Seen"}, set()),
        ("Status: O\n", set(), set()),
        ("Status: RO\nX-Status: AF\n", {"\\Seen", "\\Answered", "\\Flagged"}, set()),
        ("Status: O\nX-Status: T\nX-Keywords: todo $Label1   \n", {"\\Draft"}, {"todo", "$Label1"}),
        ("X-Mozilla-Status: 0000\n", set(), set()),
        ("X-Mozilla-Status: 1007\n", {"\\Seen", "\\Answered", "\\Flagged"}, {"$Forwarded"}),
        ("X-Mozilla-Status: 0001\nX-Mozilla-Keys: $label2 NonJunk\n", {"\\Seen"}, {"$label2", "NonJunk"}),
    ],
)
def test_flags_of_an_mbox(extra: str, flags: set[str], keywords: set[str]) -> None:
    (one,) = mails(read_mbox(LINE + message(extra=extra)))
    assert (one.flags, one.keywords, one.arrived) == (flags, keywords, OLD)
    assert one.message == message().replace(b"\n", b"\r\n")


@pytest.mark.parametrize("extra", ["X-Mozilla-Status: 0009\n", "Status: RO\nX-Status: D\n"])
def test_deleted_message_of_an_mbox_is_left(extra: str) -> None:
    assert read_mbox(LINE + message(extra=extra)) == [Passed("old: message 1")]


def test_from_in_a_text_begins_no_message() -> None:
    text = (
        message() + b"From here on\n\nFrom now until Friday\nFrom ann@example.com Fri Feb 13 23:31:30 2009\n"
    )
    (one,) = mails(read_mbox(LINE + text))
    assert one.message.endswith(b"Friday\r\nFrom ann@example.com Fri Feb 13 23:31:30 2009\r\n")


def test_internal_message_of_an_mbox_is_no_mail() -> None:
    internal = b"From: x\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\ntext\n\n"
    assert len(read_mbox(LINE + internal + LINE + message())) == 1


def test_bad_messages_are_named_and_the_rest_goes_on() -> None:
    large = message("large") + b"x" * 70_000 + b"\n"
    data = LINE + message("1") + b"\n" + LINE + b"\n" + LINE + large + b"\n" + LINE + message("4")
    found = read_mbox(data)
    assert [type(one) for one in found] == [Mail, Trouble, Trouble, Mail]
    assert found[1] == Trouble("old: message 2", "empty")
    assert found[2] == Trouble("old: message 3", f"expected at most {LIMIT} octets, got {len(large) + 1}")


def test_rubbish_before_the_first_message_is_said() -> None:
    (one, _) = read_mbox(b"rubbish\n\n" + LINE + message())
    assert isinstance(one, Trouble) and "no From line" in one.reason


def test_huge_mbox_takes_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "huge"
    with path.open("wb") as file:
        for number in range(3000):
            file.write(LINE + message(str(number)) + (b"0123456789" * 80 + b"\n") * 10 + b"\n")
    source = Files([path], LIMIT)
    (folder,) = source.folders()
    tracemalloc.start()
    count = sum(isinstance(one, Mail) for one in source.read(folder, lambda one, mark: False))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 3000
    assert path.stat().st_size > 24_000_000 and peak < 1_000_000


# Maildir


def make_maildir(folder: Path, names: dict[str, bytes]) -> None:
    for part in ("cur", "new", "tmp"):
        (folder / part).mkdir(parents=True)
    for name, content in names.items():
        path = folder / name
        path.write_bytes(content)
        os.utime(path, (OLD.timestamp(), OLD.timestamp()))


def test_maildir_with_folders_flags_and_keywords(tmp_path: Path) -> None:
    make_maildir(
        tmp_path,
        {
            "cur/1300000000.1.host:2,FS": message("seen"),
            "new/1300000001.2.host": message("new"),
            "cur/1300000002.3.host:2,ST": message("deleted"),
            "cur/1300000003.4.host:2,": b"",
        },
    )
    (tmp_path / "dovecot-uidlist").write_bytes(b"3 V1 N5\n")
    make_maildir(tmp_path / ".Verein e%2eV%2e.&ANw-bersicht", {"cur/1300000000.5.host:2,PRab": message("kw")})
    (tmp_path / ".Verein e%2eV%2e.&ANw-bersicht" / "dovecot-keywords").write_bytes(b"0 $label1\n1 todo\n")
    make_maildir(tmp_path / ".INBOX.Übersicht", {"cur/1300000000.6.host;2,D": message("utf8")})
    make_maildir(tmp_path / "nested" / "deeper", {"cur/1300000000.7.host!2,R": message("nested")})
    found = read(tmp_path)
    assert set(found) == {("INBOX",), ("Verein e.V.", "Übersicht"), ("Übersicht",), ("nested", "deeper")}
    seen, new, deleted, empty = sorted(found["INBOX",], key=lambda one: Path(one.place).name)
    assert isinstance(seen, Mail) and seen.flags == {"\\Seen", "\\Flagged"} and seen.arrived == OLD
    assert isinstance(new, Mail) and new.flags == frozenset()
    assert isinstance(deleted, Passed) and not deleted.mark
    assert isinstance(empty, Trouble) and empty.reason == "empty"
    (kept,) = mails(found["Verein e.V.", "Übersicht"])
    assert kept.flags == {"\\Answered"} and kept.keywords == {"$label1", "todo", "$Forwarded"}
    assert next(mails(found["Übersicht",])).flags == {"\\Draft"}
    assert next(mails(found["nested", "deeper"])).flags == {"\\Answered"}


def test_maildir_copied_without_times_has_the_dates_of_its_names(tmp_path: Path) -> None:
    make_maildir(tmp_path, {"cur/1234567890.1.host:2,S": message()})
    os.utime(tmp_path / "cur" / "1234567890.1.host:2,S", (time.time(), time.time()))
    assert next(mails(read(tmp_path)["INBOX",])).arrived == OLD


# Trees and archives


def test_tree_of_messages_and_mboxes(tmp_path: Path) -> None:
    (tmp_path / "Inbox").mkdir()
    (tmp_path / "Inbox" / "1.eml").write_bytes(message("1"))
    (tmp_path / "Inbox" / "2").write_bytes(
        b"Received: from x;\n Fri, 13 Feb 2009 23:31:30 +0000\n" + message()
    )
    (tmp_path / "Inbox" / "2.ics").write_bytes(b"BEGIN:VCALENDAR\n")
    (tmp_path / "loose.eml").write_bytes(message("loose"))
    (tmp_path / "empty.eml").write_bytes(b"")
    (tmp_path / "Old.mbox").write_bytes(LINE + message("mbox"))
    (tmp_path / "Sent").write_bytes(b"From - Fri Feb 13 23:31:30 2009\r\n" + message("thunderbird"))
    (tmp_path / "Sent.msf").write_bytes(b'// <!-- <mdb:mork:z v="1.4"/> -->')
    (tmp_path / "Sent.sbd").mkdir()
    (tmp_path / "Sent.sbd" / "2008").write_bytes(LINE + message("below"))
    (tmp_path / "Apple.mbox").mkdir()
    (tmp_path / "Apple.mbox" / "mbox").write_bytes(LINE + message("apple"))
    found = read(tmp_path)
    assert {levels: len(items) for levels, items in found.items()} == {
        (): 2,
        ("Inbox",): 2,
        ("Old",): 1,
        ("Sent",): 1,
        ("Sent", "2008"): 1,
        ("Apple",): 1,
    }
    assert isinstance(found[()][0], Trouble) and found[()][0].reason == "empty"
    assert list(mails(found["Inbox",]))[1].arrived == OLD, "the last server knows when it came"
    assert all("\\Seen" in one.flags for one in mails(found["Inbox",]))


@pytest.mark.parametrize("top", ["", "mailbox-export-12/"])
def test_archive_of_folders(tmp_path: Path, top: str) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{top}Inbox/1.eml", message("1"))
        archive.writestr(f"{top}Inbox/2", message("2"))
        archive.writestr(f"{top}Sent Items/1.eml", message("3"))
        archive.writestr(f"{top}Projekte/Übersicht/1.eml", message("4"))
        archive.writestr(f"{top}Projekte/large.eml", message() + b"x" * LIMIT)
        archive.writestr(f"{top}Old.mbox", LINE + message("5") + b"\n" + LINE + message("6"))
        archive.writestr("__MACOSX/._1.eml", b"x")
    found = read(path)
    assert {levels: len(items) for levels, items in found.items()} == {
        ("Inbox",): 2,
        ("Sent Items",): 1,
        ("Projekte", "Übersicht"): 1,
        ("Projekte",): 1,
        ("Old",): 2,
    }
    assert isinstance(found["Projekte",][0], Trouble)


def test_damaged_member_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Inbox/1.eml", message("first") + b"marker")
        archive.writestr("Inbox/2.eml", message("second"))
    path.write_bytes(path.read_bytes().replace(b"marker", b"wrong!", 1))
    one, other = read(path)["Inbox",]
    assert isinstance(one, Trouble) and "Inbox/1.eml" in one.place and "damaged" in one.reason
    assert isinstance(other, Mail)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("missing", None, "cannot be read: No such file or directory"),
        ("picture", b"\x89PNG\r\n", "no mail in it; expected an mbox"),
        ("broken.zip", b"PK\x03\x04rubbish", "damaged"),
    ],
)
def test_what_is_no_mail_is_refused(tmp_path: Path, name: str, content: bytes | None, problem: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceBroken, match=problem):
        Files([tmp_path / name], LIMIT)


# Dates


@pytest.mark.parametrize(
    "line",
    [
        b"From ann@example.com Fri Feb 13 23:31:30 2009",
        b"From - Fri Feb 13 23:31:30 2009\r\n",
        b"From 123@xxx Fri Feb 13 23:31:30 +0000 2009\n",
        b"From a b Sat Feb 14 00:31:30 2009 +0100\n",
        b"From x Fri Feb 13 15:31:30 PST 2009\n",
    ],
)
def test_from_lines(line: bytes) -> None:
    assert moment.of_from_line(line) == OLD
    assert mbox.is_mbox(line)


@pytest.mark.parametrize("line", [b"From here", b"From: a@example.com", b"", b"From - here\n"])
def test_what_is_no_from_line(line: bytes) -> None:
    assert not mbox.is_mbox(line)


def test_impossible_dates_are_not_believed() -> None:
    for odd in (datetime(1970, 1, 1, tzinfo=UTC), NOW + timedelta(days=400), None):
        assert moment.first_possible((odd, OLD), NOW) == OLD
    assert moment.first_possible((None,), NOW) == NOW
    for text in ("", "rubbish", "Fri, 99 Feb 9999999999 99:99"):
        assert moment.possible(moment.parsed(text), NOW) is None


# Folders


def targets(*folders: Folder) -> dict[str, str]:
    return {str(one): target for one, target in plan(folders).items()}


def test_special_folders_by_attribute() -> None:
    assert targets(
        Folder(("INBOX",)),
        Folder(("Gesendete Objekte",), "sent"),
        Folder(("Sent",)),
        Folder(("Archives",), "archive"),
        Folder(("Archives", "2008")),
        Folder(("Spamverdacht",), "junk"),
        Folder(("Verein e.V.", "Kasse")),
    ) == {
        "INBOX": "INBOX",
        "Gesendete Objekte": "Sent",
        # The server says which one is Sent. Two folders with one name cannot be kept apart.
        "Sent": "Sent",
        "Archives": "Archive",
        "Archives/2008": "Archive/2008",
        "Spamverdacht": "Junk",
        "Verein e.V./Kasse": "Verein e.V./Kasse",
    }


def test_special_folders_by_name() -> None:
    names = [
        "Inbox",
        "Sent Items",
        "Deleted Items",
        "Junk E-mail",
        "Drafts",
        "Entwürfe",
        "Archiv",
        "Rechnungen",
    ]
    assert list(targets(*(Folder((one,)) for one in names)).values()) == [
        "INBOX",
        "Sent",
        "Trash",
        "Junk",
        "Drafts",
        "Drafts",
        "Archive",
        "Rechnungen",
    ]
    assert targets(Folder(())) == {"(no folder)": "INBOX"}


def test_folders_of_gmail() -> None:
    assert targets(
        Folder(("[Gmail]", "All Mail"), "all"),
        Folder(("[Gmail]", "Starred"), "flagged"),
        Folder(("[Gmail]", "Important"), "important"),
        Folder(("[Gmail]", "Sent Mail"), "sent"),
        Folder(("[Gmail]", "Chats")),
        Folder(("INBOX",)),
        Folder(("Label", "Sub")),
    ) == {
        "[Gmail]/Sent Mail": "Sent",
        "[Gmail]/Chats": "Chats",
        "INBOX": "INBOX",
        "Label/Sub": "Label/Sub",
        # Last, for what has no label.
        "[Gmail]/All Mail": "Archive",
    }
    assert list(plan([Folder(("All",), "all"), Folder(("INBOX",))]).values()) == ["INBOX", "Archive"]
