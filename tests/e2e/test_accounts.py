"""Accounts on a running system: the command line changes them, both servers follow, and nothing restarts."""

import imaplib
import json
import os
import smtplib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import SERVERS, Running
from twinmail import config_text
from twinmail.accounts import KEY
from twinmail.config import Config
from twinmail.imap import Account, LoginRefused, session
from twinmail.local import services
from twinmail.local.state import LOOPBACK, Claim
from twinmail.tasks.config import PROJECT

MINUTE = 60.0


class Operator:
    """Somebody at the command line of the machine that runs *running*."""

    def __init__(self, running: Running) -> None:
        self.running = running

    def inv(self, *words: str, stdin: str = "") -> dict[str, Any]:
        """What ``./inv`` *words* printed as JSON."""
        done = self.run(*words, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(PROJECT / "tasks.py"), *words, "--state", str(self.running.state.root)]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, cwd="/", timeout=300
        )

    def opens(self, server: str, user: str, password: str) -> bool:
        port = self.running.system.ports[f"{server}-imaps"]
        try:
            with session(Account(LOOPBACK, port, user, password, self.running.tls)) as client:
                return bool(client.select("INBOX")[0] == "OK")
        except LoginRefused:
            return False

    def wait_until_opens(self, user: str, password: str, expected: bool = True) -> None:
        """Both servers let *user* in (or, if not *expected*, refuse) within a minute."""
        deadline = time.monotonic() + MINUTE
        for server in SERVERS:
            while self.opens(server, user, password) is not expected:
                assert time.monotonic() < deadline, f"{server}: {user} after a minute"

    def status(self, server: str) -> dict[str, Any]:
        port = self.running.system.ports[f"{server}-health"]
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/status", timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


@pytest.fixture(scope="module")
def operator(running: Running) -> Iterator[Operator]:
    claim = Claim(running.state)  # as ./inv up holds it, by which the tasks know that a system runs
    assert claim.take()
    before = {name: id(one) for name, one in running.system.containers.items()}
    yield Operator(running)
    claim.release()
    assert {name: id(one) for name, one in running.system.containers.items()} == before
    assert not running.system.ended(), "something ended or restarted"


def test_new_user_logs_in_and_gets_mail_on_both_servers(operator: Operator) -> None:
    made = operator.inv("user", "add", "dora", "dora@example.org", "d@example.net", "--full-name", "Dora D.")
    assert made["logins"] == ["dora@example.org", "d@example.net"]
    for login in ("dora", "dora@example.org", "D@Example.NET"):
        operator.wait_until_opens(login, made["password"])
    data = b"From: a@example.com\r\nTo: d@example.net\r\nSubject: Welcome\r\n\r\nHello\r\n"
    accepted = operator.running.sender.send(data, ["d@example.net"])
    operator.running.passwords["dora"] = made["password"]
    operator.running.assert_once("dora", accepted)
    assert 'full_name = "Dora D."' in operator.running.system.config_file.read_text()


def test_two_operators_at_once_lose_nothing(operator: Operator) -> None:
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda name: operator.inv("user", "add", name), ("hana", "ivan")))
    for one in made:
        operator.wait_until_opens(one["user"], one["password"])
    assert {"hana", "ivan"} <= set(Config.load(operator.running.system.config_file).mailboxes)


def test_by_the_sdks_own_credentials_as_in_aws(operator: Operator) -> None:
    """No state folder: what the tasks know is the configuration and what the AWS SDK finds."""
    system = operator.running.system
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        **services.aws_environment(system.config.region, system.endpoint),
    }
    words = ["user", "add", "jana", "--aws", "--config", str(system.config_file), "--json"]
    command = [sys.executable, str(PROJECT / "tasks.py"), *words]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd="/", timeout=300
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["where"] == "AWS, eu-central-1"
    operator.wait_until_opens("jana@example.org", made["password"])
    data = b"From: a@example.com\r\nTo: jana@example.org\r\nSubject: Hello\r\n\r\nHello\r\n"
    operator.running.passwords["jana"] = made["password"]
    operator.running.assert_once("jana", operator.running.sender.send(data, ["jana@example.org"]))


def test_what_an_interrupted_command_began_is_completed_by_doing_it_again(operator: Operator) -> None:
    path = operator.running.system.config_file
    path.write_text(config_text.with_mailbox(path.read_text(), "kai", ["kai@example.org"], "Kai K."))
    refused = operator.run("user", "add", "kai", "other@example.org")
    assert refused.returncode == 1 and "already, with other addresses" in refused.stderr
    made = operator.inv("user", "add", "kai", "Kai@example.org", "--full-name", "Kai K.")
    operator.wait_until_opens("kai@example.org", made["password"])


def test_each_login_name_opens_the_same_mailbox(operator: Operator) -> None:
    secret = operator.running.passwords["ann"]
    port = operator.running.system.ports["primary-imaps"]
    for login in ("ann", "ann@example.org", "ann@example.net"):
        with session(Account(LOOPBACK, port, login, secret, operator.running.tls)) as client:
            client.create("Mine")
    assert (operator.running.state.maildirs("primary") / "ann" / "Maildir" / ".Mine").is_dir()
    assert not list(operator.running.state.maildirs("primary").glob("*@*"))


def test_shared_alias_is_no_login_name(operator: Operator) -> None:
    assert not operator.opens("primary", "team@example.org", operator.running.passwords["ann"])


def test_changed_password(operator: Operator) -> None:
    made = operator.inv("user", "add", "erik")
    assert made["logins"] == ["erik@example.org"]
    operator.wait_until_opens("erik", made["password"])
    changed = operator.inv("user", "passwd", "erik@example.org", "--stdin", stdin='a long: new "passw#rd\n')
    assert "password" not in changed
    operator.wait_until_opens("erik", 'a long: new "passw#rd')
    operator.wait_until_opens("erik", made["password"], expected=False)


def test_revoked_app_password_alone_is_refused(operator: Operator) -> None:
    main = operator.inv("user", "add", "flora")["password"]
    phone = operator.inv("app-password", "add", "flora", "--label", "phone")["password"]
    tablet = operator.inv("app-password", "add", "flora@example.org", "--label", "Tablet (alt)")["password"]
    for secret in (main, phone, tablet):
        operator.wait_until_opens("flora", secret)
        operator.wait_until_opens("flora@example.org", secret)
    listed = operator.inv("app-password", "list", "flora")["app_passwords"]
    assert [one["label"] for one in listed] == ["phone", "Tablet (alt)"]
    port = operator.running.system.ports["backup-imaps"]
    with session(Account(LOOPBACK, port, "flora", phone, operator.running.tls), MINUTE) as lost:
        lost.select("INBOX")
        lost.send(b"i IDLE\r\n")
        assert lost.readline().startswith(b"+")
        operator.inv("app-password", "revoke", "flora", "phone")
        # A lost phone that stays connected reads no further.
        while not (line := lost.readline()).startswith(b"* BYE"):
            assert line.startswith(b"* OK"), line
    operator.wait_until_opens("flora", phone, expected=False)
    for secret in (main, tablet):
        operator.wait_until_opens("flora", secret)
    # Half of an app password, or another one's beginning, opens nothing.
    for wrong in (tablet[:5], f"{tablet[:5]}-{phone[6:]}", tablet[:-1]):
        assert not operator.opens("primary", "flora", wrong)


@pytest.mark.parametrize(
    "data", [b"", b'{"version":1,"users":{', b'{"version":2}', b'{"version":1,"users":{}}']
)
def test_bad_document_locks_nobody_out_and_is_said(operator: Operator, data: bytes) -> None:
    s3, bucket = operator.running.system.session().client("s3"), operator.running.system.config.bucket
    good = s3.get_object(Bucket=bucket, Key=KEY)["Body"].read()
    try:
        s3.put_object(Bucket=bucket, Key=KEY, Body=data)
        for server in SERVERS:
            until(
                lambda server=server: bool(operator.status(server)["chores"]["accounts"]["error"]),  # type: ignore[misc]
                f"{server} says that the document is bad",
            )
            assert operator.opens(server, "bob", operator.running.passwords["bob"])
            log = operator.running.system.containers[f"{server}-syncer"].logs().decode()
            assert "logins go on with the accounts of before" in log
        refused = operator.run("user", "passwd", "bob")
        assert refused.returncode == 1 or data == b'{"version":1,"users":{}}'
        assert "Traceback" not in refused.stderr
    finally:
        s3.put_object(Bucket=bucket, Key=KEY, Body=good)
    for server in SERVERS:
        until(
            lambda server=server: not operator.status(server)["chores"]["accounts"]["error"],  # type: ignore[misc]
            f"{server} has the good document",
        )


def test_alias_leads_and_leads_no_more(operator: Operator) -> None:
    data = b"From: a@example.com\r\nTo: club@example.org\r\nSubject: Club\r\n\r\nHello\r\n"
    made = operator.inv("alias", "add", "club@example.org", "ann", "bob")
    assert made["mailboxes"] == ["ann", "bob"]
    accepted = operator.running.sender.send(data, ["club@example.org"])
    operator.running.assert_once("ann", accepted)
    operator.running.assert_once("bob", accepted)
    assert operator.inv("alias", "remove", "club@example.org", "bob")["mailboxes"] == ["ann"]
    # Of one mailbox alone now, so it is a login name.
    operator.wait_until_opens("club@example.org", operator.running.passwords["ann"])
    assert operator.inv("alias", "remove", "club@example.org")["mailboxes"] == []
    operator.wait_until_opens("club@example.org", operator.running.passwords["ann"], expected=False)
    assert "club@example.org" not in operator.inv("alias", "list")["aliases"]
    with pytest.raises(smtplib.SMTPResponseException):
        operator.running.sender.send(data, ["club@example.org"])


def test_removed_user_is_refused_and_the_mail_stays(operator: Operator) -> None:
    secret = operator.inv("user", "add", "gerd", "gerd@example.org")["password"]
    operator.wait_until_opens("gerd", secret)
    data = b"From: a@example.com\r\nTo: gerd@example.org\r\nSubject: Keep\r\n\r\nHello\r\n"
    accepted = operator.running.sender.send(data, ["gerd@example.org"])
    operator.running.passwords["gerd"] = secret
    operator.running.assert_once("gerd", accepted)
    config = ("--config", str(operator.running.system.config_file))
    key = operator.inv("smtp-credentials", "gerd", *config)["user"]
    assert key in access_keys(operator, "twinmail-smtp-gerd")
    removed = operator.inv("user", "remove", "gerd")
    assert key not in access_keys(operator, "twinmail-smtp-gerd")
    operator.wait_until_opens("gerd", secret, expected=False)
    for folder in removed["mail"][: len(SERVERS)]:
        assert [one for one in Path(folder).rglob(f"*{accepted.name_part}*") if one.is_file()]
    with pytest.raises(smtplib.SMTPResponseException):
        operator.running.sender.send(data, ["gerd@example.org"])
    assert "gerd" not in operator.inv("user", "list")["users"]
    again = operator.run("user", "remove", "gerd")
    assert again.returncode == 1 and again.stderr.strip() == "user 'gerd': no such mailbox or account"


def access_keys(operator: Operator, user: str) -> set[str]:
    iam = operator.running.system.session().client("iam")
    try:
        found = iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
    except iam.exceptions.NoSuchEntityException:
        return set()
    return {one["AccessKeyId"] for one in found}


def test_bad_input_is_one_line_and_changes_nothing(operator: Operator) -> None:
    before = operator.running.system.config_file.read_bytes()
    users = operator.inv("user", "list")["users"]
    for words, stdin, problem in (
        (("user", "add", "Upper"), "", "expected a name of lower-case letters"),
        (("user", "add", "ann"), "", "has an account already"),
        (("user", "add", "henk", "henk@elsewhere.org"), "", "is not in domains"),
        (("user", "add", "henk", "--stdin"), "short\n", "expected at least 12 characters, got 5"),
        (("user", "passwd", "bob", "--stdin"), "a long pässword\n", "signs of ASCII"),
        (("user", "add", "henk", "--prompt"), "", "there is no terminal to ask at"),
        (("user", "add", "henk", "--prompt", "--stdin"), "", "give one of them"),
        (("user", "passwd", "nobody"), "", "no such account"),
        (("app-password", "add", "ann"), "", "--label: expected what the password is for"),
        (("app-password", "revoke", "ann", "none"), "", "no app password 'none'"),
        (("alias", "add", "x@example.org"), "", "expected a mailbox"),
        (("alias", "add", "x@example.org", "nobody"), "", "unknown mailbox 'nobody'"),
        (("alias", "remove", "x@example.org"), "", "is not there"),
    ):
        done = operator.run(*words, stdin=stdin)
        assert done.returncode == 1, words
        assert problem in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert operator.running.system.config_file.read_bytes() == before
    assert operator.inv("user", "list")["users"] == users


def test_file_cut_off_on_the_disk_is_a_temporary_failure(operator: Operator) -> None:
    """Dovecot itself, between two turns of the syncer."""
    path = operator.running.state.maildirs("backup") / ".server" / "users"
    port = operator.running.system.ports["backup-imaps"]
    whole = path.read_bytes()
    account = Account(LOOPBACK, port, "nobody-like-this", "x", operator.running.tls)
    seen = False
    deadline = time.monotonic() + MINUTE
    while not seen:
        assert time.monotonic() < deadline
        path.write_bytes(whole[: len(whole) // 3])
        with suppress(LoginRefused):  # the syncer mended it meanwhile, or Dovecot has not looked yet
            try:
                with session(account):
                    pass
            except imaplib.IMAP4.abort as error:
                assert "[UNAVAILABLE]" in str(error)
                seen = True
    until(lambda: path.read_bytes().rstrip(b"#\n") == whole.rstrip(b"#\n"), "mended by the syncer")
    operator.wait_until_opens("bob", operator.running.passwords["bob"])


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + MINUTE
    while not condition():
        assert time.monotonic() < deadline, f"not in a minute: {what}"
        time.sleep(0.1)
