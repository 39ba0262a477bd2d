"""A message is the same message from every source: mboxes of both kinds, Maildir, .eml, IMAP, zip."""

import io
import re
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from twinmail.importing import mbox
from twinmail.importing.canonical import (
    PREFIX,
    canonical,
    content_digest,
    identity,
    with_smtp_lines,
    without_bookkeeping,
)
from twinmail.importing.source import Mail
from twinmail.layout import checked_ses_id

LIMIT = 1 << 20
NOW = datetime(2026, 11, 23, tzinfo=UTC)
LINE = b"From ann@example.com Fri Feb 13 23:31:30 2009\n"
MESSAGES = Path(__file__).parents[1] / "messages"

words = st.text("abcäß<> :;=.,-0\t", max_size=20).map(lambda text: text.encode())
lines = st.one_of(
    words, st.sampled_from([b"", b"From here", b">From there", b">>From", b">>From x", b"From", b" From me"])
)
headers = st.lists(
    st.tuples(st.sampled_from([b"Subject", b"From", b"X-Odd", b"Date"]), words.map(lambda one: one.strip()))
).map(lambda fields: [b"%s: %s" % one for one in fields])
messages = st.tuples(headers, st.lists(lines, max_size=12)).map(
    lambda parts: b"\n".join([b"Message-ID: <1@example.com>", *parts[0], b"", *parts[1], b"end", b""])
)


def mboxrd(content: bytes) -> bytes:
    return LINE + re.sub(rb"^(>*From )", rb">\1", content, flags=re.MULTILINE) + b"\n"


def mboxo(content: bytes) -> bytes:
    return LINE + re.sub(rb"^From ", rb">From ", content, flags=re.MULTILINE) + b"\n"


def thunderbird(content: bytes) -> bytes:
    head, _, rest = content.partition(b"\n")
    added = b"X-Mozilla-Status: 0001\nX-Mozilla-Status2: 00000000\nX-Mozilla-Keys: $label1   \n"
    return mboxrd(added + head + b"\nX-Account-Key: account1\n" + rest).replace(b"ann@example.com", b"-")


def read(data: bytes) -> list[Mail]:
    found = list(mbox.read("x", lambda: closing(io.BytesIO(data)), LIMIT, NOW, NOW))
    assert all(isinstance(one, Mail) for one in found), found
    return [one for one in found if isinstance(one, Mail)]


@settings(deadline=None)
@given(st.lists(messages, min_size=1, max_size=4))
def test_mboxrd_gives_every_message_back(contents: list[bytes]) -> None:
    expected = [with_smtp_lines(one) for one in contents]
    for data in (b"".join(map(mboxrd, contents)), b"".join(map(thunderbird, contents))):
        for variant in (data, with_smtp_lines(data)):
            assert [one.message for one in read(variant)] == expected


@settings(deadline=None)
@given(messages)
def test_every_format_has_the_same_identity(content: bytes) -> None:
    smtp = with_smtp_lines(content)
    forms = [
        content,
        smtp,
        smtp + b"\r\n",
        content.rstrip(b"\n"),
        *(
            read(form)[0].message
            for data in (mboxrd(content), mboxo(content), thunderbird(content))
            for form in (data, with_smtp_lines(data), data.rstrip(b"\n"))
        ),
    ]
    assert len({content_digest(one) for one in forms}) == 1


@settings(deadline=None)
@given(messages, messages)
def test_other_messages_have_another_identity(one: bytes, other: bytes) -> None:
    plain = re.compile(rb"^>+From ", re.MULTILINE)
    if plain.sub(b"From ", one).rstrip(b"\n") != plain.sub(b"From ", other).rstrip(b"\n"):
        assert content_digest(one) != content_digest(other)


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_octets_have_one_canonical_form(content: bytes) -> None:
    assert canonical(with_smtp_lines(content)) == canonical(content)
    assert with_smtp_lines(with_smtp_lines(content)) == with_smtp_lines(content)


def test_every_message_of_the_corpus_keeps_its_octets() -> None:
    for path in sorted(MESSAGES.glob("*.eml")):
        content = path.read_bytes()
        assert without_bookkeeping(content) == content, path.name


def test_identity_is_of_a_mailbox_and_a_folder() -> None:
    content = content_digest(b"Subject: x\n\nbody\n")
    names = {identity(one, two, content) for one in ("ann", "bob") for two in ("INBOX", "Sent")}
    assert len(names) == 4
    assert all(checked_ses_id(one).startswith(PREFIX) for one in names)
    # For ever: what was imported must be known again by later versions.
    assert identity("ann", "INBOX", content) == "import-1cb53e6241c4590b3e42c4312760af96fc980e1a"


def test_nul_is_what_dovecot_shows_of_it() -> None:
    assert content_digest(b"a\0b") == content_digest(b"a\x80b")
