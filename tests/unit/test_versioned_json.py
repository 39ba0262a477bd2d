"""JSON documents that carry their version."""

import pytest

from twinmail import versioned_json


def test_reads_what_it_wrote() -> None:
    data = versioned_json.write({"version": 3, "b": "ü", "a": [1]})
    assert data == b'{"a":[1],"b":"\\u00fc","version":3}'
    assert versioned_json.read(data, 3) == {"version": 3, "b": "ü", "a": [1]}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "expected an object, got list"),
        (b"{}", "expected version 3, got None; update"),
        (b'{"version": 4}', "expected version 3, got 4; update"),
    ],
)
def test_anything_else_is_told(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        versioned_json.read(data, 3)
