"""Passwords and the password file."""

import json
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmail import password_file
from twinmail.config import Config
from twinmail.local import accounts
from twinmail.local.state import State
from twinmail.password_file import PasswordFileError

USERS = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
PASSDB = password_file.digest("correct horse")


def config(*names: str) -> Config:
    boxes = "\n".join(f'[mailboxes.{one}]\naddresses = ["{one}@example.org"]' for one in names)
    return Config.parse(
        'region = "eu-central-1"\nstack = "twinmail"\nbucket = "example-mail"\ndomains = ["example.org"]\n'
        f'{boxes}\n[servers.primary]\nplatform = "linux/amd64"\nhost = "primary.example.org"\n'
    )


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(root=tmp_path, images=tmp_path, layers=tmp_path)


def test_digest_is_what_dovecot_reads() -> None:
    assert re.fullmatch(
        r"\{ARGON2ID\}\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}", PASSDB
    )


def test_digest_belongs_to_one_password() -> None:
    assert password_file.verify(PASSDB, "correct horse")
    assert not password_file.verify(PASSDB, "correct horse ")
    assert not password_file.verify("{ARGON2ID}$argon2id$nonsense", "correct horse")
    assert password_file.digest("correct horse") != PASSDB


@pytest.mark.parametrize("password", ["", "x" * 513, "a\0b"])
def test_passwords_that_cannot_be_used(password: str) -> None:
    with pytest.raises(PasswordFileError, match=r"^password: expected 1 to 512 octets without NUL, got"):
        password_file.digest(password)


def test_generated_passwords_are_strong_and_easy_to_type() -> None:
    found = {password_file.new_password() for _ in range(200)}
    assert len(found) == 200
    assert all(re.fullmatch(r"([a-hjkmnp-z2-9]{5}-){3}[a-hjkmnp-z2-9]{5}", one) for one in found)


@given(st.sets(USERS))
def test_file_reads_back(users: set[str]) -> None:
    wanted = dict.fromkeys(users, PASSDB)
    assert password_file.from_bytes(password_file.to_bytes(wanted)) == wanted


@given(st.text(max_size=80).filter(lambda name: not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name)))
def test_no_other_user_name_gets_into_the_file(name: str) -> None:
    with pytest.raises(PasswordFileError, match=r"^user name "):
        password_file.to_bytes({name: PASSDB})


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../etc", "a/b", "a:b", "a\nb", "A", "ä", "a" * 65, "rene\n"]
)
def test_user_names_that_would_leave_their_folder_or_line(name: str) -> None:
    with pytest.raises(PasswordFileError) as error:
        password_file.checked_user(name)
    assert str(error.value) == (
        f"user name {name!r}: expected 1 to 64 lower-case letters, digits, '.', '_' and '-', "
        "the first a letter or digit"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"rene:secret\n", "users: line 1: expected user:{ARGON2ID}$argon2id$…"),
        (b"rene\n", "users: line 1: expected user:{ARGON2ID}$argon2id$…"),
        (b"rene:{PLAIN}secret\n", "users: line 1: expected user:{ARGON2ID}$argon2id$…"),
        (f"a:{PASSDB}\n\nb:{PASSDB}\n".encode(), "users: line 2: expected user:{ARGON2ID}$argon2id$…"),
        (f"a:{PASSDB}\na:{PASSDB}\n".encode(), "users: line 2: user a has a line already"),
        (f"a:{PASSDB}:0:0\n".encode(), "users: line 1: expected user:{ARGON2ID}$argon2id$…"),
        (b"\xff\xfe", "users: line 1: expected user:{ARGON2ID}$argon2id$…"),
    ],
)
def test_bad_file(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "users").write_bytes(text)
    with pytest.raises(PasswordFileError) as error:
        password_file.load(tmp_path / "users")
    assert str(error.value) == message
    assert "secret" not in str(error.value)


def test_save_refuses_what_load_would(tmp_path: Path) -> None:
    path = tmp_path / "users"
    password_file.save(path, {"rene": PASSDB})
    with pytest.raises(PasswordFileError, match=r"^user anna: expected \{ARGON2ID\}"):
        password_file.save(path, {"anna": "secret"})
    assert password_file.load(path) == {"rene": PASSDB}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_file_is_no_users(tmp_path: Path) -> None:
    assert password_file.load(tmp_path / "users") == {}


def test_accounts_are_made_once(state: State) -> None:
    first = accounts.ensure(state, config("rene", "anna"))
    assert accounts.ensure(state, config("rene", "anna")) == first
    assert accounts.passwords(state) == {name: login.password for name, login in first.items()}
    for login in first.values():
        assert password_file.verify(login.passdb, login.password)
        assert login.password not in repr(login)


def test_credentials_are_the_owners_alone(state: State) -> None:
    accounts.ensure(state, config("rene"))
    path = state.root / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(json.loads(path.read_text())["rene"]) == {"password", "passdb"}


def test_new_mailbox_gets_a_password_and_a_removed_one_no_line(state: State, tmp_path: Path) -> None:
    before = accounts.ensure(state, config("rene", "anna"))
    after = accounts.ensure(state, config("rene", "carol"))
    assert after["rene"] == before["rene"]
    accounts.install(state, config("rene", "carol"), tmp_path)
    assert password_file.load(tmp_path / "users") == {name: login.passdb for name, login in after.items()}
    assert accounts.ensure(state, config("anna"))["anna"] == before["anna"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"rene": {}}',
        '{"rene": 1}',
        '{"../x": {"password": "p", "passdb": "x"}}',
        '{"rene": {"password": "p", "passdb": "x\\nroot"}}',
    ],
)
def test_damaged_credentials(state: State, text: str) -> None:
    (state.root / "credentials.json").write_text(text)
    with pytest.raises(
        accounts.CredentialsError, match=r"credentials\.json: expected .*remove the file to get new ones"
    ):
        accounts.ensure(state, config("rene"))


def test_demo_user_has_an_address_of_its_own(state: State) -> None:
    both = Config.parse(
        'region = "eu-central-1"\nstack = "twinmail"\nbucket = "example-mail"\ndomains = ["example.org"]\n'
        '[mailboxes.all]\naddresses = ["*@example.org"]\n[mailboxes.rene]\naddresses = ["rene@example.org"]\n'
        '[servers.primary]\nplatform = "linux/amd64"\nhost = "primary.example.org"\n'
    )
    logins = accounts.ensure(state, both)
    assert accounts.demo_user(state, both) == logins["rene"]
