"""SMTP credentials: derivation, the limit of two, rotation, and the webmail's file."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config as Calls
from moto import mock_aws

from tests.cloud import CONFIG
from twinmail import smtp_credentials as credentials
from twinmail.access_key import KeyUnavailable, NoUser
from twinmail.smtp_credentials import Endpoint, SmtpCredentialsError, smtp_password


@pytest.fixture
def iam(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        client = boto3.client("iam", region_name=CONFIG.region)
        for name in credentials.names(CONFIG):
            client.create_user(UserName=CONFIG.smtp_user(name))
        yield client


@pytest.mark.parametrize(
    ("region", "secret", "password"),
    [
        # Test vectors that Terraform's AWS provider publishes.
        ("eu-central-1", "some+secret+key", "BMXhUYlu5Z3gSXVQORxlVa7XPaz91aGWdfHxvkOZdWZ2"),
        ("us-west-1", "another+secret+key", "BKVmjjMDFk/qqw8EROW99bjCS65PF8WKvK5bSr4Y6EqF"),
    ],
)
def test_password_is_the_one_that_ses_derives(region: str, secret: str, password: str) -> None:
    assert smtp_password(secret, region) == password


def test_credential_is_a_key_of_the_mailbox_alone(iam: Any) -> None:
    made = credentials.create(iam, CONFIG, "ann")
    assert [one.id for one in credentials.keys(iam, CONFIG, "ann")] == [made.user]
    assert credentials.keys(iam, CONFIG, "bob") == ()
    assert len(made.password) == 44 and made.password not in repr(made)


def test_third_is_refused_with_both_ways_out(iam: Any) -> None:
    first, second = (credentials.create(iam, CONFIG, "ann") for _ in range(2))
    with pytest.raises(SmtpCredentialsError) as caught:
        credentials.create(iam, CONFIG, "ann")
    text = str(caught.value)
    assert first.user in text and second.user in text
    assert "--revoke --key ID" in text and "--rotate" in text


@pytest.mark.parametrize("before", [0, 1, 2])
def test_rotation_leaves_the_new_one_alone(iam: Any, before: int) -> None:
    old = {credentials.create(iam, CONFIG, "ann").user for _ in range(before)}
    made, removed = credentials.rotate(iam, CONFIG, "ann")
    assert set(removed) == old and made.user not in old
    assert [one.id for one in credentials.keys(iam, CONFIG, "ann")] == [made.user]


def test_rotation_that_fails_leaves_a_working_one(iam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        credentials.create(iam, CONFIG, "ann")

    def refuse(**_: Any) -> None:
        raise iam.exceptions.ClientError({"Error": {"Code": "Throttling"}}, "CreateAccessKey")

    monkeypatch.setattr(iam, "create_access_key", refuse)
    with pytest.raises(KeyUnavailable):
        credentials.rotate(iam, CONFIG, "ann")
    assert len(credentials.keys(iam, CONFIG, "ann")) == 1


def test_one_or_all_are_revoked(iam: Any) -> None:
    first, second = (credentials.create(iam, CONFIG, "ann") for _ in range(2))
    assert credentials.revoke(iam, CONFIG, "ann", first.user) == (first.user,)
    with pytest.raises(SmtpCredentialsError, match=f"has no credential {first.user}; it has: {second.user}"):
        credentials.revoke(iam, CONFIG, "ann", first.user)
    assert credentials.revoke(iam, CONFIG, "ann") == (second.user,)
    assert credentials.revoke(iam, CONFIG, "ann") == ()


def test_unknown_mailbox_and_missing_user_say_what_to_do(iam: Any) -> None:
    with pytest.raises(SmtpCredentialsError, match="unknown mailbox 'eve'; known: ann, bob"):
        credentials.create(iam, CONFIG, "eve")
    iam.delete_user(UserName=CONFIG.smtp_user("bob"))
    with pytest.raises(NoUser, match="IAM user tests-smtp-bob: not there; deploy the stack"):
        credentials.create(iam, CONFIG, "bob")


def test_iam_that_does_not_answer_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    calls = Calls(connect_timeout=1, retries={"total_max_attempts": 1})
    nowhere = boto3.client("iam", region_name="eu-central-1", endpoint_url="http://127.0.0.1:1", config=calls)
    with pytest.raises(KeyUnavailable, match="IAM user tests-smtp-ann: Could not connect"):
        credentials.create(nowhere, CONFIG, "ann")


def test_webmail_has_one_file_that_its_owner_reads(iam: Any, tmp_path: Path) -> None:
    path = tmp_path / "smtp.json"
    assert credentials.ensure_webmail(iam, CONFIG, path, "127.0.0.1", 2465)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    document = json.loads(path.read_text())
    assert {one: document[one] for one in ("version", "host", "port", "security")} == {
        "version": 1,
        "host": "127.0.0.1",
        "port": 2465,
        "security": "tls",
    }
    assert [one.id for one in credentials.keys(iam, CONFIG, "webmail")] == [document["user"]]


def test_webmails_credential_stays_while_it_works(iam: Any, tmp_path: Path) -> None:
    path = tmp_path / "smtp.json"
    credentials.ensure_webmail(iam, CONFIG, path, "127.0.0.1", 2465)
    before = json.loads(path.read_text())
    assert not credentials.ensure_webmail(iam, CONFIG, path, "127.0.0.1", 2465)
    assert credentials.ensure_webmail(iam, CONFIG, path, "127.0.0.1", 3465)
    assert json.loads(path.read_text()) == {**before, "port": 3465}


@pytest.mark.parametrize("damage", ["removed", "inactive", "revoked", "nonsense"])
def test_webmails_credential_is_made_anew_when_it_does_not(iam: Any, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "smtp.json"
    credentials.ensure_webmail(iam, CONFIG, path, "127.0.0.1", 2465)
    user = json.loads(path.read_text())["user"]
    if damage == "removed":
        path.unlink()
    elif damage == "inactive":
        name = CONFIG.smtp_user("webmail")
        iam.update_access_key(UserName=name, AccessKeyId=user, Status="Inactive")
    elif damage == "revoked":
        credentials.revoke(iam, CONFIG, "webmail")
    else:
        path.write_text("[")
    assert credentials.ensure_webmail(iam, CONFIG, path, "127.0.0.1", 2465)
    made = json.loads(path.read_text())["user"]
    assert made != user
    assert [one.id for one in credentials.keys(iam, CONFIG, "webmail")] == [made]


def test_endpoint_of_a_region() -> None:
    assert Endpoint.of_region("eu-central-1") == Endpoint("email-smtp.eu-central-1.amazonaws.com", 465, 587)


def test_names_of_users_lead_back_to_mailboxes() -> None:
    assert CONFIG.smtp_mailbox(CONFIG.smtp_user("ann")) == "ann"
    for other in ("tests-smtp-webmail", "tests-smtp-eve", "root", "", "ann"):
        assert CONFIG.smtp_mailbox(other) is None
