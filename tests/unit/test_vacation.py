"""What an answer and a redirected message look like, and when there is none."""

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmail.header_fields import body, fields, join
from twinmail.outgoing import MESSAGE_BYTES
from twinmail.redirect import redirected
from twinmail.vacation import Answer, Silence, answer

OWN = {"ann@example.org", "ann@example.net"}
VERDICTS = "dkim=PASS dmarc=PASS spam=PASS spf=PASS virus=PASS"
WRITTEN = (
    b"X-Sieve: Pigeonhole Sieve 2.4.1\r\nMessage-ID: <dovecot-sieve-1@host>\r\n"
    b"Date: Mon, 23 Nov 2026 06:00:00 +0000\r\nFrom: <ann@example.org>\r\nTo: Bob <bob@example.com>\r\n"
    b"Subject: Auto: hello\r\nIn-Reply-To: <m1@example.com>\r\nReferences: <m0@example.com> <m1@example.com>\r\n"
    b"Auto-Submitted: auto-replied (vacation)\r\nPrecedence: bulk\r\nX-Auto-Response-Suppress: All\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"I am away until M\xc3\xa4rz.\r\n"
)


def own(address: str) -> bool:
    return address.lower() in OWN


def original(*extra: str, verdicts: str = VERDICTS) -> bytes:
    lines = [
        f"X-Twinmail-Verdicts: {verdicts}",
        "Return-Path: <bob@example.com>",
        "From: Bob <bob@example.com>",
        "To: ann@example.org",
        "Subject: hello",
        "Message-ID: <m1@example.com>",
        *extra,
    ]
    return "\r\n".join([*lines, "", "body\r\n"]).encode()


def told(result: Answer | Silence) -> email.message.EmailMessage:
    assert isinstance(result, Answer)
    parsed = email.message_from_bytes(result.data, policy=email.policy.default)
    assert isinstance(parsed, email.message.EmailMessage)
    return parsed


def vacation(
    source: bytes = original(), written: bytes = WRITTEN, to: str = "bob@example.com"
) -> Answer | Silence:
    return answer(written, to, source, own, "ann@example.org")


def test_answer_is_what_rfc_3834_wants() -> None:
    result = vacation()
    message = told(result)
    assert isinstance(result, Answer)
    assert (result.source, result.to) == ("ann@example.org", "bob@example.com")
    assert message["From"] == "ann@example.org"
    assert message["To"] == "Bob <bob@example.com>"
    assert message["Subject"] == "Auto: hello"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Precedence"] == "bulk"
    assert message["In-Reply-To"] == "<m1@example.com>"
    assert message["References"] == "<m0@example.com> <m1@example.com>"
    assert message["X-Sieve"] is None and message["Message-ID"] is None
    assert message.get_content() == "I am away until März.\r\n"
    for name in ("From", "Auto-Submitted", "Precedence", "In-Reply-To"):
        assert len(message.get_all(name, [])) == 1


def test_answer_is_ascii_whatever_its_text() -> None:
    result = vacation()
    assert isinstance(result, Answer)
    assert result.data.isascii()
    assert told(result)["Content-Transfer-Encoding"] == "base64"
    plain = vacation(written=WRITTEN.replace(b"M\xc3\xa4rz", b"March"))
    assert isinstance(plain, Answer)
    assert b"\r\n\r\nI am away until March.\r\n" in plain.data


def test_thread_where_pigeonhole_wrote_none() -> None:
    written = b"\r\n".join(
        line for line in WRITTEN.split(b"\r\n") if not line.startswith((b"In-Reply-To", b"References"))
    )
    message = told(vacation(written=written))
    assert message["In-Reply-To"] == message["References"] == "<m1@example.com>"


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("Ann Example <ann@example.net>", "ann@example.net"),
        ("boss@example.com", "ann@example.org"),
        ('"ann@example.org" <ceo@bank.example>', "ann@example.org"),
        ("postmaster", "ann@example.org"),
    ],
)
def test_answer_is_from_an_address_of_the_user_alone(written: str, source: str) -> None:
    result = vacation(written=WRITTEN.replace(b"<ann@example.org>", written.encode()))
    assert isinstance(result, Answer)
    assert result.source == source
    assert told(result)["From"].addresses[0].addr_spec == source


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("List-Id: <list.example.com>", "list-id"),
        ("List-Unsubscribe: <mailto:x@example.com>", "list-unsubscribe"),
        ("Precedence: bulk", "precedence"),
        ("precedence : LIST", "precedence"),
        ("Precedence: junk", "precedence"),
        ("Auto-Submitted: auto-generated", "auto-submitted"),
        ("Auto-Submitted: auto-replied (vacation)", "auto-submitted"),
        ("Auto-Submitted: auto-notified; owner-email=a@example.com", "auto-submitted"),
        ("X-Auto-Response-Suppress: DR, OOF", "wants no automatic answer"),
        ("X-Auto-Response-Suppress: All", "wants no automatic answer"),
        ("Content-Type: multipart/report; report-type=delivery-status", "report"),
        ("Return-Path:\r\n <>", "bounce"),
    ],
)
def test_machines_and_lists_get_no_answer(field: str, reason: str) -> None:
    result = vacation(original(field))
    assert isinstance(result, Silence)
    assert reason in result.reason


@pytest.mark.parametrize(
    "field", ["Auto-Submitted: no", "Auto-Submitted: No (really)", "Precedence: normal", "X-List-Id: none"]
)
def test_people_get_one(field: str) -> None:
    assert isinstance(vacation(original(field)), Answer)


@pytest.mark.parametrize(
    "to",
    [
        *("", "nobody", "mailer-daemon@example.com", "MAILER-DAEMON@example.com", "owner-list@example.com"),
        *("list-request@example.com", "list-bounces@example.com", "noreply@example.com"),
        *("no-reply+x@example.com", "postmaster@example.com", "ann@example.net", "Ann@Example.org"),
    ],
)
def test_addresses_that_get_none(to: str) -> None:
    assert isinstance(vacation(to=to), Silence)


@pytest.mark.parametrize("name", ["spam", "virus", "dmarc"])
def test_what_ses_suspects_gets_none(name: str) -> None:
    result = vacation(original(verdicts=VERDICTS.replace(f"{name}=PASS", f"{name}=FAIL")))
    assert result == Silence(f"the {name} verdict is FAIL")


def test_verdicts_that_the_sender_wrote_do_not_count() -> None:
    forged = original("X-Twinmail-Verdicts: spam=PASS", verdicts=VERDICTS.replace("spam=PASS", "spam=FAIL"))
    assert isinstance(vacation(forged), Silence)
    assert isinstance(vacation(original("X-Twinmail-Verdicts: spam=FAIL")), Answer)


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_any_octets_give_an_answer_or_none(written: bytes, source: bytes) -> None:
    result = vacation(source, written)
    if isinstance(result, Answer):
        assert result.source in OWN
        assert [one.text for one in fields(result.data) if one.name == "auto-submitted"] == ["auto-replied"]


def redirect(source: bytes = original(), to: str = "away@example.com") -> Answer | Silence:
    return redirected(source, to, own, "ann@example.org")


def test_redirected_message_is_from_the_user_and_answers_go_to_its_sender() -> None:
    result = redirect(original("DKIM-Signature: v=1; a=x", "Cc: carol@example.com", "X-SES-RECEIPT: x"))
    message = told(result)
    assert isinstance(result, Answer)
    assert (result.source, result.to) == ("ann@example.org", "away@example.com")
    assert message["From"].addresses[0].addr_spec == "ann@example.org"
    assert "Bob" in message["From"].addresses[0].display_name
    assert message["Reply-To"] == "Bob <bob@example.com>"
    assert message["To"] == "ann@example.org"
    assert message["Cc"] == "carol@example.com"
    assert message["X-Twinmail-Redirected"] == "ann@example.org"
    for name in ("DKIM-Signature", "Return-Path", "X-SES-RECEIPT", "Message-ID", "X-Twinmail-Verdicts"):
        assert message[name] is None, name
    assert message.get_payload() == "body\r\n"


def test_reply_to_of_the_sender_is_kept() -> None:
    assert told(redirect(original("Reply-To: list@example.com")))["Reply-To"] == "list@example.com"


def test_name_of_the_sender_may_hold_anything() -> None:
    source = original().replace(b"From: Bob", b"From: =?utf-8?Q?J=C3=B6rg_=22=3C=0A?=")
    message = told(redirect(source))
    assert message["From"].addresses[0].addr_spec == "ann@example.org"


def test_message_that_comes_back_is_not_redirected_again() -> None:
    first = redirect()
    assert isinstance(first, Answer)
    assert redirect(first.data) == Silence("it was redirected here before")


def test_too_many_hops() -> None:
    hops = [f"X-Twinmail-Redirected: u{number}@example.com" for number in range(4)]
    assert isinstance(redirect(original(*hops)), Silence)
    assert isinstance(redirect(original(*hops[:3])), Answer)


@pytest.mark.parametrize("name", ["spam", "virus"])
def test_spam_is_not_redirected(name: str) -> None:
    assert isinstance(redirect(original(verdicts=f"{name}=FAIL")), Silence)


def test_too_large_to_redirect() -> None:
    assert isinstance(redirect(original() + b"x" * MESSAGE_BYTES), Silence)


@given(st.binary(max_size=600))
def test_any_octets_are_redirected_from_the_user(source: bytes) -> None:
    result = redirect(source)
    if isinstance(result, Answer):
        assert [one.name for one in fields(result.data)].count("from") == 1
        assert result.data.endswith(body(source))


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_fields_and_body_of_both_line_ends(end: bytes) -> None:
    message = end.join([b"A: one", b"B: two", b"\tmore", b"no field", b"", b"body", b""])
    assert [(one.name, one.text) for one in fields(message)] == [("a", "one"), ("b", "two more")]
    assert body(message) == b"body" + end
    assert join(fields(message), b"x") == b"A: one\r\nB: two\r\n\tmore\r\n\r\nx"


@pytest.mark.parametrize(
    ("message", "rest"), [(b"", b""), (b"\r\nbody", b"body"), (b"A: 1\r\n", b""), (b"A: 1\r\n\r\n", b"")]
)
def test_body_of_odd_messages(message: bytes, rest: bytes) -> None:
    assert body(message) in (rest, b"\r\n")
