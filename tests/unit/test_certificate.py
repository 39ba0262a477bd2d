"""Certificates: how long they last, what is due, what is installed, and who is told."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from twinmail.certificate import pair, shelf, validity
from twinmail.certificate.certbot import Certbot, NotIssued, reason
from twinmail.certificate.names import ALONE, DNS, HTTP, NoChallenge, Request, request
from twinmail.certificate.pair import Pair
from twinmail.certificate.report import Report
from twinmail.certificate.service import Service, Step, pause, plan
from twinmail.certificate.validity import Unreadable, Validity
from twinmail.config import Config
from twinmail.local import pki
from twinmail.sync import __main__ as command
from twinmail.sync.certificate import CertificateChore, CertificateTrouble, Operator, problem
from twinmail.sync.log import Log
from twinmail.sync.sessions import Sessions

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NAMES = ("mail.example.org", "imap.example.org")
CONFIG = """
region = "eu-central-1"
stack = "twinmail"
bucket = "example-org-mail"
domains = ["example.org"]
operator = "ann@example.org"
[mailboxes.ann]
addresses = ["ann@example.org"]
[servers.backup]
platform = "linux/amd64"
host = "mail.example.org"
webmail = true
[servers.backup.lightsail]
[servers.home]
platform = "linux/arm64"
host = "home.example.org"
"""


def issued(folder: Path, now: datetime = NOW, names: Sequence[str] = NAMES, days: float = 45) -> Pair:
    """A certificate by an authority, said to live *days*."""
    pki.ensure(folder / "ca", folder / "target", names, now, anew=True)
    made = pair.load((folder / "target/cert.pem").read_bytes(), (folder / "target/key.pem").read_bytes())
    lives = Validity(now, now + timedelta(days=days), self_signed=False)
    return replace(made, validity=lives, names=frozenset(names))


@pytest.mark.parametrize("year", [1999, 2026, 2049, 2050, 2100])
def test_dates_are_read_as_the_library_reads_them(tmp_path: Path, year: int) -> None:
    pki.ensure(tmp_path, tmp_path / "server", NAMES, NOW.replace(year=year))
    pem = (tmp_path / "server" / "cert.pem").read_bytes()
    found, right = validity.read(pem), x509.load_pem_x509_certificate(pem)
    assert (found.not_before, found.not_after) == (right.not_valid_before_utc, right.not_valid_after_utc)
    assert not found.self_signed
    assert validity.read((tmp_path / "ca.pem").read_bytes()).self_signed


def test_what_is_no_certificate_is_said(tmp_path: Path) -> None:
    pem = pair.placeholder(NAMES, NOW).chain
    for damaged in (b"", b"hello", pem[:200], pem.replace(pem[100:140], b"A" * 40)):
        with pytest.raises(Unreadable):
            validity.read(damaged)


@pytest.mark.parametrize(("days", "renewal", "alarm"), [(90, 60, 76), (45, 30, 31), (6, 4, 4.08)])
def test_nothing_assumes_a_lifetime(days: int, renewal: float, alarm: float) -> None:
    found = Validity(NOW, NOW + timedelta(days=days), self_signed=False)
    assert (found.renewal - NOW) / timedelta(days=1) == pytest.approx(renewal)
    assert (found.alarm - NOW) / timedelta(days=1) == pytest.approx(alarm)
    assert found.alarm > found.renewal


def test_names_and_challenges() -> None:
    config = Config.parse(CONFIG)
    clients = ("autoconfig.example.org", "autodiscover.example.org", "mta-sts.example.org")
    assert request(config, "backup") == Request(("mail.example.org", *clients), HTTP)
    assert request(config, "home") == Request(("home.example.org",), DNS)
    bare = Config.parse(CONFIG.replace("webmail = true", "webmail = false"))
    assert request(bare, "backup") == Request(("mail.example.org",), ALONE)
    failover = Config.parse(CONFIG + "[dns]\nfailover = true\n")
    assert request(failover, "backup") == Request(("mail.example.org", *clients, "imap.example.org"), DNS)
    with pytest.raises(NoChallenge, match="server home: no certificate can be had"):
        request(Config.parse(CONFIG + "[dns]\nroute53 = false\n"), "home")


def test_what_is_due(tmp_path: Path) -> None:
    good = issued(tmp_path)
    old = replace(good, validity=Validity(NOW - timedelta(days=31), NOW + timedelta(days=14), False))
    dead = replace(good, validity=Validity(NOW - timedelta(days=46), NOW - timedelta(days=1), False))
    obtain = [Step.OBTAIN, Step.INSTALL]
    assert plan(None, None, NAMES, NOW) == [Step.PLACEHOLDER, *obtain]
    assert plan(good, good, NAMES, NOW) == []
    # Got, and killed before it was installed: not asked for again.
    assert plan(pair.placeholder(NAMES, NOW), good, NAMES, NOW) == [Step.INSTALL]
    assert plan(None, good, NAMES, NOW) == [Step.INSTALL]
    assert plan(old, old, NAMES, NOW) == obtain
    assert plan(good, good, (*NAMES, "new.example.org"), NOW) == obtain
    # Better an expired one than none: clients can be told to go on.
    assert plan(dead, dead, NAMES, NOW) == obtain


def test_failures_stay_below_what_the_authority_allows() -> None:
    attempts, at = [timedelta(0)], timedelta(0)
    for failures in range(1, 30):
        at += pause(failures)
        attempts.append(at)
    for one in attempts:
        assert sum(one <= other < one + timedelta(hours=1) for other in attempts) < 5
    assert pause(29) == timedelta(hours=12)


def test_both_files_change_at_once_and_nothing_old_stays(tmp_path: Path) -> None:
    tls = tmp_path / "tls"
    tls.mkdir()
    first, second = pair.placeholder(NAMES, NOW), issued(tmp_path)
    for one in (first, second, second):
        shelf.install(tls, one)
        found = shelf.installed(tls)
        assert found is not None and (found.chain, found.key) == (one.chain, one.key)
    assert len(list((tls / "pairs").iterdir())) == 1
    assert {path.stat().st_mode & 0o777 for path in tls.glob("pairs/*/*")} == {0o600}
    # A folder that held plain files, as a local system has them.
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "cert.pem").write_text("something")
    (plain / "key.pem").write_text("else")
    shelf.install(plain, first)
    assert shelf.installed(plain) is not None


@dataclass
class Authority:
    """Issues what it is told to, or fails."""

    answers: list[Pair | str]
    asked: int = 0
    have: Pair | None = None
    wish: bool = False

    def obtain(self, request: Request, temporary: Path) -> None:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            raise NotIssued(answer)
        self.have, self.wish = answer, False

    def wanted(self) -> bool:
        return self.wish

    def latest(self) -> Pair | None:
        return self.have


def test_failures_are_told_and_repeated_until_it_works(tmp_path: Path) -> None:
    authority = Authority(["refused", "refused again", issued(tmp_path)])
    tls, now = tmp_path / "tls", NOW
    tls.mkdir()
    out = io.StringIO()
    service = Service(Request(NAMES, HTTP), tls, authority, Log(out), lambda: now)
    for minutes, text in ((10, "refused"), (20, "refused again")):
        following = service.turn()
        assert following == now + timedelta(minutes=minutes)
        report = Report.load(tls)
        assert report is not None and report.error == text
        found = shelf.installed(tls)
        assert found is not None and found.placeholder
        now = following
    assert service.turn() == now + timedelta(hours=1)
    report, found = Report.load(tls), shelf.installed(tls)
    assert report is not None and (report.error, report.failures) == ("", 0)
    assert datetime.fromisoformat(report.next_attempt) == NOW + timedelta(days=30)
    assert found is not None and not found.placeholder
    service.turn()
    assert authority.asked == 3
    assert "refused again" in out.getvalue() and "PRIVATE KEY" not in out.getvalue()


def test_a_new_key_is_asked_for_once_when_it_is_wanted(tmp_path: Path) -> None:
    first, second = issued(tmp_path), issued(tmp_path)
    authority = Authority([first, "refused", second])
    tls = tmp_path / "tls"
    tls.mkdir()
    service = Service(Request(NAMES, HTTP), tls, authority, Log(io.StringIO()), lambda: NOW)
    service.turn()
    authority.wish = True
    service.turn()
    # What was there is served until there is another.
    found = shelf.installed(tls)
    assert found is not None and found.key == first.key
    for _ in range(3):
        service.turn()
    found = shelf.installed(tls)
    assert found is not None and found.key == second.key != first.key
    assert authority.asked == 3


def test_a_wish_is_answered_when_a_certificate_came_and_not_before(tmp_path: Path) -> None:
    said, wish, folder = tmp_path / "said", tmp_path / "wish", tmp_path / "acme"
    folder.mkdir()
    program = tmp_path / "certbot"
    program.write_text(f"#!/bin/sh\nexec cat {said} >/dev/null\n")
    program.chmod(0o755)
    certbot = Certbot("https://acme.example/dir", folder, tmp_path, None, 80, wish, str(program))
    assert not certbot.wanted()
    wish.write_text("one")
    assert certbot.wanted()
    with pytest.raises(NotIssued):
        certbot.obtain(Request(NAMES, HTTP), tmp_path)
    assert certbot.wanted()
    said.write_text("")
    certbot.obtain(Request(NAMES, HTTP), tmp_path)
    assert not certbot.wanted()
    wish.write_text("two")
    assert certbot.wanted()
    wish.unlink()
    assert not certbot.wanted()


def test_the_reason_is_the_authoritys_own() -> None:
    said = """
Certbot failed to authenticate some domains (authenticator: webroot).
  Domain: mail.example.org
  Type:   connection
  Detail: 203.0.113.7: Fetching http://mail.example.org/: Connection refused

Hint: The Certificate Authority failed to download the temporary challenge files.
Some challenges have failed.
Ask for help or search for solutions at https://community.example. See the logfile for details.
"""
    assert reason(said.splitlines()) == ("203.0.113.7: Fetching http://mail.example.org/: Connection refused")
    assert reason(["Saving debug log to /tmp/x", "An unexpected error occurred:", "no network"]) == (
        "An unexpected error occurred:; no network"
    )


def test_command_lines() -> None:
    certbot = Certbot("https://acme.example/dir", Path("/acme"), Path("/challenges"), None, 80)
    for challenge, option in ((HTTP, "--webroot"), (ALONE, "--standalone"), (DNS, "--dns-route53")):
        line = certbot.command(Request(NAMES, challenge), Path("/tmp/x"))
        assert option in line and "--register-unsafely-without-email" in line
        assert line[-4:] == ["--domain", NAMES[0], "--domain", NAMES[1]]
    assert "ann@example.org" in replace(certbot, operator="ann@example.org").command(
        Request(NAMES, DNS), Path("/tmp/x")
    )


@dataclass
class Sent:
    messages: list[bytes] = field(default_factory=list)

    def send(self, source: str, destinations: Sequence[str], data: bytes) -> str:
        assert (source, list(destinations)) == ("ann@example.org", ["rene@elsewhere.example"])
        self.messages.append(data)
        return "id"


def test_the_operator_is_told_once_a_day_below_14_days(tmp_path: Path) -> None:
    now = NOW
    pki.ensure(tmp_path / "ca", tmp_path, NAMES, NOW)
    ends = validity.read((tmp_path / "cert.pem").read_bytes()).not_after
    sent = Sent()
    chore = CertificateChore(
        "backup",
        tmp_path,
        None,
        lambda: None,
        Operator("rene@elsewhere.example", "ann@example.org", sent),
        Log(io.StringIO()),
        lambda: now,
    )
    now = ends - timedelta(days=14, minutes=1)
    chore.turn()
    assert sent.messages == [] and chore.status()["problem"] is None
    for minutes, count in ((1, 1), (60, 1), (24 * 60 + 1, 2)):
        now = ends - timedelta(days=14) + timedelta(minutes=minutes)
        with pytest.raises(CertificateTrouble):
            chore.turn()
        assert len(sent.messages) == count
    assert b"Subject: twinmail: certificate of backup: expires in 14.0 days" in sent.messages[0]
    now = ends + timedelta(days=3)
    with pytest.raises(CertificateTrouble, match="expired on"):
        chore.turn()
    assert b"expired on" in sent.messages[2]


def test_what_failed_is_said_with_what_is_wrong() -> None:
    placeholder = Validity(NOW, NOW + timedelta(days=7), self_signed=True)
    report = Report("", "port 80 is closed", 3, "")
    assert problem(placeholder, report, NOW).endswith("; last attempt: port 80 is closed")
    good = Validity(NOW, NOW + timedelta(days=45), self_signed=False)
    # There is time, and it is tried again: the report is in the status, and nobody is woken up.
    assert problem(good, report, NOW) == ""


def test_the_command_line_has_the_operator_told_and_dovecot_looked_at(tmp_path: Path) -> None:
    config = replace(Config.parse(CONFIG), operator="rene@elsewhere.example")
    words = ["--config", "x", "--server", "backup", "--mail", "x", "--state", "x", "--health-port", "0"]
    told = command.parser().parse_args([*words, "--tls", str(tmp_path), "--imaps", "127.0.0.1:993"])
    sessions = Sessions(tmp_path)
    chore = command._certificate(told, config, Sent(), sessions, Log(io.StringIO()))
    assert (chore.server, chore.folder, chore.imaps) == ("backup", tmp_path, ("127.0.0.1", 993))
    assert chore.renew == sessions.renew
    # SES sends from addresses of ours alone.
    assert chore.operator is not None
    assert (chore.operator.address, chore.operator.source) == ("rene@elsewhere.example", "ann@example.org")
