"""Access keys are replaced without a moment in which none works, whatever is killed when."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.golden.test_client_profile import CONFIG
from twinmail.deploy import access_key, credentials
from twinmail.deploy.access_key import NoKey
from twinmail.secret_store import SecretStore


class Killed(BaseException):
    """The process ends here."""


class Dying:
    """IAM, or a store, that ends the process before or after its *count*-th change."""

    def __init__(self, real: Any, changes: tuple[str, ...], count: int, after: bool) -> None:
        self._real, self._changes, self._count, self._after = real, changes, count, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if name not in self._changes:
            return method

        def run(*arguments: Any, **named: Any) -> Any:
            self._count -= 1
            if self._count == 0 and not self._after:
                raise Killed
            answer = method(*arguments, **named)
            if self._count == 0:
                raise Killed
            return answer

        return run


@pytest.fixture
def iam() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("iam", region_name="eu-central-1")
        for one in credentials.every(CONFIG):
            client.create_user(UserName=one.user)
        yield client


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    return SecretStore(tmp_path / "secrets")


def keys(iam: Any, user: str) -> set[str]:
    return {one["AccessKeyId"] for one in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]}


def working(iam: Any, store: SecretStore, owner: credentials.Needed) -> str:
    """The id of the key in *store*, which must be one of its user's."""
    found = access_key._id(store.get(owner.secret))
    assert found in keys(iam, owner.user)
    return found


@pytest.mark.parametrize("what", ["smtp", "syncer"])
def test_two_steps_with_both_keys_in_between(iam: Any, store: SecretStore, what: str) -> None:
    for owner in access_key.owners(CONFIG, what):
        credentials.make(iam, owner, store)
        old = working(iam, store, owner)
        assert access_key.begin(iam, store, owner)
        new = working(iam, store, owner)
        assert new != old and keys(iam, owner.user) == {old, new}
        assert not access_key.begin(iam, store, owner)
        assert working(iam, store, owner) == new
        assert access_key.finish(iam, store, owner) == (old,)
        assert keys(iam, owner.user) == {new}
        assert access_key.finish(iam, store, owner) == ()
        assert list(store.names()) == [owner.secret] or what == "syncer"
        # And the next time.
        assert access_key.begin(iam, store, owner)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("count", range(1, 6))
def test_killed_anywhere_and_done_again(iam: Any, store: SecretStore, count: int, after: bool) -> None:
    owner = access_key.owners(CONFIG, "smtp")[0]
    credentials.make(iam, owner, store)
    old = working(iam, store, owner)
    dying_iam = Dying(iam, ("create_access_key", "delete_access_key"), count, after)
    dying_store: Any = Dying(store, ("put", "remove"), count, after)
    for pair in ((dying_iam, store), (iam, dying_store)):
        with suppress(Killed):
            access_key.begin(*pair, owner)
        # Servers that have the old key, and those that will have what is in the store, can work.
        assert old in keys(iam, owner.user)
        working(iam, store, owner)
    access_key.begin(iam, store, owner)
    new = working(iam, store, owner)
    assert new != old and keys(iam, owner.user) == {old, new}
    for pair in (
        (Dying(iam, ("delete_access_key",), count, after), store),
        (iam, Dying(store, ("remove",), count, after)),
    ):
        with suppress(Killed):
            access_key.finish(*pair, owner)
        assert working(iam, store, owner) == new
    access_key.finish(iam, store, owner)
    assert keys(iam, owner.user) == {new}
    assert list(store.names()) == [owner.secret]


def test_a_key_that_is_not_the_users_is_not_replaced(iam: Any, store: SecretStore) -> None:
    owner = access_key.owners(CONFIG, "smtp")[0]
    with pytest.raises(NoKey) as caught:
        access_key.begin(iam, store, owner)
    assert str(caught.value) == (
        f"secret smtp/webmail: expected a key of {owner.user}; make one: ./inv deploy cloud"
    )
    with pytest.raises(NoKey):
        access_key.finish(iam, store, replace(owner, secret="smtp/other"))
