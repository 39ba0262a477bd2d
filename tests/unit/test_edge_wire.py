"""The octets between DATA and the final dot, whatever the sizes of the pieces they come in."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmail_localstack.edge.wire import DataDecoder

# Everything that could be taken for the end of a message, or for a dot to be removed.
contents = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"\r\n", b".", b"..", b"\0", b"x", b"\xff", b"\r\n.\r", b"\n.\n", b"\r.\r"]
    )
).map(b"".join)


def encoded(content: bytes) -> bytes:
    """RFC 5321, 4.5.2, line by line; *content* must end with CRLF or be empty."""
    lines = content.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines) + b".\r\n"


def decoded(stream: bytes, cuts: list[int], limit: int = 1 << 20) -> DataDecoder:
    decoder = DataDecoder(limit)
    bounds = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for start, end in pairwise(bounds):
        if decoder.done:
            decoder.rest += stream[start:end]
        else:
            decoder.feed(stream[start:end])
    return decoder


@given(
    contents,
    st.lists(st.integers(0, 1000), max_size=20),
    st.sampled_from([b"", b"QUIT\r\n", b".\r\n", b"\r\n.\r\n"]),
)
def test_content_survives_and_what_follows_stays(content: bytes, cuts: list[int], following: bytes) -> None:
    if content:
        content += b"\r\n"
    decoder = decoded(encoded(content) + following, cuts)
    assert decoder.done
    assert decoder.content == content
    assert decoder.size == len(content)
    assert decoder.rest == following


@given(contents, st.lists(st.integers(0, 1000), max_size=20), st.integers(0, 20))
def test_beyond_the_limit_nothing_is_held(content: bytes, cuts: list[int], limit: int) -> None:
    content += b"\r\n"
    decoder = decoded(encoded(content), cuts, limit)
    assert decoder.done
    assert decoder.size == len(content)
    assert decoder.too_large == (len(content) > limit)
    assert decoder.content == (b"" if decoder.too_large else content)


@pytest.mark.parametrize(
    "ending", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n. \r\n"]
)
def test_only_crlf_dot_crlf_ends_a_message(ending: bytes) -> None:
    decoder = DataDecoder(100)
    assert not decoder.feed(b"a" + ending + b"b")
    assert decoder.feed(b"\r\n.\r\n")


def test_a_message_may_be_empty() -> None:
    decoder = DataDecoder(100)
    assert decoder.feed(b".\r\n")
    assert decoder.content == b""
