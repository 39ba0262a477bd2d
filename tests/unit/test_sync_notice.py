"""What messages of the queue say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.log_simulator import BUCKET, event
from twinmail.sync.notice import Notice, read

KEY = "manifest/2026/11/22/101112.000000Z-abc.json"


def wrapped(message: str) -> str:
    return json.dumps({"Type": "Notification", "MessageId": "1", "TopicArn": "arn", "Message": message})


def test_event_of_s3_raw_and_wrapped_by_sns() -> None:
    assert read(event(KEY), BUCKET) == read(wrapped(event(KEY)), BUCKET) == Notice((KEY,))


def test_several_records_each_once() -> None:
    assert read(event(KEY, f"{KEY}x", KEY), BUCKET).keys == (KEY, f"{KEY}x")


def test_keys_are_decoded() -> None:
    key = "manifest/2026/11/22/a b+c ä=%.json"
    assert read(event(key), BUCKET).keys == (key,)


def test_test_event_says_nothing() -> None:
    test_event = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": BUCKET})
    assert read(test_event, BUCKET) == read(wrapped(test_event), BUCKET) == Notice()


@pytest.mark.parametrize(
    ("body", "junk"),
    [
        ("", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        ("{}", "no event of S3"),
        (wrapped("hello"), "not a JSON object"),
        ('{"Records": [1]}', "not an event of S3"),
        ('{"Records": [{"eventName": 1, "s3": {"bucket": {"name": 1}, "object": {"key": 1}}}]}', "event 1"),
        (event(KEY, bucket="other"), "event of bucket 'other'"),
        (event("processed/2026/11/22/a.eml"), "processed/2026/11/22/a.eml"),
        (event(KEY).replace("ObjectCreated:Put", "ObjectRemoved:Delete"), "event 'ObjectRemoved:Delete'"),
    ],
)
def test_junk_is_named(body: str, junk: str) -> None:
    assert read(body, BUCKET) == Notice(junk=(junk,))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Records", "s3", "bucket", "object", "key", "name", "eventName", "Message", "Type"]
            ),
            inner,
        )
    ),
    max_leaves=20,
)


@given(st.text() | json_values.map(json.dumps))
def test_whatever_it_holds_it_is_read(body: str) -> None:
    assert isinstance(read(body, BUCKET), Notice)
