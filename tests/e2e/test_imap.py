"""What mail clients expect of IMAP, on both servers, through a client library as clients use one."""

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from imapclient import IMAPClient

from tests.e2e.conftest import SERVERS, Running
from tests.e2e.imap_session import Session
from tests.e2e.mail import Client
from twinmail.local.state import LOOPBACK

USER = "clients"

# What Apple Mail, Thunderbird, K-9 and Roundcube look for; the registry of capabilities names the RFCs.
# fmt: off
WANTED = {
    "IMAP4REV1", "IDLE", "ENABLE", "CONDSTORE", "QRESYNC", "SPECIAL-USE", "MOVE", "UIDPLUS", "QUOTA",
    "COMPRESS=DEFLATE", "LIST-EXTENDED", "LIST-STATUS", "ID", "NAMESPACE", "UNSELECT", "CHILDREN",
    "SORT", "THREAD=REFERENCES", "ESEARCH", "SEARCHRES", "BINARY", "LITERAL+", "SASL-IR", "WITHIN",
    "CONTEXT=SEARCH", "NOTIFY", "SNIPPET=FUZZY", "PREVIEW", "STATUS=SIZE", "SAVEDATE",
}
# fmt: on

_NUMBERS = count()


def message(subject: str, *, message_id: str = "", references: str = "", body: str = "Hello\r\n") -> bytes:
    return (
        f"From: sender@example.com\r\nTo: {USER}@example.org\r\nSubject: {subject}\r\n"
        + (f"Message-ID: {message_id}\r\n" if message_id else "")
        + (f"References: {references}\r\n" if references else "")
        + f"\r\n{body}"
    ).encode()


def connect(running: Running, server: str) -> IMAPClient:
    port = running.system.ports[f"{server}-imaps"]
    client = IMAPClient(LOOPBACK, port, ssl_context=running.tls, timeout=60)
    client.login(USER, running.passwords[USER])
    return client


def session(running: Running, server: str) -> Session:
    one = Session(LOOPBACK, running.system.ports[f"{server}-imaps"], running.tls)
    one.ok(f'LOGIN {USER} "{running.passwords[USER]}"')
    return one


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(running: Running, server: str) -> Iterator[IMAPClient]:
    with connect(running, server) as one:
        yield one


@pytest.fixture
def folder(client: IMAPClient) -> Iterator[str]:
    """A new folder of its own for the test, gone afterwards."""
    name = f"Test {next(_NUMBERS)}"
    client.create_folder(name)
    yield name
    client.delete_folder(name)


def uid_of(answer: bytes) -> int:
    """The UID that an APPEND answers with (RFC 4315)."""
    return int(answer.partition(b"APPENDUID ")[2].split(b"]")[0].split()[1])


def watched(client: IMAPClient, wanted: Any, timeout: float = 60) -> list[Any]:
    """IDLE answers until one is *wanted*."""
    seen: list[Any] = []
    deadline = time.monotonic() + timeout
    while not any(wanted(one) for one in seen):
        assert time.monotonic() < deadline, seen
        seen += client.idle_check(timeout=1)
    return seen


def test_capabilities_before_and_after_login(running: Running, server: str) -> None:
    port = running.system.ports[f"{server}-imaps"]
    with IMAPClient(LOOPBACK, port, ssl_context=running.tls, timeout=60) as client:
        before = {one.decode() for one in client.capabilities()}
        assert {"IMAP4REV1", "ID", "IDLE", "AUTH=PLAIN", "SASL-IR"} <= before
        assert not {"STARTTLS", "LOGINDISABLED"} & before, "this is inside TLS already"
        client.login(USER, running.passwords[USER])
        after = {one.decode() for one in client.capabilities()}
    assert sorted(WANTED - after) == []


def test_id_names_the_product_and_not_its_version(client: IMAPClient) -> None:
    (fields,) = client.id_({"name": "Thunderbird", "version": "140.0"})
    known = {fields[number].lower(): fields[number + 1] for number in range(0, len(fields), 2)}
    assert known == {b"name": b"Dovecot"}


def test_namespace_is_one_with_a_slash(client: IMAPClient) -> None:
    assert client.namespace().personal == (("", "/"),)
    assert not client.namespace().shared


def test_idle_pushes_what_arrives(running: Running, client: IMAPClient) -> None:
    before = client.select_folder("INBOX")[b"EXISTS"]
    client.idle()
    accepted = running.sender.send(message("pushed"), [f"{USER}@example.org"])
    watched(client, lambda one: one == (before + 1, b"EXISTS"))
    client.idle_done()
    running.assert_once(USER, accepted)


def test_idle_pushes_what_another_device_does(
    running: Running, client: IMAPClient, server: str, folder: str
) -> None:
    uids = [uid_of(client.append(folder, message(f"number {number}"))) for number in range(2)]
    client.select_folder(folder)
    with connect(running, server) as phone:
        phone.select_folder(folder)
        client.idle()
        phone.add_flags(uids[1], [b"\\Flagged"])
        seen = watched(
            client,
            lambda one: (
                one[1] == b"FETCH"
                and b"\\Flagged" in dict(zip(one[2][::2], one[2][1::2], strict=True))[b"FLAGS"]
            ),
        )
        assert [one[0] for one in seen if one[1] == b"FETCH"] == [2]
        phone.delete_messages(uids[0])
        phone.expunge(uids[0])
        watched(client, lambda one: one == (1, b"EXPUNGE"))
        client.idle_done()


def test_condstore_tells_what_changed(client: IMAPClient, folder: str) -> None:
    uids = [uid_of(client.append(folder, message(f"number {number}"))) for number in range(5)]
    client.enable("CONDSTORE")
    before = client.select_folder(folder)[b"HIGHESTMODSEQ"]
    client.add_flags(uids[2], [b"\\Seen"])
    changed = client.fetch(uids, ["FLAGS"], [f"CHANGEDSINCE {before}"])
    assert set(changed) == {uids[2]}
    assert b"\\Seen" in changed[uids[2]][b"FLAGS"]
    assert changed[uids[2]][b"MODSEQ"][0] > before
    assert client.folder_status(folder, ["HIGHESTMODSEQ"])[b"HIGHESTMODSEQ"] == changed[uids[2]][b"MODSEQ"][0]


def test_condstore_refuses_to_overwrite_what_it_has_not_seen(
    running: Running, client: IMAPClient, server: str, folder: str
) -> None:
    uid = uid_of(client.append(folder, message("flags")))
    with session(running, server) as late:
        answer = late.ok(f'SELECT "{folder}" (CONDSTORE)')
        (before,) = answer.all(rb"OK \[HIGHESTMODSEQ (\d+)\]")
        client.select_folder(folder)
        client.add_flags(uid, [b"\\Answered"])
        refused = late.ok(f"UID STORE {uid} (UNCHANGEDSINCE {before[1].decode()}) FLAGS (\\Deleted)")
        assert refused.text.startswith(b"[MODIFIED %d]" % uid)
    assert client.get_flags(uid)[uid] == (b"\\Answered",)


def test_qresync_tells_a_returning_client_everything_at_once(
    running: Running, client: IMAPClient, server: str, folder: str
) -> None:
    """Flags changed, messages gone, messages new: in the answer to SELECT, and nothing else (RFC 7162 §3.2.5)."""
    uids = [uid_of(client.append(folder, message(f"number {number}"))) for number in range(6)]
    client.enable("CONDSTORE")
    known = client.select_folder(folder)
    client.add_flags(uids[0], [b"\\Flagged"])
    client.delete_messages(uids[2:4])
    client.expunge(uids[2:4])
    new = uid_of(client.append(folder, message("new")))
    with session(running, server) as back:
        assert back.ok("ENABLE QRESYNC").all(rb"ENABLED .*QRESYNC")
        answer = back.ok(f'SELECT "{folder}" (QRESYNC ({known[b"UIDVALIDITY"]} {known[b"HIGHESTMODSEQ"]}))')
        assert [one[1] for one in answer.all(rb"VANISHED \(EARLIER\) (.*)")] == [
            b"%d:%d" % (uids[2], uids[3])
        ]
        fetched = {int(one[1]): one[2] for one in answer.all(rb"\d+ FETCH \(UID (\d+) FLAGS \((.*?)\)")}
        assert set(fetched) == {uids[0], new}
        assert b"\\Flagged" in fetched[uids[0]]
        # And from here on other sessions' expunges come by UID as well.
        client.delete_messages(uids[4])
        client.expunge(uids[4])
        assert [one[1] for one in back.ok("NOOP").all(rb"VANISHED (\d+)")] == [b"%d" % uids[4]]


def test_qresync_sees_what_the_syncer_delivered(running: Running, client: IMAPClient, server: str) -> None:
    client.enable("CONDSTORE")
    known = client.select_folder("INBOX")
    accepted = running.sender.send(message("while away"), [f"{USER}@example.org"])
    found = running.uids(USER, accepted)[server]
    with session(running, server) as back:
        back.ok("ENABLE QRESYNC")
        answer = back.ok(f"SELECT INBOX (QRESYNC ({known[b'UIDVALIDITY']} {known[b'HIGHESTMODSEQ']}))")
        assert [one[1].decode() for one in answer.all(rb"\d+ FETCH \(UID (\d+) ")] == found


def test_special_use_folders_are_marked(client: IMAPClient) -> None:
    marked = {name: flags for flags, _, name in client.list_folders()}
    for name in ("Sent", "Drafts", "Junk", "Trash", "Archive"):
        assert f"\\{name}".encode() in marked[name]
        assert client.find_special_folder(f"\\{name}".encode()) == name


def test_move_is_one_step_and_says_where_it_went(
    client: IMAPClient, running: Running, server: str, folder: str
) -> None:
    uids = [uid_of(client.append(folder, message(f"number {number}"))) for number in range(3)]
    with session(running, server) as one:
        one.ok(f'SELECT "{folder}"')
        answer = one.ok(f"UID MOVE {uids[0]}:{uids[1]} Archive")
        (copied,) = answer.all(rb"OK \[COPYUID (\d+) (\S+) (\S+)\]")
        assert copied[2] == b"%d:%d" % (uids[0], uids[1])
        assert len(answer.all(rb"\d+ EXPUNGE")) == 2
    client.select_folder(folder)
    assert client.search() == [uids[2]]
    client.select_folder("Archive")
    first, last = (int(uid) for uid in copied[3].split(b":"))
    moved = client.fetch([first, last], ["ENVELOPE"])
    assert [one[b"ENVELOPE"].subject for one in moved.values()] == [b"number 0", b"number 1"]


def test_uidplus_names_what_was_stored_and_expunges_only_that(
    running: Running, client: IMAPClient, server: str, folder: str
) -> None:
    first, second = (uid_of(client.append(folder, message(subject))) for subject in ("one", "two"))
    client.select_folder(folder)
    assert client.fetch(second, ["ENVELOPE"])[second][b"ENVELOPE"].subject == b"two"
    with session(running, server) as one:
        one.ok(f'SELECT "{folder}"')
        assert one.ok(f"UID COPY {first} Archive").text.startswith(b"[COPYUID ")
    client.delete_messages([first, second])
    client.uid_expunge(first)
    assert client.search() == [second]


def test_list_returns_the_status_of_every_folder(
    running: Running, client: IMAPClient, server: str, folder: str
) -> None:
    client.append(folder, message("unseen"))
    with session(running, server) as one:
        answer = one.ok(
            'LIST "" "*" RETURN (SPECIAL-USE SUBSCRIBED STATUS (MESSAGES UNSEEN UIDNEXT HIGHESTMODSEQ))'
        )
    listed = {match[1].strip(b'"') for match in answer.all(rb'LIST \([^)]*\) "/" (.*)')}
    status = {match[1].strip(b'"'): match[2] for match in answer.all(rb"STATUS (.*) \((.*)\)")}
    assert listed == set(status)
    fields = status[folder.encode()].split()
    assert dict(zip(fields[::2], fields[1::2], strict=True)).items() >= {
        (b"MESSAGES", b"1"),
        (b"UNSEEN", b"1"),
    }
    (sent,) = answer.all(rb'LIST \(([^)]*)\) "/" Sent\Z')
    assert {rb"\Sent", rb"\Subscribed"} <= set(sent[1].split())


def test_compressed_session_shows_the_same_octets(
    running: Running, client: IMAPClient, server: str, folder: str
) -> None:
    stored = message("large", body="The same line again and again.\r\n" * 20_000)
    uid = uid_of(client.append(folder, stored))
    received = []
    for compressed in (False, True):
        with session(running, server) as one:
            if compressed:
                one.compress()
            one.ok(f'SELECT "{folder}"')
            (body,) = one.ok(f"UID FETCH {uid} (BODY.PEEK[])").all(
                rb"\d+ FETCH \(UID \d+ BODY\[\] \{\d+\}\r\n(.*)\)\Z"
            )
            assert body[1] == stored
            received.append(one.octets_received)
    plain, small = received
    assert small < plain / 10


def test_threads_follow_references(client: IMAPClient, folder: str) -> None:
    first = uid_of(client.append(folder, message("question", message_id="<a@example.com>")))
    other = uid_of(client.append(folder, message("other", message_id="<b@example.com>")))
    reply = uid_of(
        client.append(
            folder, message("Re: question", message_id="<c@example.com>", references="<a@example.com>")
        )
    )
    client.select_folder(folder)
    assert set(client.thread("REFERENCES")) == {(first, reply), (other,)}


def test_sort_by_subject_is_done_by_the_server(client: IMAPClient, folder: str) -> None:
    uids = [uid_of(client.append(folder, message(subject))) for subject in ("b", "Re: c", "a")]
    client.select_folder(folder)
    assert client.sort("SUBJECT") == [uids[2], uids[0], uids[1]]


@pytest.mark.parametrize("name", ["Verein e.V.", "Büro/Müller & Söhne", "日本語", "100 %"])
def test_folder_names_of_people(client: IMAPClient, name: str) -> None:
    client.create_folder(name)
    try:
        client.subscribe_folder(name)
        assert name in {listed for _, _, listed in client.list_folders()}
        assert name in {listed for _, _, listed in client.list_sub_folders()}
        client.append(name, message("inside"))
        assert client.select_folder(name)[b"EXISTS"] == 1
        client.unselect_folder()
    finally:
        client.unsubscribe_folder(name)
        client.delete_folder(name)


def test_two_equal_messages_are_two(running: Running, client: IMAPClient, server: str, folder: str) -> None:
    """Nothing is merged behind the back of a client that stores the same message again."""
    same = message("same", message_id="<same@example.com>")
    assert uid_of(client.append(folder, same)) < uid_of(client.append(folder, same))
    with Client(
        LOOPBACK, running.system.ports[f"{server}-imaps"], USER, running.passwords[USER], running.tls
    ) as one:
        assert len(one.guids(f'"{folder}"')) == 2


def test_flags_and_keywords_stay(running: Running, client: IMAPClient, server: str, folder: str) -> None:
    uid = uid_of(client.append(folder, message("flags"), flags=[b"\\Seen", b"$Forwarded"]))
    client.select_folder(folder)
    client.add_flags(uid, [b"\\Flagged", b"NonJunk"])
    with connect(running, server) as phone:
        phone.select_folder(folder)
        flags = set(phone.get_flags(uid)[uid])
    assert flags >= {b"\\Seen", b"\\Flagged", b"$Forwarded", b"NonJunk"}


def test_quota_is_shown(client: IMAPClient, folder: str) -> None:
    """GETQUOTAROOT (RFC 9208), which clients draw as a bar: what is used, and of how much."""
    (before,) = [one for one in client.get_quota("INBOX") if one.resource == "STORAGE"]
    client.append(folder, message("large", body="x" * 998 + "\r\n" * 200 + ("y" * 998 + "\r\n") * 300))
    (after,) = [one for one in client.get_quota("INBOX") if one.resource == "STORAGE"]
    assert before.limit == after.limit == 10 * 1024 * 1024  # KiB
    assert after.usage - before.usage in range(290, 300)
    assert client.get_quota_root(folder)[0].quota_roots
