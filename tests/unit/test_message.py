"""What the index learns from messages, however they are made: the corpus of tests/messages, one by one."""

from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from twinmail.message import HEADER_BYTES, SCAN_BYTES, Metadata, header_block, read_metadata

FOLDER = Path(__file__).parents[1] / "messages"
NAMES = sorted(path.stem for path in FOLDER.glob("*.eml"))


def read(name: str) -> Metadata:
    return read_metadata((FOLDER / f"{name}.eml").read_bytes())


def texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [text for one in value for text in texts(one)]


def assert_bounded(metadata: Metadata) -> None:
    """What JSON, DynamoDB and a terminal can take, in less than half of an item's 400 KB."""
    octets = 0
    for text in texts(astuple(metadata)):
        octets += len(text.encode("utf-8"))
        assert not [one for one in text if ord(one) < 32 or 127 <= ord(one) < 160], repr(text)
    assert octets < 200_000


def test_corpus_is_there() -> None:
    assert len(NAMES) >= 50


@pytest.mark.parametrize("name", NAMES)
def test_message_is_read_within_bounds(name: str) -> None:
    assert_bounded(read(name))


SUBJECTS = {
    "plain": "plain",
    "bare-lf-everywhere": "only LF",
    "bare-cr": "bare X-Hidden: cr",
    "two-thousand-headers": "after 2,000 headers",
    "no-headers": "",
    "no-headers-no-blank-line": "",
    "headers-only": "headers only",
    "empty": "",
    "utf8-headers": "Grüße 🎉 日本語",
    "encoded-words": "Grüße aus Köln",
    "encoded-word-splits-a-character": "🎉 party",
    "encoded-word-iso-2022-jp": "日本語の件名",
    "repeated-fields": "first",
    "field-without-colon": "after it",
    "space-before-colon": "odd",
    "folded-subject": "one two three four",
    "begins-with-continuation": "continuation first",
    "mbox-from-line": "out of an mbox",
    "cr-in-address": "CR in an address",
    "many-recipients": "3,000 recipients",
    "deep-nesting": "300 levels",
    "bounce": "Delivery Status Notification (Failure)",
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_subject_is_what_a_person_reads(name: str) -> None:
    metadata = read(name)
    assert metadata.subject == SUBJECTS[name] and metadata.unparsed == ()


RAW = {
    "latin1-headers": ("Grüße aus Köln", ("from", "subject")),
    "encoded-word-unknown-charset": ("=?x-klingon?Q?nuqneH?= and more", ("subject",)),
    "encoded-word-bad-base64": ("=?utf-8?B?abcde?= rest", ("subject",)),
    "encoded-word-codec-that-is-no-charset": (
        "=?zlib?B?eJwDAAAAAAE=?= =?rot13?Q?uryyb?= =?undefined?q?x?=",
        ("subject",),
    ),
    "encoded-word-lone-surrogate": ("? lone", ("subject",)),
    "nul": "nul \N{REPLACEMENT CHARACTER} in the subject",
    "terminal-escape-in-subject": "\N{REPLACEMENT CHARACTER}]0;owned"
    "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[2J visible",
}


@pytest.mark.parametrize("name", RAW)
def test_what_cannot_be_read_is_kept_and_flagged(name: str) -> None:
    expected = RAW[name]
    subject, unparsed = (expected, ("subject",)) if isinstance(expected, str) else expected
    metadata = read(name)
    assert (metadata.subject, metadata.unparsed) == (subject, unparsed)


ATTACHMENTS = {
    "attachments": ("report.pdf", "picture.png"),
    "attachment-rfc2231": ("Übersicht 2026.pdf",),
    "attachment-encoded-word": ("Übersicht.pdf",),
    "attachment-utf8-name": ("Übersicht.pdf",),
    "attachment-unterminated-quote": ("never closed.pdf",),
    "deep-nesting": ("deepest.txt",),
    "invitation": ("invite.ics",),
    "pgp-encrypted": ("encrypted.asc",),
    "boundary-never-closed": (),
    "newsletter": (),
}


@pytest.mark.parametrize("name", ATTACHMENTS)
def test_attachments_are_named(name: str) -> None:
    assert read(name).attachments == ATTACHMENTS[name]


def test_name_in_the_text_is_no_attachment() -> None:
    text = b'Subject: x\r\n\r\nContent-Disposition: attachment; filename="quoted.pdf"\r\n'
    assert read_metadata(text).attachments == ()


def test_first_of_repeated_fields_counts() -> None:
    metadata = read("repeated-fields")
    assert metadata.sender == "Ann <ann@example.com>" and metadata.message_id == "<first@example.com>"


def test_message_id_that_is_none_is_kept_as_it_is() -> None:
    assert read_metadata(b"Message-ID: no brackets\n\n").message_id == "no brackets"
    assert read("odd-message-id").message_id == '<[v="@]>'


def test_nearest_references_are_kept() -> None:
    references = read("long-references").references
    assert len(references) == 100 and references[-1] == "<parent@example.com>"
    assert "<ref299@example.com>" in references and "<ref000@example.com>" not in references


def test_limit_that_cuts_a_character_is_no_damage() -> None:
    metadata = read_metadata(b"Subject: " + "ä".encode() * 50_000 + b"\r\n\r\n")
    assert set(metadata.subject) == {"ä"} and metadata.unparsed == ()
    odd = read_metadata(b"Subject: x" + "ä".encode() * 50_000 + b"\r\n\r\n")
    assert set(odd.subject) == {"x", "ä"} and odd.unparsed == ()


def test_header_without_an_end_is_flagged() -> None:
    endless = b"Subject: x\n" + b"X-More: y\n" * HEADER_BYTES
    metadata = read_metadata(endless)
    assert metadata.subject == "x" and metadata.unparsed == ("header",)
    assert len(header_block(endless)) == HEADER_BYTES


def test_nothing_past_the_scan_is_looked_at() -> None:
    late = b"--b\nContent-Disposition: attachment; filename=late.pdf\n\n"
    assert read_metadata(b"Subject: x\n\n" + late).attachments == ("late.pdf",)
    assert read_metadata(b"Subject: x\n\n" + b"x\n" * (SCAN_BYTES // 2) + late).attachments == ()


def test_header_ends_at_the_blank_line() -> None:
    assert read_metadata(b"Subject: a\r\n\r\nFrom: body@example.com\r\n").sender == ""
    assert read_metadata(b"\nFrom: body@example.com\n").sender == ""
