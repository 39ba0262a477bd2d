"""The accounts of the local system, and the passwords that it keeps."""

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.account_store_simulator import AccountStoreSimulator
from twinmail import password
from twinmail.account_store import update
from twinmail.config import Config
from twinmail.local import accounts
from twinmail.local.state import State

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def config(*names: str) -> Config:
    boxes = "\n".join(f'[mailboxes.{one}]\naddresses = ["{one}@example.org"]' for one in names)
    return Config.parse(
        'region = "eu-central-1"\nstack = "twinmail"\nbucket = "example-mail"\ndomains = ["example.org"]\n'
        f'{boxes}\n[servers.primary]\nplatform = "linux/amd64"\nhost = "primary.example.org"\n'
    )


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(root=tmp_path, images=tmp_path, layers=tmp_path)


@pytest.fixture
def store() -> AccountStoreSimulator:
    return AccountStoreSimulator()


def test_every_mailbox_gets_an_account_once(state: State, store: AccountStoreSimulator) -> None:
    accounts.publish(state, config("rene", "anna"), store)
    first, document = accounts.passwords(state), store.data
    accounts.publish(state, config("rene", "anna"), store)
    assert accounts.passwords(state) == first
    assert store.data == document
    for name, secret in first.items():
        user = store.read().accounts.user(name)
        assert password.verify(user.digest, secret)
        assert user.logins == (f"{name}@example.org",)


def test_passwords_are_the_owners_alone(state: State, store: AccountStoreSimulator) -> None:
    accounts.publish(state, config("rene"), store)
    path = state.root / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(json.loads(path.read_text())["rene"]) == {"password", "digest"}
    assert accounts.passwords(state)["rene"] not in repr(accounts.demo_user(state, config("rene")))


def test_account_that_somebody_made_keeps_its_password(state: State, store: AccountStoreSimulator) -> None:
    digest = password.digest("chosen")
    update(store, lambda there: there.added("rene", digest, [], NOW))
    accounts.publish(state, config("rene", "anna"), store)
    assert store.read().accounts.user("rene").digest == digest
    assert set(accounts.passwords(state)) == {"anna"}
    assert accounts.demo_user(state, config("rene", "anna")).name == "anna"


def test_password_that_was_changed_elsewhere_is_forgotten(state: State, store: AccountStoreSimulator) -> None:
    accounts.publish(state, config("rene", "anna"), store)
    update(store, lambda there: there.with_password("rene", password.digest("chosen"), NOW))
    accounts.publish(state, config("rene", "anna"), store)
    assert set(accounts.passwords(state)) == {"anna"}


def test_a_cloud_that_was_emptied_gets_the_same_passwords(state: State, store: AccountStoreSimulator) -> None:
    accounts.publish(state, config("rene"), store)
    accounts.remember(state, accounts.Login.of("rene", "chosen"))
    store.data = None
    accounts.publish(state, config("rene"), store)
    assert password.verify(store.read().accounts.user("rene").digest, "chosen")


def test_forgotten(state: State, store: AccountStoreSimulator) -> None:
    accounts.publish(state, config("rene", "anna"), store)
    accounts.forget(state, "rene")
    accounts.forget(state, "rene")
    assert set(accounts.passwords(state)) == {"anna"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"rene": {}}',
        '{"rene": 1}',
        '{"../x": {"password": "p", "digest": "x"}}',
        '{"rene": {"password": "p", "digest": "x\\nroot"}}',
    ],
)
def test_damaged_passwords(state: State, store: AccountStoreSimulator, text: str) -> None:
    (state.root / "credentials.json").write_text(text)
    with pytest.raises(
        accounts.CredentialsError, match=r"credentials\.json: expected .*remove the file to get new ones"
    ):
        accounts.publish(state, config("rene"), store)


def test_demo_user_has_an_address_of_its_own(state: State, store: AccountStoreSimulator) -> None:
    both = Config.parse(
        'region = "eu-central-1"\nstack = "twinmail"\nbucket = "example-mail"\ndomains = ["example.org"]\n'
        '[mailboxes.all]\naddresses = ["*@example.org"]\n[mailboxes.rene]\naddresses = ["rene@example.org"]\n'
        '[servers.primary]\nplatform = "linux/amd64"\nhost = "primary.example.org"\n'
    )
    accounts.publish(state, both, store)
    assert accounts.demo_user(state, both).name == "rene"
