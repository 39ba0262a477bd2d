"""The story: what an owner does on the first day, and what must be true after each step."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from twinmail import imap, password
from twinmail.account_store import S3AccountStore, update
from twinmail.deploy import compose, credentials
from twinmail.errors import PermanentError
from twinmail.local import webmail
from twinmail.local.pki import client_context
from twinmail.local.state import LOOPBACK
from twinmail.oci import push
from twinmail.oci.digests import Digests
from twinmail.oci.fetch import Silent
from twinmail.oci.push import PushReport
from twinmail.oci.registry import Registry
from twinmail.oci.upload_sessions import open_sessions
from twinmail.rehearsal import post
from twinmail.rehearsal.needs import PRIMARY
from twinmail.rehearsal.servers import Backup, Primary
from twinmail.rehearsal.stage import Stage
from twinmail.rehearsal.step import Step

USER, OTHER = "ann", "ben"
ADDRESS = f"{USER}@example.org"
STRANGER = "stranger@elsewhere.example"


class NotProven(PermanentError):
    """A step did what it should, and the proof failed."""


# The images


def _build(stage: Stage) -> None:
    stage.use(stage.build())
    stage.images = tuple(push.plan(name, stage.layouts / name) for name in compose.IMAGES)


def _built(stage: Stage) -> str:
    assert stage.report is not None
    changed = Digests.load(stage.root).differences(stage.report)
    if changed and stage.pinned:
        raise NotProven("\n".join(changed))
    return f"{len(stage.images)} images for servers, " + (
        "not those of images/digests.json" if changed else "those of images/digests.json"
    )


# The cloud


def _start_localstack(stage: Stage) -> None:
    stage.system.start_cloud()


def _is_empty(stage: Stage) -> str:
    found = stage.system.session().client("cloudformation").list_stacks()["StackSummaries"]
    if found:
        raise NotProven(f"LocalStack: expected no stack, got {len(found)}")
    return "an empty account"


def _deploy_cloud(stage: Stage) -> None:
    found = stage.cloud.plan(keep=True)
    for line in found.lines():
        stage.say(f"  {line}")
    stage.cloud.apply(found, lambda event: None)
    stage.system.start_edge()
    stage.system.wait_for_edge()


def _cloud_is_deployed(stage: Stage) -> str:
    if left := stage.cloud.plan().lines():
        raise NotProven(f"a second deployment of the cloud would change: {'; '.join(left)}")
    pages = stage.system.session().client("cloudformation").get_paginator("list_stack_resources")
    resources = [
        one for page in pages.paginate(StackName=stage.config.stack) for one in page["StackResourceSummaries"]
    ]
    keys = len(credentials.every(stage.config))
    return f"{len(resources)} resources, {keys} access keys; nothing left to deploy"


# The images' way


def _push(stage: Stage) -> None:
    stage.start_registry()
    report = _push_once(stage)
    stage.say(f"  sent {report.uploaded} blobs, {report.octets / 1e6:.0f} MB")


def _is_pushed(stage: Stage) -> str:
    report = _push_once(stage)
    if report.uploaded or report.mounted or report.manifests:
        raise NotProven(f"a second push sent {report.uploaded} blobs and {report.manifests} manifests again")
    return f"{report.present} blobs are there, a second push sends nothing"


def _push_once(stage: Stage) -> PushReport:
    assert stage.registry is not None
    registry = Registry(stage.registry)
    try:
        with open_sessions(stage.folder / "push") as sessions:
            return push.push(list(stage.images), registry, sessions, Silent())
    finally:
        registry.close()


# The servers


def _deploy_backup(stage: Stage) -> None:
    (stage.backup or stage.rent_machine()).deploy(stage.say)


def _backup_runs(stage: Stage) -> str:
    assert stage.backup is not None
    ports, tls = stage.backup.ports, client_context(stage.system.ca)
    post.wait(lambda: webmail.answers("localhost", ports.web, tls), "the webmail")
    return f"{stage.backup.check()}; the webmail answers"


def _deploy_primary(stage: Stage) -> None:
    (stage.primary or stage.start_cluster()).deploy(stage.say)


def _primary_runs(stage: Stage) -> str:
    assert stage.primary is not None
    post.wait(stage.primary.is_ready, "the pod of the primary")
    return stage.primary.check()


# The people, and their mail


def _add_users(stage: Stage) -> None:
    store = S3AccountStore(stage.system.session().client("s3"), stage.config.bucket)
    for user in (USER, OTHER):
        secret = password.new_password()
        digest, now = password.digest(secret), datetime.now(UTC)
        update(store, lambda there: there.added(user, digest, (), now).with_logins(stage.config))  # noqa: B023
        stage.passwords[user] = secret


def _users_log_in(stage: Stage) -> str:
    for server in stage.servers:
        for user in stage.passwords:
            account = stage.account(server, user)
            post.wait(lambda: post.folder(account) == {}, f"{server.name}: the login of {user}")  # noqa: B023
    return f"{len(stage.passwords)} users log in to {_names(stage.servers)}"


def _send_in(stage: Stage) -> None:
    found = post.letters(STRANGER, ADDRESS)
    post.send_in((LOOPBACK, stage.system.ports["edge"]), STRANGER, ADDRESS, found)
    stage.sent |= {one.token: one.octets for one in found}


def _all_is_there(stage: Stage) -> str:
    """Every server has all mail, and the same, byte for byte."""
    found: list[Mapping[str, bytes]] = [
        post.arrived(stage.account(one, USER), stage.sent, one.name) for one in stage.servers
    ]
    if any(one != found[0] for one in found):
        raise NotProven("the servers show different octets for the same messages")
    return f"{len(stage.sent)} messages on {_names(stage.servers)}, byte for byte"


def _send_out(stage: Stage) -> None:
    for server in stage.servers:
        account = stage.account(server, USER)
        recipient = f"friend-of-{server.name}@elsewhere.example"
        letter = post.send_out(account, server.ports.submission, ADDRESS, recipient)
        post.wait(lambda: bool(post.outside(stage.system.endpoint, letter)), f"{server.name}: mail out")  # noqa: B023
        copies = post.folder(account, "Sent")
        if letter.token not in copies:
            raise NotProven(f"{server.name}: Sent of {USER} has no copy of what was sent")


def _is_out(stage: Stage) -> str:
    return f"from {_names(stage.servers)}: outside, and in Sent"


# One server lost, and made again by the same command


def _lose_backup(stage: Stage) -> None:
    assert stage.backup is not None
    stage.backup.lose()
    _send_in(stage)


def _lose_primary(stage: Stage) -> None:
    assert stage.primary is not None
    stage.primary.lose()
    _send_in(stage)


def _backup_is_lost(stage: Stage) -> str:
    assert stage.backup is not None
    return _is_lost(stage, stage.backup)


def _primary_is_lost(stage: Stage) -> str:
    assert stage.primary is not None
    return _is_lost(stage, stage.primary)


def _is_lost(stage: Stage, server: Backup | Primary) -> str:
    if imap.greets(LOOPBACK, server.ports.imaps, client_context(stage.system.ca)):
        raise NotProven(f"{server.name}: it should be gone, and answers")
    others = [one for one in stage.servers if one is not server]
    for one in others:
        post.arrived(stage.account(one, USER), stage.sent, one.name)
    new = f"; {_names(others)} has what came since" if others else ""
    return f"{server.name} is gone with its disk and its images{new}"


def _backup_is_back(stage: Stage) -> str:
    return f"{_backup_runs(stage)}; {_all_is_there(stage)}"


def _primary_is_back(stage: Stage) -> str:
    return f"{_primary_runs(stage)}; {_all_is_there(stage)}"


def _names(found: Sequence[Backup | Primary]) -> str:
    return " and ".join(one.name for one in found)


STEPS: tuple[Step[Stage], ...] = (
    Step("images", "build the images, or use those that are there", _build, _built),
    Step("localstack", "start what stands for AWS", _start_localstack, _is_empty),
    Step("cloud", "deploy the stack, and make the servers' access keys", _deploy_cloud, _cloud_is_deployed),
    Step("push", "push the images to a registry", _push, _is_pushed),
    Step("backup", "deploy the backup over SSH, with Compose", _deploy_backup, _backup_runs),
    Step("primary", "deploy the primary, with Kustomize and a pod", _deploy_primary, _primary_runs, PRIMARY),
    Step("users", "add two users", _add_users, _users_log_in),
    Step("mail in", "send letters from outside", _send_in, _all_is_there),
    Step("mail out", "send a letter through each server", _send_out, _is_out),
    Step("backup lost", "lose the backup, and send letters meanwhile", _lose_backup, _backup_is_lost),
    Step("backup rebuilt", "deploy the backup again", _deploy_backup, _backup_is_back),
    Step(
        "primary lost",
        "lose the primary, and send letters meanwhile",
        _lose_primary,
        _primary_is_lost,
        PRIMARY,
    ),
    Step("primary rebuilt", "deploy the primary again", _deploy_primary, _primary_is_back, PRIMARY),
)
