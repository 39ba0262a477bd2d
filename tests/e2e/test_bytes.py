"""The bytes that come out are the bytes that went in, however malformed."""

import random
from collections.abc import Iterator

import pytest

from tests.corpora import messages as corpus_messages
from tests.e2e.conftest import SERVERS, Running
from tests.e2e.mail import Accepted, stored
from tests.wire import as_imap

HEAD = b"From: a@example.com\r\nTo: ann@example.org\r\nSubject: bytes\r\n"


def large(size: int) -> bytes:
    """A message of about *size* octets with a Base64-looking attachment."""
    line = b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0NTY3\r\n"
    return HEAD + b"Content-Transfer-Encoding: base64\r\n\r\n" + line * (size // len(line))


MESSAGES = {
    "8-bit": HEAD + b"\r\n\xe4\xf6\xfc \xc3\xa4 \xff\xfe\r\n",
    "binary-ish": HEAD + b"\r\n" + bytes(one for one in range(1, 256) if one not in (10, 13)) * 20 + b"\r\n",
    "bare LF": HEAD + b"\r\none\ntwo\nthree\r\nfour\n\r\n",
    "bare LF in the header": b"From: a@example.com\nSubject: bare\n\nbody\n\r\n",
    "bare CR": HEAD + b"\r\none\rtwo\r\rthree\r\n",
    "NUL": HEAD + b"\r\nnul \0 here and \0\0 here\r\n",
    "long lines": HEAD + b"\r\n" + b"x" * 998 + b"\r\n" + b"y" * 5000 + b"\r\n" + b"z" * 100_000 + b"\r\n",
    "2,000 headers": HEAD
    + b"".join(b"X-Header-%d: value\r\n" % one for one in range(2000))
    + b"\r\nbody\r\n",
    "no headers": b"\r\njust a body\r\n",
    "no headers and no blank line": b"this is not a header line at all\r\n",
    "empty body": HEAD + b"\r\n",
    "headers only": HEAD,
    "UTF-8 headers": "From: Jürgen <j@example.com>\r\nSubject: Grüße 🎉\r\n\r\nText\r\n".encode(),
    "broken MIME": HEAD
    + b'Content-Type: multipart/mixed; boundary="a\r\nMIME-Version: 1.0\r\n\r\n--a\r\n--a--\r\n--b\r\n',
    "dots": HEAD + b"\r\n.\r\n..\r\n.leading\r\n",
    "empty": b"\r\n",
    "38 MB attachment": large(38 * 1024 * 1024),
}


def assert_same_bytes(running: Running, user: str, accepted: Accepted) -> None:
    """On both servers the file ends with exactly the bytes sent, and IMAP shows that file."""
    for server in SERVERS:
        with running.client(server, user) as client:
            (uid,) = client.wait_for([accepted])[accepted.ses_id]
            shown = client.fetch(uid)
        (path,) = stored(running.state.maildirs(server), user, accepted)
        on_disk = path.read_bytes()
        assert on_disk.endswith(accepted.data)
        assert shown == as_imap(on_disk)
        assert shown.endswith(as_imap(accepted.data))


@pytest.mark.parametrize("name", MESSAGES)
def test_bytes_are_kept(running: Running, name: str) -> None:
    assert_same_bytes(running, "ann", running.sender.send(MESSAGES[name], ["ann@example.org"]))


def test_random_bytes_are_kept(running: Running) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    source = random.Random(seed)
    alphabet = [b"\r\n", b"\n", b"\r", b".", b"\0", b"a: b", b"\xff", b" ", b"--x", b"=?utf-8?q?=00?="]
    for _ in range(10):
        data = b"".join(source.choices(alphabet, k=source.randrange(1, 200))) + b"\r\n"
        assert_same_bytes(running, "bob", running.sender.send(data, ["bob@example.org"]))


def batches(messages: list[bytes], size: int) -> Iterator[list[bytes]]:
    for start in range(0, len(messages), size):
        yield messages[start : start + size]


def test_every_message_of_the_corpora_arrives_on_both_servers_once(running: Running) -> None:
    found = dict(corpus_messages())
    assert len(found) > 150, "the corpora are incomplete"
    # SMTP has no message that ends without a line end.
    texts = [data if data.endswith(b"\r\n") else data + b"\r\n" for data in found.values()]
    accepted: list[Accepted] = []
    for batch in batches(texts, 50):
        accepted += running.sender.send_all(batch, ["corpus@example.org"])
    for server in SERVERS:
        with running.client(server, "corpus") as client:
            uids = client.wait_for(accepted, timeout=180)
            assert all(len(one) == 1 for one in uids.values())
            assert len(client.guids()) == len(accepted)
            for one in accepted:
                (path,) = stored(running.state.maildirs(server), "corpus", one)
                on_disk = path.read_bytes()
                assert on_disk.endswith(one.data)
                assert client.fetch(uids[one.ses_id][0]) == as_imap(on_disk)
