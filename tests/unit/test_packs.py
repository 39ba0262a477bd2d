"""The compactor's contract, against moto."""

from collections.abc import Iterator

import pytest

from tests.compactor_contract import CompactorContract
from tests.log_contract import Store
from tests.moto_store import moto_store


@pytest.fixture
def store() -> Iterator[Store]:
    with moto_store() as found:
        yield found


class TestCompactor(CompactorContract):
    """The contract, with moto behind it."""
