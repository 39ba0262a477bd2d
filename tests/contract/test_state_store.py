"""What the servers may rely on of the shared state: in memory and in LocalStack alike."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.localstack_process import REGION, LocalStackProcess
from tests.log_simulator import StateSimulator
from twinmail.sync.aws import Aws
from twinmail.sync.source import SourceUnavailable
from twinmail.sync.state_store import Conflict, S3StateStore, StateStore


@pytest.fixture(params=["memory", "localstack"])
def state(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StateStore:
    if request.param == "memory":
        return StateSimulator()
    cloud: LocalStackProcess = request.getfixturevalue("localstack")
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    name = f"state-{uuid.uuid4().hex[:12]}"
    cloud.versioned_bucket(name)
    return S3StateStore(name, Aws(REGION))


def test_what_is_not_there_is_none(state: StateStore) -> None:
    assert state.get("state/none.json") is None


def test_created_object_is_read_with_its_etag(state: StateStore) -> None:
    etag = state.create("state/a.json", b"one")
    stored = state.get("state/a.json")
    assert stored is not None
    assert (stored.data, stored.etag) == (b"one", etag)


def test_create_does_not_overwrite(state: StateStore) -> None:
    state.create("state/a.json", b"one")
    with pytest.raises(Conflict, match=r"state/a\.json"):
        state.create("state/a.json", b"two")
    stored = state.get("state/a.json")
    assert stored is not None
    assert stored.data == b"one"


def test_replace_only_the_version_that_was_read(state: StateStore) -> None:
    first = state.create("state/a.json", b"one")
    second = state.replace("state/a.json", b"two", first)
    with pytest.raises(Conflict, match="another"):
        state.replace("state/a.json", b"three", first)
    stored = state.get("state/a.json")
    assert stored is not None
    assert (stored.data, stored.etag) == (b"two", second)


def test_replace_what_is_gone(state: StateStore) -> None:
    with pytest.raises(Conflict):
        state.replace("state/none.json", b"x", '"00000000000000000000000000000000"')


def test_keys_in_order_after_one(state: StateStore) -> None:
    for key in ("state/b/2", "state/b/1", "state/a/9", "state/b/3"):
        state.create(key, b"")
    assert list(state.keys("state/b/")) == ["state/b/1", "state/b/2", "state/b/3"]
    assert list(state.keys("state/b/", after="state/b/1")) == ["state/b/2", "state/b/3"]


def test_versions_are_the_etags_that_reading_and_writing_tell(state: StateStore) -> None:
    first = state.create("state/a/1", b"one")
    second = state.replace("state/a/1", b"two", first)
    other = state.create("state/a/2", b"x")
    state.create("state/b/1", b"y")
    assert sorted(state.versions("state/a/")) == [("state/a/1", second), ("state/a/2", other)]


def test_of_many_creators_one_wins(state: StateStore) -> None:
    def create(number: int) -> int | None:
        try:
            state.create("state/race.json", str(number).encode())
        except Conflict:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        won = [one for one in pool.map(create, range(16)) if one is not None]
    stored = state.get("state/race.json")
    assert len(won) == 1
    assert stored is not None
    assert stored.data == str(won[0]).encode()


def test_of_many_replacers_one_wins(state: StateStore) -> None:
    etag = state.create("state/race.json", b"")

    def replace(number: int) -> int | None:
        try:
            state.replace("state/race.json", str(number).encode(), etag)
        except Conflict:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        won = [one for one in pool.map(replace, range(16)) if one is not None]
    stored = state.get("state/race.json")
    assert len(won) == 1
    assert stored is not None
    assert stored.data == str(won[0]).encode()


def test_no_bucket_is_an_outage_and_no_empty_state(
    localstack: LocalStackProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", localstack.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    gone = S3StateStore(f"gone-{uuid.uuid4().hex[:12]}", Aws(REGION))
    with pytest.raises(SourceUnavailable):
        gone.get("state/a.json")
    with pytest.raises(SourceUnavailable):
        gone.create("state/a.json", b"")
    with pytest.raises(SourceUnavailable):
        list(gone.keys("state/"))
