"""What ``./inv deploy cloud`` does, on LocalStack."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import TOML
from tests.contract.deployed import Deployed
from tests.lightsail_simulator import LightsailSimulator
from twinmail.config import Config
from twinmail.deploy.cloud import Cloud


def cloud(deployed: Deployed, folder: Path, text: str) -> tuple[Config, Cloud]:
    path = folder / "twinmail.toml"
    path.write_text(text)
    config = Config.load(path)
    return config, Cloud.of(config, path, deployed.session)


def standing(deployed: Deployed) -> dict[str, Any]:
    """Everything that a plan might leave behind."""
    client = deployed.session.client
    found = client("cloudformation").describe_stacks()["Stacks"]
    # LocalStack shows removed ones for a while.
    stacks = [one for one in found if one["StackStatus"] != "DELETE_COMPLETE"]
    return {
        "stacks": {one["StackName"]: one["StackStatus"] for one in stacks},
        "change sets": [
            change["ChangeSetName"]
            for one in stacks
            for change in client("cloudformation").list_change_sets(StackName=one["StackName"])["Summaries"]
            if change["ExecutionStatus"] == "AVAILABLE"
        ],
        "buckets": [one["Name"] for one in client("s3").list_buckets()["Buckets"]],
        "rules": client("ses").describe_active_receipt_rule_set()["Metadata"]["Name"],
    }


def test_deployed_again_nothing_changes(deployed: Deployed, tmp_path: Path) -> None:
    config, again = cloud(deployed, tmp_path, TOML)
    assert again.plan(keep=True).lines(config) == ()


def test_plan_of_a_change_names_it_and_leaves_nothing(deployed: Deployed, tmp_path: Path) -> None:
    before = standing(deployed)
    more = TOML.replace("domains = [", 'domains = ["more.example", ', 1)
    config, changed = cloud(deployed, tmp_path, more)
    lines = changed.plan(keep=False).lines(config)
    assert any("AWS::SES::EmailIdentity" in line and line.startswith("add") for line in lines), lines
    assert standing(deployed) == before


def test_second_domain_is_one_line_of_the_configuration(deployed: Deployed, tmp_path: Path) -> None:
    ses = deployed.session.client("ses")
    more = TOML.replace("domains = [", 'domains = ["more.example", ', 1)
    config, changed = cloud(deployed, tmp_path, more)
    first = ses.get_identity_dkim_attributes(Identities=["example.org"])["DkimAttributes"]
    try:
        changed.apply(changed.plan(keep=True), print)
        tokens = ses.get_identity_dkim_attributes(Identities=["more.example"])["DkimAttributes"]
        assert len(tokens["more.example"]["DkimTokens"]) == 3
        found = ses.get_identity_mail_from_domain_attributes(Identities=["more.example"])
        mail_from = found["MailFromDomainAttributes"]["more.example"]["MailFromDomain"]
        assert mail_from == config.mail_from("more.example") == "bounce.more.example"
        # The first domain's keys are in DNS: they stay.
        now = ses.get_identity_dkim_attributes(Identities=["example.org"])["DkimAttributes"]
        assert now == first
    finally:
        before = cloud(deployed, tmp_path, TOML)[1]
        before.apply(before.plan(keep=True), print)
    assert "more.example" not in ses.list_identities()["Identities"]


def test_plan_of_a_new_stack_leaves_none_and_says_whose_rules_end(deployed: Deployed, tmp_path: Path) -> None:
    before = standing(deployed)
    other = TOML.replace(f'"{deployed.config.stack}"', '"another"').replace(
        f'"{deployed.config.bucket}"', '"another-bucket"'
    )
    config, new = cloud(deployed, tmp_path, other)
    assert config.stack == "another"
    lines = new.plan(keep=False).lines(config)
    assert any("AWS::S3::Bucket" in line for line in lines)
    assert lines[-1] == f"activate the receipt rule set another, in place of {deployed.config.rule_set}"
    assert standing(deployed) == before


def test_command_plans_without_a_question_and_deploys_only_when_told(
    deployed: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from invoke.context import Context
    from invoke.exceptions import Exit

    from twinmail.tasks import deploy, place

    path = tmp_path / "twinmail.toml"
    path.write_text(TOML.replace("domains = [", 'domains = ["more.example", ', 1))
    monkeypatch.setattr(place, "find", lambda *_: place.Place("LocalStack", deployed.session))
    before = standing(deployed)
    deploy.cloud(Context(), plan=True, config=str(path), json_=True)
    told = json.loads(capsys.readouterr().out)
    assert told["place"] == "LocalStack" and told["changes"] and not told["applied"]
    assert standing(deployed) == before
    with pytest.raises(Exit, match="say --yes to deploy, --plan to look"):
        deploy.cloud(Context(), config=str(path))


class Account:
    """boto3's session of an account that has Lightsail too."""

    def __init__(self, deployed: Deployed, lightsail: LightsailSimulator) -> None:
        self._session, self._lightsail = deployed.session, lightsail

    def client(self, name: str, *arguments: Any, **named: Any) -> Any:
        return (
            self._lightsail.client()
            if name == "lightsail"
            else self._session.client(name, *arguments, **named)
        )


def test_plan_of_all_production_changes_nothing_from_nothing(
    deployed: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from invoke.context import Context
    from invoke.exceptions import Exit

    from twinmail.tasks import deploy, place

    path = tmp_path / "twinmail.toml"
    machine = '[servers.backup.lightsail]\nssh_from = ["203.0.113.7/32"]\n'
    path.write_text(f"{TOML}submission = true\n{machine}")
    lightsail = LightsailSimulator()
    session = Account(deployed, lightsail)
    monkeypatch.setattr(place, "find", lambda *_: place.Place("AWS, simulated", session))
    monkeypatch.setattr(deploy, "SECRETS", tmp_path / "secrets")
    before = standing(deployed)
    deploy.everything(Context(), plan=True, config=str(path), json_=True)
    told = json.loads(capsys.readouterr().out)
    assert not told["applied"]
    cloud_part, backup_part = told["parts"]
    assert cloud_part["part"] == "cloud: stack tests"
    assert (
        "make an access key of tests-relay-backup, kept as relay/backup/credentials" in cloud_part["changes"]
    )
    assert backup_part["part"] == "backup: server backup"
    assert (
        "wait for the secret relay/backup/credentials, which ./inv deploy cloud makes"
        in backup_part["changes"]
    )
    assert "allocate static IP tests-backup-ip" in backup_part["changes"]
    deploy.backup(Context(), plan=True, config=str(path))
    shown = capsys.readouterr().out
    assert shown.startswith("backup, machine tests-backup: changes:\n")
    assert "  make an SSH key, and import it\n" in shown
    for command in (deploy.everything, deploy.backup):
        with pytest.raises(Exit, match="say --yes to deploy, --plan to look"):
            command(Context(), config=str(path))
    assert (standing(deployed), lightsail.calls) == (before, [])
    assert not (tmp_path / "secrets").exists()
    with pytest.raises(Exit, match="secret syncer/backup/credentials: not there; make it with"):
        deploy.backup(Context(), yes=True, config=str(path))
    assert lightsail.calls == []


def test_without_a_machine_at_lightsail_there_is_no_backup_to_deploy(tmp_path: Path) -> None:
    from invoke.context import Context
    from invoke.exceptions import Exit

    from twinmail.tasks import deploy

    path = tmp_path / "twinmail.toml"
    path.write_text(TOML)
    with pytest.raises(Exit, match="no server has a table lightsail"):
        deploy.backup(Context(), config=str(path))
