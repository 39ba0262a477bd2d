"""Access keys are replaced in IAM as LocalStack has it, while whoever uses them goes on working."""

from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from tests.golden.test_client_profile import CONFIG
from tests.localstack_process import REGION, LocalStackProcess
from twinmail.access_key import AccessKeys, NewKey
from twinmail.deploy import credentials, key_rotation
from twinmail.deploy.key_rotation import NotInUse
from twinmail.secret_store import SecretStore


def work(localstack: LocalStackProcess, key: NewKey) -> None:
    """Do what a syncer does all the time, with *key*."""
    session = boto3.Session(key.id, key.secret, region_name=REGION)
    session.client("sqs", endpoint_url=localstack.endpoint).list_queues()
    session.client("s3", endpoint_url=localstack.endpoint).list_buckets()


@pytest.mark.parametrize("what", ["smtp", "syncer"])
def test_from_the_old_key_to_the_new_one(localstack: LocalStackProcess, tmp_path: Path, what: str) -> None:
    iam, store = localstack.client("iam"), SecretStore(tmp_path)
    owners = key_rotation.owners(replace(CONFIG, stack="rotated"), what)
    assert owners
    for owner in owners:
        iam.create_user(UserName=owner.user)
        keys = AccessKeys(iam, owner.user)
        credentials.make(iam, owner, store)
        (old,) = (one.id for one in keys.listed())
        assert key_rotation.begin(iam, store, owner)
        new = key_rotation.key_id(store.get(owner.secret))
        assert [one.id for one in keys.listed()] == [old, new]
        with pytest.raises(NotInUse, match=f"nobody has used the new key {new}"):
            key_rotation.finish(iam, store, owner)
        work(localstack, NewKey(new, "secret"))
        assert key_rotation.finish(iam, store, owner) == (old,)
        assert [one.id for one in keys.listed()] == [new]
