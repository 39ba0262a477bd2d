"""The corpora are complete and come out in one order."""

from tests.corpora import messages


def test_all_three_corpora_have_messages() -> None:
    names = [name for name, _ in messages()]
    counts = {one: sum(name.startswith(f"{one}/") for name in names) for one in _EXPECTED}
    assert counts == _EXPECTED


def test_names_are_unique_and_messages_not_empty() -> None:
    found = list(messages())
    assert len({name for name, _ in found}) == len(found)
    assert all(octets for _, octets in found)


def test_order_is_stable() -> None:
    assert [name for name, _ in messages()] == [name for name, _ in messages()]


_EXPECTED = {"python3.13": 48, "libmime-tools-perl": 88, "gmime": 42}
