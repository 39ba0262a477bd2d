"""Access keys of the servers' IAM users."""

import configparser
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from twinmail.access_key import NoUser
from twinmail.config import Config
from twinmail.deploy import credentials, server_files
from twinmail.deploy.credentials import NoCredentials
from twinmail.durable_file import NotWritten
from twinmail.secret_store import SecretStore
from twinmail.smtp_credentials import smtp_password

CONFIG = Config.load(Path(__file__).parents[2] / "twinmail.toml")
NAMES = {
    "syncer/primary/credentials": "twinmail-syncer-primary",
    "syncer/backup/credentials": "twinmail-syncer-backup",
    "relay/backup/credentials": "twinmail-relay-backup",
    "smtp/webmail": "twinmail-smtp-webmail",
}


@pytest.fixture
def iam(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        client = boto3.client("iam", region_name=CONFIG.region)
        for user in NAMES.values():
            client.create_user(UserName=user)
        yield client


def keys(iam: Any, user: str) -> list[str]:
    return [one["AccessKeyId"] for one in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]]


def test_each_server_has_keys_of_its_own_made_once(iam: Any, tmp_path: Path) -> None:
    store = SecretStore(tmp_path / "secrets")
    needed = credentials.plan(CONFIG, store)
    assert {one.secret: one.user for one in needed} == NAMES
    for one in needed:
        credentials.make(iam, one, store)
    assert credentials.plan(CONFIG, store) == ()
    assert all(len(keys(iam, user)) == 1 for user in NAMES.values())
    # As the SDKs read it, and as the files of a server take it.
    parsed = configparser.ConfigParser()
    parsed.read_string((store.get("syncer/backup/credentials") or b"").decode())
    assert [parsed["default"]["aws_access_key_id"]] == keys(iam, "twinmail-syncer-backup")
    assert len(parsed["default"]["aws_secret_access_key"]) == 40
    for server in CONFIG.servers:
        assert server_files.read_secrets(store, CONFIG, server).syncer


def test_webmail_gets_the_password_for_smtp_and_not_the_key(iam: Any, tmp_path: Path) -> None:
    store = SecretStore(tmp_path)
    (needed,) = [one for one in credentials.plan(CONFIG, store) if one.secret == "smtp/webmail"]
    assert json.loads(needed.data("AKIA", "secret")) == {
        "user": "AKIA",
        "password": smtp_password("secret", CONFIG.region),
    }


def test_user_with_two_keys_elsewhere_is_told_and_loses_none(iam: Any, tmp_path: Path) -> None:
    store, user = SecretStore(tmp_path), "twinmail-syncer-backup"
    for _ in range(2):
        iam.create_access_key(UserName=user)
    before = keys(iam, user)
    (needed,) = [one for one in credentials.plan(CONFIG, store) if one.user == user]
    with pytest.raises(NoCredentials, match=r"copy that folder from where you deployed before, or delete"):
        credentials.make(iam, needed, store)
    assert keys(iam, user) == before and list(store.names()) == []


def test_before_the_stack_there_are_no_users(iam: Any, tmp_path: Path) -> None:
    store = SecretStore(tmp_path)
    needed = credentials.plan(CONFIG, store)[0]
    iam.delete_user(UserName=needed.user)
    with pytest.raises(NoUser, match=r"deploy the stack first: \./inv deploy cloud"):
        credentials.make(iam, needed, store)


def test_key_that_cannot_be_kept_is_removed(
    iam: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SecretStore(tmp_path)
    needed = credentials.plan(CONFIG, store)[0]

    def full(*_: object) -> None:
        raise NotWritten("no space")

    monkeypatch.setattr(store, "put", full)
    with pytest.raises(NotWritten):
        credentials.make(iam, needed, store)
    assert keys(iam, needed.user) == []
