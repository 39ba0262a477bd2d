"""Names of folders: as Dovecot 2.4.1 puts them on the disk, and whatever other servers call theirs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinmail.folder_name import disk_name, fitting, imap_name, is_folder_name, modified_utf7

# What Dovecot made of each CREATE; tests/e2e/test_import.py lets it read what we write.
SEEN = {
    "INBOX": "INBOX",
    "INBOX/Sub": "INBOX.Sub",
    "Projekte/Übersicht 2019": "Projekte.&ANw-bersicht 2019",
    "Verein e.V./Kasse": "Verein e%2eV%2e.Kasse",
    "100%": "100%25",
    "~tilde": "%7etilde",
    "a/~b": "a.%7eb",
    "Q&A": "Q&-A",
    "&amp;": "&-amp;",
    "star*": "star*",
    " lead": " lead",
    "日本語/メール": "&ZeVnLIqe-.&MOEw,DDr-",
    "emoji 😀": "emoji &2D3eAA-",
    ".hidden": "%2ehidden",
    'quote"x': 'quote"x',
}


@pytest.mark.parametrize("name", SEEN)
def test_name_on_the_disk_is_the_one_that_dovecot_gives(name: str) -> None:
    assert disk_name(name) == SEEN[name]
    assert imap_name(SEEN[name]) == name
    assert is_folder_name(name)


levels = st.lists(st.text(max_size=40), max_size=40)


@settings(deadline=None)
@given(levels)
def test_every_name_of_another_server_becomes_one_that_ours_keeps(names: list[str]) -> None:
    name = fitting(names)
    assert is_folder_name(name), name
    assert imap_name(disk_name(name)) == name
    assert fitting(name.split("/")) == name
    on_disk = disk_name(name)
    assert not on_disk.startswith(".") and "/" not in on_disk and len(on_disk.encode()) <= 240


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["inbox"], "INBOX"),
        (["Inbox", "Bills"], "INBOX/Bills"),
        (["Cafe\u0301"], "Café"),
        (["a/b", "c\td", ""], "a_b/c_d/_"),
        ([], "INBOX"),
    ],
)
def test_names_are_changed_only_where_ours_would_refuse_them(names: list[str], name: str) -> None:
    assert fitting(names) == name


def test_long_names_stay_apart() -> None:
    one, other = fitting(["ü" * 300]), fitting(["ü" * 301])
    assert one != other and one.startswith("üüü")


@pytest.mark.parametrize("text", ["&", "a & b", "&!!-", "plain", "&AAAAA-x"])
def test_what_is_no_modified_utf7_is_left_alone(text: str) -> None:
    assert isinstance(modified_utf7(text), str)


@pytest.mark.parametrize("name", ["", "/", "a//b", "a/", "inbox", "tab\t", "x" * 300, "\ud800"])
def test_what_no_server_can_keep_is_no_name(name: str) -> None:
    assert not is_folder_name(name)
