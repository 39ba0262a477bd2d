"""How many octets may be in flight, by what the container's limit of memory is."""

from pathlib import Path

import pytest

from twinmail.sync.budget import fitting, memory_limit

MB = 1 << 20


@pytest.mark.parametrize(
    ("file", "text", "limit"),
    [
        ("memory.max", "268435456\n", 256 * MB),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "268435456\n", 256 * MB),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", 9223372036854771712),
    ],
)
def test_limit_is_what_the_control_group_says(
    tmp_path: Path, file: str, text: str, limit: int | None
) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert memory_limit(tmp_path) == limit


def test_nobody_says(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None


def test_half_of_the_memory_and_no_more_than_is_configured() -> None:
    assert fitting(256 * MB, None) == 256 * MB
    assert fitting(256 * MB, 256 * MB) == 128 * MB
    assert fitting(256 * MB, 640 * MB) == 256 * MB
