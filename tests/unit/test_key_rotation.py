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
from twinmail.deploy import credentials, key_rotation
from twinmail.deploy.key_rotation import NoKey, NotInUse
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
    found = key_rotation.key_id(store.get(owner.secret))
    assert found in keys(iam, owner.user)
    return found


def use(key: str) -> None:
    """Sign a request with *key*, as the server does that has it."""
    session = boto3.Session(key, "secret", region_name="eu-central-1")
    session.client("sts").get_caller_identity()


@pytest.mark.parametrize("what", ["smtp", "syncer"])
def test_two_steps_with_both_keys_in_between(iam: Any, store: SecretStore, what: str) -> None:
    for owner in key_rotation.owners(CONFIG, what):
        credentials.make(iam, owner, store)
        old = working(iam, store, owner)
        assert key_rotation.begin(iam, store, owner)
        new = working(iam, store, owner)
        assert new != old and keys(iam, owner.user) == {old, new}
        assert not key_rotation.begin(iam, store, owner)
        assert working(iam, store, owner) == new
        use(new)
        assert key_rotation.finish(iam, store, owner) == (old,)
        assert keys(iam, owner.user) == {new}
        assert key_rotation.finish(iam, store, owner) == ()
        assert list(store.names()) == [owner.secret] or what == "syncer"
        # And the next time.
        assert key_rotation.begin(iam, store, owner)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("count", range(1, 6))
def test_killed_anywhere_and_done_again(iam: Any, store: SecretStore, count: int, after: bool) -> None:
    owner = key_rotation.owners(CONFIG, "smtp")[0]
    credentials.make(iam, owner, store)
    old = working(iam, store, owner)
    dying_iam = Dying(iam, ("create_access_key", "delete_access_key"), count, after)
    dying_store: Any = Dying(store, ("put", "remove"), count, after)
    for pair in ((dying_iam, store), (iam, dying_store)):
        with suppress(Killed):
            key_rotation.begin(*pair, owner)
        # Servers that have the old key, and those that will have what is in the store, can work.
        assert old in keys(iam, owner.user)
        working(iam, store, owner)
    key_rotation.begin(iam, store, owner)
    new = working(iam, store, owner)
    assert new != old and keys(iam, owner.user) == {old, new}
    use(new)
    for pair in (
        (Dying(iam, ("delete_access_key",), count, after), store),
        (iam, Dying(store, ("remove",), count, after)),
    ):
        with suppress(Killed):
            key_rotation.finish(*pair, owner)
        assert working(iam, store, owner) == new
    key_rotation.finish(iam, store, owner)
    assert keys(iam, owner.user) == {new}
    assert list(store.names()) == [owner.secret]


def test_a_key_that_is_not_the_users_is_not_replaced(iam: Any, store: SecretStore) -> None:
    owner = key_rotation.owners(CONFIG, "smtp")[0]
    with pytest.raises(NoKey) as caught:
        key_rotation.begin(iam, store, owner)
    assert str(caught.value) == (
        f"secret smtp/webmail: expected a key of {owner.user}; make one: ./inv deploy cloud"
    )
    with pytest.raises(NoKey):
        key_rotation.finish(iam, store, replace(owner, secret="smtp/other"))


def test_the_old_key_goes_only_when_the_new_one_is_used(iam: Any, store: SecretStore) -> None:
    owner = next(one for one in key_rotation.owners(CONFIG, "syncer") if one.secret.startswith("syncer/"))
    credentials.make(iam, owner, store)
    old = working(iam, store, owner)
    key_rotation.begin(iam, store, owner)
    new = working(iam, store, owner)
    server = owner.secret.split("/")[1]
    with pytest.raises(NotInUse) as caught:
        key_rotation.finish(iam, store, owner)
    assert str(caught.value) == (
        f"secret {owner.secret}: nobody has used the new key {new} as far as IAM knows, which may be some "
        f"minutes behind; bring it to the server (deploy server {server}), or remove the old one all the same "
        "with --force"
    )
    use(new)
    # A server that was set back.
    use(old)
    with pytest.raises(NotInUse, match="the old key was used after the new one"):
        key_rotation.finish(iam, store, owner)
    assert keys(iam, owner.user) == {old, new}
    use(new)
    assert key_rotation.finish(iam, store, owner) == (old,)


def test_force_removes_it_all_the_same(iam: Any, store: SecretStore) -> None:
    owner = key_rotation.owners(CONFIG, "smtp")[0]
    credentials.make(iam, owner, store)
    old = working(iam, store, owner)
    key_rotation.begin(iam, store, owner)
    assert key_rotation.finish(iam, store, owner, force=True) == (old,)
