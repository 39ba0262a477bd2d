"""Notices: whatever strangers write into a bounce, the notice is one clean message with the parts it should have."""

import email
import email.policy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cloud import CONFIG
from tests.sending_events import bounce, complaint, event, sns
from twinmail.errors import PermanentError
from twinmail.feedback import Feedback, feedback, notice
from twinmail.sending_event import read
from twinmail.sent_record import SentRecord, record

FIELDS = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Auto-Submitted",
    "MIME-Version",
    "Content-Type",
]

# Also what JSON can hold and UTF-8 cannot, and what ends lines and parts.
texts = st.text(st.characters() | st.sampled_from("\r\n\0\t<>@:;,=?-\u2028\x85"), max_size=120)
recipients = st.lists(
    st.fixed_dictionaries({"emailAddress": texts}, optional={"status": texts, "diagnosticCode": texts}),
    max_size=3,
)


@given(subject=texts, source=texts, message_id=texts, people=recipients, kinds=st.tuples(texts, texts))
@settings(max_examples=300, deadline=None)
def test_notice_is_one_clean_message(
    subject: str, source: str, message_id: str, people: list[dict[str, str]], kinds: tuple[str, str]
) -> None:
    mail: dict[str, Any] = {
        "source": source,
        "commonHeaders": {"subject": subject},
        "headers": [{"name": "Message-ID", "value": message_id}],
    }
    for document in (
        bounce(*kinds, recipients=tuple(people), **mail),
        complaint(**mail),
        event("Reject", **mail),
    ):
        found = read(sns(json.loads(json.dumps(document))))
        assert found is not None
        kept = feedback(found, ("ann",))
        octets = notice(CONFIG, found, kept)
        assert octets.isascii() and b"\0" not in octets
        assert b"\r" not in octets.replace(b"\r\n", b"") and b"\n" not in octets.replace(b"\r\n", b"")
        parsed = email.message_from_bytes(octets)
        assert parsed.keys() == FIELDS
        assert [one.get_content_maintype() for one in parsed.get_payload()] == ["text", "message", "text"]  # type: ignore[union-attr]
        assert Feedback.from_bytes(kept.to_bytes()) == kept
        assert octets == notice(CONFIG, found, kept)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["Send", "Bounce", "Complaint", "Reject", ""]), st.data())
@settings(max_examples=300, deadline=None)
def test_what_is_no_event_is_refused_in_words(kind: str, data: st.DataObject) -> None:
    document: dict[str, Any] = event(kind) if kind else {}
    path = data.draw(st.sampled_from(["mail", kind.lower(), "eventType"]))
    if path == "mail" and kind and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(document["mail"])))
        document["mail"][name] = data.draw(json_values)
    else:
        document[path] = data.draw(json_values)
    try:
        found = read(sns(document))
    except PermanentError as error:
        assert str(error).startswith("event about a sent message: ")
        return
    if found is not None:
        kept = record(CONFIG, found)
        assert SentRecord.from_bytes(kept.to_bytes()) == kept
