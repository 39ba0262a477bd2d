"""No octets in a message can make the function fail, or the index grow without bound."""

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_message import FOLDER, NAMES, assert_bounded
from twinmail.field_text import TEXT_LIMIT, decoded
from twinmail.index import items
from twinmail.manifest import Delivery, Entry
from twinmail.message import read_metadata

CORPUS = [(FOLDER / f"{name}.eml").read_bytes() for name in NAMES]

TOKENS = st.sampled_from(
    [
        *(b"\r\n", b"\n", b"\r", b"\0", b"\r\n\r\n", b" ", b"\t", b"x" * 300),
        *(b":", b";", b"=", b'"', b"\\", b"'", b"*0*=", b"%C3"),
        *(
            b"From:",
            b"Subject: ",
            b"To: ",
            b"Date:",
            b"Message-ID: <",
            b">",
            b"References:",
            b"In-Reply-To: ",
        ),
        *(b"=?utf-8?q?", b"=?utf-8?b?", b"=?utf-7?q?", b"=?idna?q?", b"=?punycode?b?", b"=?utf-16?b?", b"?="),
        *(b"//8=", b"\xff\xfe", "ä日🎉".encode(), b"+2AA-", b"\x1b$B"),
        *(b"--b\r\n", b"Content-Type: a/b; name=", b"Content-Disposition: attachment; filename"),
    ]
)
octets = st.lists(TOKENS | st.binary(max_size=8), max_size=60).map(b"".join)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A message of the corpus with a piece cut out, and something else in its place."""
    message = draw(st.sampled_from(CORPUS))
    start = draw(st.integers(0, min(len(message), 4000)))
    return message[:start] + draw(octets) + message[start + draw(st.integers(0, 200)) :]


@given(octets | mutated())
def test_metadata_is_bounded_and_the_same_each_time(message: bytes) -> None:
    metadata = read_metadata(message)
    assert_bounded(metadata)
    assert metadata == read_metadata(message)


@given(octets | mutated(), st.text(max_size=5000))
def test_item_fits_into_the_table(message: bytes, mail_from: str) -> None:
    entry = Entry(
        "abc", "k", 1, "0" * 64, datetime(2026, 1, 1, tzinfo=UTC), mail_from + "\ud800", ("a@b",) * 50, ()
    )
    for item in items(entry, (Delivery("ann"), Delivery("#unrouted")), read_metadata(message), "reason"):
        assert len(json.dumps(item, ensure_ascii=False).encode("utf-8")) < 400_000


@given(octets)
def test_field_is_one_line_within_its_limit(value: bytes) -> None:
    text = decoded(value).text
    assert len(text) <= TEXT_LIMIT and text == " ".join(text.split())


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), max_size=60))
def test_text_survives_as_utf8_and_as_encoded_words(text: str) -> None:
    from email.header import Header

    if "=?" in text:
        return
    assert decoded(text.encode()).text == text
    encoded = Header(text, "utf-8", maxlinelen=40).encode()
    assert decoded(encoded.encode("ascii")).text == text
