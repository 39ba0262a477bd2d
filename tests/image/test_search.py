"""IMAP SEARCH over bodies: what is found, with the index and without, and when the index is lost or damaged."""

import io
import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from email.header import Header
from pathlib import Path

import pytest

from tests.image.conftest import IMAGES
from tests.image.dovecot import Dovecot
from twinmail.basename import base_name
from twinmail.imap import session
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.interface import Runtime
from twinmail.sync.indexing import PLACE, IndexingChore, request
from twinmail.sync.log import Log, utc_now

INDEX = "fts-flatcurve"
TEXTS = {
    "bill": "Sehr geehrter Herr Müller, die Versicherungsrechnungen für Größe XL kommen in die Straße 5.",
    "order": "Your order AB-1234567 left otto.normal@shop.example.com, see https://shop.example.com/o?id=77",
    "accent": "Café crème, naïve Señor ÅNGSTRÖM; Wieviel kostet's?",
    "plain": "Nothing to be found here but an xylophone, a caffeinated cafeteria and Muellers Mill.",
}
# Criteria, and which messages they find. A word may be any part of a word, in any case.
FOUND: Sequence[tuple[str, str, set[str]]] = (
    ("BODY", "Müller", {"bill"}),
    ("BODY", "MÜLLER", {"bill"}),
    ("BODY", "rechnung", {"bill"}),
    ("BODY", "Versicherung", {"bill"}),
    ("BODY", "icherungsrechn", {"bill"}),
    ("BODY", "größe", {"bill"}),
    ("BODY", "Straße", {"bill"}),
    ("BODY", "AB-1234567", {"order"}),
    ("BODY", "1234567", {"order"}),
    ("BODY", "otto.normal@shop.example.com", {"order"}),
    ("BODY", "normal@shop", {"order"}),
    ("BODY", "shop.example.com", {"order"}),
    ("BODY", "caf", {"accent", "plain"}),
    ("BODY", "Ångström", {"accent"}),
    ("BODY", "xylophon", {"plain"}),
    ("BODY", "zyxwv", set()),
    ("TEXT", "mueller", {"plain"}),
    ("TEXT", "jürgen", {"bill"}),
    ("SUBJECT", "rechnung", {"bill"}),
    ("SUBJECT", "Stromrechnung für", {"bill"}),
    ("BODY", "Straße 5", {"bill"}),
    ("BODY", "Straße 6", set()),
    ("BODY", "5", {"bill", "order"}),
    ("BODY", "o?id=77", {"order"}),
    ("FROM", "Jürgen", {"bill"}),
    ("FROM", "juergen.beispiel@firma.example.org", {"bill"}),
    ("FROM", "firma.example", {"bill"}),
    ("TO", "rene@example.net", set(TEXTS)),
    ("HEADER Message-ID", "order@tests.example.com", {"order"}),
    ("NOT BODY", "müller", {"order", "accent", "plain"}),
    ("OR BODY xylophone BODY", "müller", {"bill", "plain"}),
)


def message(name: str, text: str, kind: str = "text/plain") -> bytes:
    subject = Header({"bill": "Stromrechnung für März"}.get(name, name), "utf-8").encode()
    sender = "Jürgen Beispiel" if name == "bill" else "Somebody"
    address = "juergen.beispiel@firma.example.org" if name == "bill" else "somebody@example.com"
    return (
        f"Received: from receivedonly.example.com by mx\r\nFrom: {Header(sender, 'utf-8').encode()} <{address}>\r\n"
        f"To: rene@example.net\r\nSubject: {subject}\r\nMessage-ID: <{name}@tests.example.com>\r\n"
        f"MIME-Version: 1.0\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        f"{text}\r\n"
    ).encode()


def put(dovecot: Dovecot, user: str, name: str, data: bytes, folder: str = "") -> Path:
    return dovecot.store(user, base_name(utc_now(), name, len(data), len(data)), data, folder)


def search(dovecot: Dovecot, user: str, criteria: str, text: str, folder: str = "INBOX") -> set[str]:
    """Names of the messages that are found."""
    with session(dovecot.account(user), 60) as client:
        client.select(f'"{folder}"', readonly=True)
        client.literal = text.encode()
        status, lines = client.uid("SEARCH", "CHARSET", "UTF-8", *criteria.split())
        assert status == "OK", lines
        uids = (lines[0] or b"").split()
        names = set()
        for uid in uids:
            part = client.uid("FETCH", uid.decode(), "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")[1][0]
            assert isinstance(part, tuple)
            names.add(part[1].decode().partition("<")[2].partition("@")[0])
        assert len(names) == len(uids)
        return names


@pytest.fixture(scope="module", params=[True, False], ids=["index", "no-index"])
def either(
    request: pytest.FixtureRequest, runtime: Runtime, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dovecot]:
    """Dovecot with and without the index, and the same mail for ann."""
    folder = tmp_path_factory.mktemp("search")
    server = Dovecot(runtime, IMAGES / "dovecot", host_platform(), folder, full_text_search=request.param)
    try:
        server.start(f"search-{'on' if request.param else 'off'}")
        for name, text in TEXTS.items():
            put(server, "ann", name, message(name, text))
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("criteria", "text", "found"), FOUND, ids=lambda one: str(one) if isinstance(one, str) else ""
)
def test_same_results_with_and_without_the_index(
    either: Dovecot, criteria: str, text: str, found: set[str]
) -> None:
    assert search(either, "ann", criteria, text) == found


def test_index_is_kept_only_where_it_is_on(either: Dovecot) -> None:
    search(either, "ann", "BODY", "rechnung")
    assert (either.maildir("ann") / INDEX).is_dir() == either.full_text_search


def test_html_is_searched_by_its_words(either: Dovecot) -> None:
    put(either, "bob", "html", message("html", "<p class='decoration'>Über<b>raschung</b></p>", "text/html"))
    assert search(either, "bob", "BODY", "raschung") == {"html"}
    # A word of a tag: without the index the source is what is read.
    assert search(either, "bob", "BODY", "decoration") == (set() if either.full_text_search else {"html"})


def test_what_the_index_does_differently_is_as_documented(either: Dovecot) -> None:
    """More is found with it: without accents, and words that are not side by side."""
    for text, found in (("Muller", "bill"), ("Wieviel Café", "accent")):
        names = search(either, "ann", "BODY", text)
        assert (found in names) == either.full_text_search, text


def test_of_a_long_word_the_index_knows_the_beginning(either: Dovecot) -> None:
    put(either, "bob", "long", message("long", "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen"))
    for text in ("Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen", "schifffahrtsgesell"):
        assert search(either, "bob", "BODY", text) == {"long"}
    assert search(either, "bob", "BODY", "mützenabzeichen") == (
        set() if either.full_text_search else {"long"}
    )


def test_expunged_message_is_no_ghost(either: Dovecot) -> None:
    put(either, "bob", "gone", message("gone", "vergänglich"))
    assert search(either, "bob", "BODY", "vergänglich") == {"gone"}
    with session(either.account("bob")) as client:
        client.select("INBOX")
        client.literal = "vergänglich".encode()
        uid = client.uid("SEARCH", "CHARSET", "UTF-8", "BODY")[1][0].decode()
        client.uid("STORE", uid, "+FLAGS.SILENT", "(\\Deleted)")
        client.uid("EXPUNGE", uid)
    assert search(either, "bob", "BODY", "vergänglich") == set()


def test_moved_message_is_found_where_it_is(either: Dovecot) -> None:
    put(either, "bob", "moved", message("moved", "umgezogen"))
    with session(either.account("bob")) as client:
        client.select("INBOX")
        uid = client.uid("SEARCH", "BODY", "umgezogen")[1][0].decode()
        client.uid("MOVE", uid, "Archive")
    assert search(either, "bob", "BODY", "umgezogen") == set()
    assert search(either, "bob", "BODY", "umgezogen", "Archive") == {"moved"}


def test_stored_by_a_client_is_found(either: Dovecot) -> None:
    with session(either.account("bob")) as client:
        client.append("Sent", None, None, message("sent", "Gesendetes"))  # type: ignore[arg-type]
    assert search(either, "bob", "BODY", "gesendet", "Sent") == {"sent"}


@pytest.fixture(scope="module")
def indexing(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    users = ("ann", "bob", "carol", "dave", "eve", "frank")
    folder = tmp_path_factory.mktemp("indexing")
    server = Dovecot(runtime, IMAGES / "dovecot", host_platform(), folder, users)
    try:
        yield server.start("indexing")
    finally:
        server.stop()


@pytest.mark.parametrize("damage", ["lost", "emptied", "overwritten", "truncated"])
def test_index_lost_or_damaged_is_made_again(indexing: Dovecot, damage: str) -> None:
    for name, text in TEXTS.items():
        put(indexing, "dave", f"{damage}-{name}", message(name, f"{text} {damage}word"))
    assert search(indexing, "dave", "BODY", f"{damage}word") == set(TEXTS)
    index = indexing.maildir("dave") / INDEX
    if damage == "lost":
        shutil.rmtree(index)
    for path in index.rglob("*.glass") if index.exists() else ():
        data = path.read_bytes()
        if damage == "emptied":
            path.write_bytes(b"")
        elif damage == "overwritten":
            path.write_bytes(os.urandom(len(data)))
        else:
            path.write_bytes(data[: len(data) // 2])
    put(indexing, "dave", f"{damage}-later", message(f"later-{damage}", f"after {damage}word"))
    # Found all the time: without an index it reads the messages.
    assert search(indexing, "dave", "BODY", f"{damage}word") == {*TEXTS, f"later-{damage}"}
    chore = IndexingChore(indexing.folder / "mail", Log(io.StringIO()))
    deadline = time.monotonic() + 60
    while statistics(indexing, "dave") != "messages=5":
        assert time.monotonic() < deadline, indexing.container.logs().decode()[-2000:]
        chore.turn()
        time.sleep(0.05)
    assert search(indexing, "dave", "BODY", f"{damage}word") == {*TEXTS, f"later-{damage}"}
    with session(indexing.account("dave")) as client:
        client.select("INBOX")
        client.store("1:*", "+FLAGS.SILENT", "(\\Deleted)")
        client.expunge()


def statistics(dovecot: Dovecot, user: str, name: str = "messages") -> str:
    """How many messages (or shards) the index of the INBOX has."""
    line = dovecot.container.exec(["/usr/bin/doveadm", "fts", "flatcurve", "stats", "-u", user, "INBOX"])
    return next((one for one in line.output.decode().split() if one.startswith(f"{name}=")), "")


def test_index_of_many_parts_is_merged_at_night_and_not_by_a_session(indexing: Dovecot) -> None:
    for number in range(5):
        put(indexing, "frank", f"part{number}", message(f"part{number}", "Zerteiltes"))
        assert len(search(indexing, "frank", "BODY", "zerteilt")) == number + 1
        rotate = ["/usr/bin/doveadm", "fts", "flatcurve", "rotate", "-u", "frank", "INBOX"]
        assert indexing.container.exec(rotate).code == 0
    assert statistics(indexing, "frank", "shards") in ("shards=5", "shards=6")
    now = [utc_now()]
    chore = IndexingChore(indexing.folder / "mail", Log(io.StringIO()), lambda: now[0])
    chore.turn()
    now[0] += timedelta(days=1)
    deadline = time.monotonic() + 60
    while statistics(indexing, "frank", "shards") not in ("shards=1", "shards=2"):
        assert time.monotonic() < deadline, indexing.container.logs().decode()[-2000:]
        chore.turn()
        time.sleep(0.1)
    assert len(search(indexing, "frank", "BODY", "zerteilt")) == 5


def indexed(dovecot: Dovecot, user: str, folder: str = "") -> bool:
    """Whether there is an index with a message in it, without asking Dovecot, which would make one."""
    return any((dovecot.maildir(user, folder) / INDEX).glob("*/postlist.glass"))


@pytest.mark.parametrize("folder", ["", "Junk", "Archive.2026", "Vertr&AOQ-ge %2e"])
def test_what_the_syncer_announces_is_indexed_without_a_client(indexing: Dovecot, folder: str) -> None:
    put(indexing, "ann", f"announced-{len(folder)}", message("announced", "Ankündigung"), folder)
    chore = IndexingChore(indexing.folder / "mail", Log(io.StringIO()))
    assert not indexed(indexing, "ann", folder)
    chore.turn()
    until_indexed(indexing, "ann", folder)
    index = indexing.maildir("ann", folder) / INDEX
    shutil.rmtree(index)
    chore.turn()
    put(indexing, "ann", f"announced-again-{len(folder)}", message("again", "Ankündigung"), folder)
    chore.arrived("ann", folder or "INBOX")
    chore.turn()
    until_indexed(indexing, "ann", folder)


def until_indexed(dovecot: Dovecot, user: str, folder: str) -> None:
    deadline = time.monotonic() + 60
    while not indexed(dovecot, user, folder):
        assert time.monotonic() < deadline, dovecot.container.logs().decode()[-2000:]
        time.sleep(0.05)


def test_text_attachments_are_searched_up_to_a_limit_and_others_never(indexing: Dovecot) -> None:
    def part(kind: str, text: str) -> str:
        return f"--x\r\nContent-Type: {kind}\r\nContent-Disposition: attachment\r\n\r\n{text}\r\n"

    filler = "word and word\r\n" * 160_000
    data = (
        "Message-ID: <attached@tests.example.com>\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="x"\r\n\r\n'
        + part("text/plain", "frontmatter")
        + part("application/pdf", "binarymatter")
        + part("text/csv", f"spreadsheetmatter\r\n{filler}\r\nlastmatter")
        + "--x--\r\n"
    ).encode()
    put(indexing, "carol", "attached", data)
    assert search(indexing, "carol", "BODY", "frontmatter") == {"attached"}
    assert search(indexing, "carol", "BODY", "spreadsheetmatter") == {"attached"}
    assert search(indexing, "carol", "BODY", "binarymatter") == set()
    assert search(indexing, "carol", "BODY", "lastmatter") == set(), "text beyond 2 MB is not in the index"


def test_trace_headers_are_not_in_the_index(indexing: Dovecot) -> None:
    put(indexing, "eve", "traced", message("traced", "text"))
    assert search(indexing, "eve", "BODY", "text") == {"traced"}
    assert search(indexing, "eve", "TEXT", "receivedonly") == set()


def test_socket_is_for_the_syncer_alone(indexing: Dovecot) -> None:
    path = indexing.folder / "mail" / PLACE
    assert path.is_socket()
    assert path.stat().st_mode & 0o777 == 0o600


def test_mailbox_that_is_not_there_does_no_harm(indexing: Dovecot) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(indexing.folder / "mail" / PLACE))
        connection.sendall(b"VERSION\tindexer-client\t1\t0\n" + request("nobody", "INBOX", 1))
        connection.settimeout(30)
        assert connection.recv(1000)
    test_what_the_syncer_announces_is_indexed_without_a_client(indexing, "Trash")
