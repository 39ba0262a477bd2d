"""What the tasks may rely on of the place of the accounts: in memory and in LocalStack alike."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from tests.account_store_simulator import AccountStoreSimulator
from tests.localstack_process import LocalStackProcess
from twinmail import password
from twinmail.account_store import (
    AccountsChanged,
    AccountStore,
    AccountsUnavailable,
    S3AccountStore,
    update,
)
from twinmail.accounts import KEY, Accounts, AccountsError, AppPassword

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
DIGEST = password.digest("correct horse")
ANN = Accounts().added("ann", DIGEST, ["ann@example.org"], NOW)


def bucket(cloud: LocalStackProcess) -> str:
    name = f"accounts-{uuid.uuid4().hex[:12]}"
    return cloud.versioned_bucket(name)


@pytest.fixture(params=["memory", "localstack"])
def store(request: pytest.FixtureRequest) -> AccountStore:
    if request.param == "memory":
        return AccountStoreSimulator()
    cloud: LocalStackProcess = request.getfixturevalue("localstack")
    return S3AccountStore(cloud.client("s3"), bucket(cloud))


def test_before_the_first_write_there_is_nobody(store: AccountStore) -> None:
    version = store.read()
    assert (version.accounts, version.etag) == (Accounts(), None)


def test_what_was_written_is_read(store: AccountStore) -> None:
    store.write(ANN, None)
    version = store.read()
    assert version.accounts == ANN
    assert version.etag is not None


def test_first_write_only_where_there_is_nothing(store: AccountStore) -> None:
    store.write(ANN, None)
    with pytest.raises(AccountsChanged):
        store.write(Accounts(), None)
    assert store.read().accounts == ANN


def test_later_write_only_over_what_was_read(store: AccountStore) -> None:
    store.write(ANN, None)
    old = store.read().etag
    store.write(ANN.added("bob", DIGEST, [], NOW), old)
    with pytest.raises(AccountsChanged):
        store.write(Accounts(), old)
    assert set(store.read().accounts.users) == {"ann", "bob"}


def test_many_writers_at_once_lose_nothing(store: AccountStore) -> None:
    """Eight users each get an account and an app password, all at the same time."""

    def work(number: int) -> None:
        name = f"u{number}"
        update(store, lambda there: there.added(name, DIGEST, [f"{name}@example.org"], NOW))
        app = AppPassword("phone", "abcde", DIGEST, NOW)
        update(store, lambda there: there.with_app_password(name, app))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    users = store.read().accounts.users
    assert set(users) == {f"u{number}" for number in range(8)}
    assert all(len(one.app_passwords) == 1 for one in users.values())


def test_damaged_document_is_named_and_stays(localstack: LocalStackProcess) -> None:
    s3, name = localstack.client("s3"), bucket(localstack)
    s3.put_object(Bucket=name, Key=KEY, Body=b'{"version": 1, "us')
    with pytest.raises(AccountsError, match="not JSON"):
        update(S3AccountStore(s3, name), lambda there: there)
    assert s3.get_object(Bucket=name, Key=KEY)["Body"].read() == b'{"version": 1, "us'


def test_no_bucket_is_unavailable_and_not_nobody(localstack: LocalStackProcess) -> None:
    store = S3AccountStore(localstack.client("s3"), f"gone-{uuid.uuid4().hex[:12]}")
    with pytest.raises(AccountsUnavailable, match="gone-"):
        store.read()
    with pytest.raises(AccountsUnavailable, match="gone-"):
        store.write(ANN, None)


def test_removed_meanwhile_is_read_again(localstack: LocalStackProcess) -> None:
    s3, name = localstack.client("s3"), bucket(localstack)
    store = S3AccountStore(s3, name)
    store.write(ANN, None)
    old = store.read().etag
    s3.delete_object(Bucket=name, Key=KEY)
    with pytest.raises(AccountsChanged):
        store.write(ANN, old)
