"""What IMAP shows of stored octets is exactly what `tests.wire.as_imap` says."""

import hashlib
import itertools
import re
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.image.dovecot import Dovecot
from tests.wire import as_imap
from twinmail.basename import base_name, virtual_size
from twinmail.imap import session

HEAD = b"From: a@example.com\r\nTo: ann@example.org\r\nSubject: bytes\r\n"

STORED = {
    "plain": HEAD + b"\r\nhello\r\n",
    "bare LF": HEAD + b"\r\none\ntwo\n\n\r\nthree\n",
    "bare LF everywhere": b"From: a@example.com\nSubject: b\n\nbody\n",
    "LF first": b"\nbody",
    "bare CR": HEAD + b"\r\none\rtwo\r\rthree\r\r\nfour\r",
    "NUL": HEAD + b"\r\na\0b\0\0c\r\n",
    "NUL in a header": b"From: a\0b\r\nSubj\0ect: x\r\n\r\nbody",
    "NUL beside 0x80": HEAD + b"\r\n\x80\0\x80\xff\0",
    "every octet": HEAD + b"\r\n" + bytes(range(256)) * 3,
    "line ends in every order": HEAD + b"\n\r\n\r\r\n\n\r\0\n\0\r\n\r",
    "lines of 10,000 and 100,000": HEAD + b"\r\n" + b"x" * 10_000 + b"\r\n" + b"y" * 100_000 + b"\n",
    "no headers": b"\r\nbody\r\n",
    "no headers and no blank line": b"this is not a header line at all\r\n",
    "empty body": HEAD + b"\r\n",
    "headers only": HEAD,
    "headers without an end": b"From: a",
    "2,000 headers": b"".join(b"X-Header-%d: value\r\n" % one for one in range(2000)) + b"\r\nbody\r\n",
    "a blank line only": b"\r\n",
    "nothing": b"",
    "mbox separators": b"From a@example.com Mon Nov 23 00:00:00 2026\r\nFrom: a\r\n\r\nFrom b\r\n>From c\r\n",
    "broken MIME": HEAD + b'Content-Type: multipart/mixed; boundary="a\r\n\r\n--a\r\n--a--\n--b\r\n',
    "line ends across buffers": HEAD
    + b"\r\n"
    + (b"A" * 8191 + b"\r\n") * 9
    + b"\n" * 70_000
    + b"\r\0" * 5000,
}

# What may matter, close together; long runs find the borders of buffers.
OCTETS = st.lists(
    st.one_of(
        st.sampled_from(
            [b"\r\n", b"\n", b"\r", b"\0", b"\x80", b": ", b"--", b"a", b"\r\n\r\n", b"\n\n", b"\t"]
        ),
        st.binary(max_size=30),
        st.sampled_from([b"\n", b"x", b"\r", b"\0", b"\r\n"]).flatmap(
            lambda one: st.integers(1, 9000).map(lambda count: one * count)
        ),
    ),
    max_size=30,
).map(b"".join)

_counter = itertools.count()


def store(dovecot: Dovecot, data: bytes) -> str:
    """Deliver *data* to ann as the syncer does; return the base name."""
    number = next(_counter)
    ses_id = hashlib.sha256(b"%d" % number + data).hexdigest()
    name = base_name(
        datetime.fromtimestamp(1_700_000_000 + number, UTC), ses_id, len(data), virtual_size([data])
    )
    dovecot.store("ann", name, data)
    return name


def shown(dovecot: Dovecot, names: Mapping[str, str]) -> dict[str, tuple[int, bytes, bytes]]:
    """RFC822.SIZE, BODY[] and BINARY[] by key of *names* (base names by key); each must be there once."""
    found: dict[str, tuple[int, bytes, bytes]] = {}
    keys = {name: key for key, name in names.items()}
    with session(dovecot.account("ann")) as client:
        client.select("INBOX", readonly=True)
        _, lines = client.uid("FETCH", "1:*", "(X-GUID RFC822.SIZE)")
        for line in lines:
            guid, size, uid = (
                re.search(rb'%s "?([^ )"]+)' % item, line) for item in (b"X-GUID", b"RFC822.SIZE", b"UID")
            )
            assert guid and size and uid
            key = keys.get(guid[1].decode())
            if key is None:
                continue
            assert key not in found
            _, body = client.uid("FETCH", uid[1].decode(), "(BODY.PEEK[])")
            _, binary = client.uid("FETCH", uid[1].decode(), "(BINARY.PEEK[])")
            found[key] = (int(size[1]), body[0][1], binary[0][1] if isinstance(binary[0], tuple) else b"")
    assert found.keys() == names.keys()
    return found


@pytest.fixture(scope="module")
def fetched(dovecot: Dovecot) -> dict[str, tuple[int, bytes, bytes]]:
    return shown(dovecot, {key: store(dovecot, data) for key, data in STORED.items()})


@pytest.mark.parametrize("name", STORED)
def test_body_and_size(fetched: dict[str, tuple[int, bytes, bytes]], name: str) -> None:
    size, body, _ = fetched[name]
    assert body == as_imap(STORED[name])
    assert size == len(body) == virtual_size([STORED[name]])


@pytest.mark.parametrize("name", STORED)
def test_binary_keeps_nul_but_not_bare_lf(fetched: dict[str, tuple[int, bytes, bytes]], name: str) -> None:
    assert fetched[name][2] == STORED[name].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def test_binary_decodes_transfer_encodings(dovecot: Dovecot) -> None:
    data = HEAD + b"Content-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n"
    _, body, binary = shown(dovecot, {"base64": store(dovecot, data)})["base64"]
    assert body == data
    assert b"hello" in binary


def test_files_keep_names_and_octets(dovecot: Dovecot, fetched: dict[str, tuple[int, bytes, bytes]]) -> None:
    assert fetched
    # Of this module alone: other modules leave files of other names in the same Maildir.
    ours = set(STORED.values())
    here = {
        path.name.partition(":")[0]: path
        for part in ("new", "cur")
        for path in (dovecot.maildir("ann") / part).iterdir()
        if path.read_bytes() in ours
    }
    assert {path.read_bytes() for path in here.values()} == ours
    assert all(f",S={path.stat().st_size},W=" in name for name, path in here.items())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(OCTETS, min_size=1, max_size=12))
def test_any_octets(dovecot: Dovecot, messages: list[bytes]) -> None:
    found = shown(dovecot, {str(number): store(dovecot, data) for number, data in enumerate(messages)})
    for number, data in enumerate(messages):
        size, body, _ = found[str(number)]
        assert body == as_imap(data)
        assert size == len(body)
