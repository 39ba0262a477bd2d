"""The cloud in memory keeps the contracts of the log and of the compactor."""

from collections.abc import Iterator

import pytest

from tests.cloud import CONFIG
from tests.compactor_contract import CompactorContract
from tests.log_contract import LogContract, Store
from tests.memory_cloud import MemoryS3, MemoryTable


@pytest.fixture
def store() -> Iterator[Store]:
    yield Store(CONFIG, MemoryS3(), MemoryTable())


class TestLog(LogContract):
    """The contract, with memory behind it."""


class TestCompactor(CompactorContract):
    """The contract, with memory behind it."""
