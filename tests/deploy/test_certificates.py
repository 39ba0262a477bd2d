"""certbot's image and the servers with a real ACME server: first certificate, renewal, failure, lifetimes."""

import imaplib
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.deploy.acme_process import HOST, NOBODY, Authority, run_authority
from tests.deploy.recorded_calls import actions
from tests.deploy.route53_process import run_route53
from tests.image.dovecot import PASSWORD, Dovecot, free_port
from twinmail import webmail
from twinmail.certificate import shelf, validity
from twinmail.certificate.place import CERTIFICATE, KEY, REPORT
from twinmail.certificate.report import Report
from twinmail.config import Config
from twinmail.deployer import part, parts
from twinmail.errors import TwinmailError
from twinmail.local.state import State
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.interface import Container, ContainerSpec, Exited, Mount, Runtime
from twinmail.runtime.select import choose
from twinmail.sync.certificate import CertificateChore
from twinmail.sync.log import Log
from twinmail.sync.sessions import Sessions
from twinmail.tasks.config import PROJECT

IMAGES = State.of_checkout(PROJECT).images
NAMES = ("mail.example.org", "autoconfig.example.org", "autodiscover.example.org", "mta-sts.example.org")
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
LIFE = 24
RENEWED_SECONDS = 60.0  # what is promised: a new certificate is served within a minute
SECONDS = 90.0
OLD_PROCESSES_SECONDS = 8.0


def wait_for(what: Callable[[], object], say: Callable[[], str], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, say()
        time.sleep(0.2)


def served(port: int) -> bytes:
    """The certificate that is served on *port*, whoever signed it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((HOST, port), 10) as plain, context.wrap_socket(plain) as inside:
        return inside.getpeercert(binary_form=True) or b""


@dataclass
class Site:
    """The backup server: certbot, Dovecot, nginx, and the chore of the syncer, which this process runs."""

    runtime: Runtime
    folder: Path
    authority: Authority
    dovecot: Dovecot
    https: int
    chore: CertificateChore
    containers: list[Container]

    @property
    def tls(self) -> Path:
        return self.folder / "tls-volume"

    def certbot(self, name: str, *options: str, server: str = "backup", **environment: str) -> Container:
        spec = ContainerSpec(
            name=name,
            layout=IMAGES / "certbot",
            platform=host_platform(),
            command=("--config", "/etc/twinmail/twinmail.toml", "--server", server, *options),
            environment={"REQUESTS_CA_BUNDLE": "/etc/twinmail/ca.pem", **environment},
            mounts=(
                Mount(self.folder / "etc", "/etc/twinmail", read_only=True),
                Mount(self.tls, "/var/lib/twinmail/tls"),
                Mount(self.folder / "acme", "/var/lib/twinmail/acme"),
                Mount(self.folder / "challenges", "/var/lib/twinmail/challenges"),
            ),
        )
        self.containers.append(self.runtime.start(spec))
        return self.containers[-1]

    def leaf(self) -> bytes:
        return validity.leaf((self.tls / CERTIFICATE).read_bytes())

    def serve(self) -> None:
        """A turn of the chore; its trouble is in its status."""
        try:
            self.chore.turn()
        except TwinmailError as error:
            assert str(error)

    def logs(self) -> str:
        return (
            "\n".join(f"{one.name}: {one.logs().decode('utf-8', 'replace')}" for one in self.containers)
            + "".join(path.read_text() for path in (self.folder / "authority").glob("*.log"))[-4000:]
        )


@pytest.fixture(scope="module")
def site(tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("certificates")
    runtime = choose(None, folder / "runtime")
    http, https = free_port(), free_port()
    dovecot = Dovecot(runtime, IMAGES / "dovecot", host_platform(), folder / "dovecot")
    with run_authority(tool, folder / "authority", folder / "ca", http, LIFE) as authority:
        chore = CertificateChore(
            "backup",
            folder / "tls-volume",
            (HOST, dovecot.port),
            Sessions(folder / "dovecot" / "mail").renew,
            None,
            Log(sys.stderr),
        )
        found = Site(runtime, folder, authority, dovecot, https, chore, [])
        web = folder / "web-etc"
        (web / "web").mkdir(parents=True)
        (folder / "etc").mkdir()
        (folder / "etc" / "twinmail.toml").write_text(CONFIG)
        (folder / "etc" / "ca.pem").write_bytes(authority.ca.read_bytes())
        (web / webmail.LISTEN).write_text(webmail.listen_conf(f"{HOST}:{https}", NAMES))
        (web / webmail.HTTP).write_text(webmail.http_conf(f"{HOST}:{http}", challenges="/run/challenges"))
        for volume in ("etc", "tls-volume", "acme", "challenges", "web-etc", "buffer"):
            runtime.prepare_volume(folder / volume)
        try:
            _start(found)
            yield found
        finally:
            for one in (*found.containers, *dovecot.containers):
                one.stop()


def _start(site: Site) -> None:
    """The order of compose.yaml: something to start with, then the servers."""
    first = site.certbot("certificates-first", "--placeholder")
    wait_for(lambda: isinstance(first.status(), Exited), site.logs)
    assert first.status() == Exited(0), site.logs()
    tls = site.dovecot.folder / "etc" / "tls"
    tls.parent.mkdir(parents=True)
    # The volume is mounted there, in production; here the folder leads to it.
    site.dovecot.runtime.prepare_volume(site.dovecot.folder)
    _start_dovecot(site)
    web = ContainerSpec(
        name="certificates-web",
        layout=IMAGES / "roundcube",
        platform=host_platform(),
        mounts=(
            Mount(site.folder / "web-etc", "/etc/twinmail", read_only=True),
            Mount(site.tls, "/etc/twinmail/tls", read_only=True),
            Mount(site.folder / "challenges", "/run/challenges", read_only=True),
            Mount(site.folder / "buffer", "/var/lib/twinmail"),
        ),
    )
    (site.folder / "web-etc" / "tls").mkdir(exist_ok=True)
    site.containers.append(site.runtime.start(web))
    wait_for(lambda: _listens(site.https), site.logs)


def _start_dovecot(site: Site) -> None:
    folder = site.dovecot.folder
    (folder / "etc" / "tls").mkdir(exist_ok=True)
    from tests.image.dovecot import accounts_of
    from twinmail import quota
    from twinmail.local.dovecot import FILE, local_conf

    (folder / "etc" / FILE).write_text(local_conf(site.dovecot.port, site.dovecot.sieve))
    for volume in (folder / "etc", folder / "mail", folder / "mail" / ".server"):
        site.runtime.prepare_volume(volume)
    site.dovecot.set_accounts(accounts_of(("ann",)))
    (folder / "mail" / quota.PLACE).write_bytes(quota.user_database({}))
    site.runtime.prepare_volume(folder / "mail")
    spec = ContainerSpec(
        name="certificates-dovecot",
        layout=IMAGES / "dovecot",
        platform=host_platform(),
        mounts=(
            Mount(folder / "etc", "/etc/twinmail", read_only=True),
            Mount(site.tls, "/etc/twinmail/tls", read_only=True),
            Mount(folder / "mail", "/var/mail/twinmail"),
        ),
    )
    site.dovecot.containers.append(site.runtime.start(spec))
    wait_for(lambda: _listens(site.dovecot.port), lambda: site.dovecot.container.logs().decode())


def _listens(port: int) -> bool:
    try:
        return bool(served(port))
    except OSError:
        return False


def _changed(site: Site, old: bytes) -> bool:
    return site.leaf() != old


def _ended(session: imaplib.IMAP4) -> bool:
    try:
        session.noop()
    except imaplib.IMAP4.error:
        return True
    return False


def test_servers_start_with_a_placeholder(site: Site) -> None:
    assert served(site.dovecot.port) == served(site.https) == site.leaf()
    site.serve()
    assert site.chore.status()["placeholder"] is True
    assert "placeholder" in site.chore.status()["problem"]


def test_first_certificate_renewal_and_failure(site: Site) -> None:
    old = site.leaf()
    # Opened before there is any certificate to trust.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with imaplib.IMAP4_SSL(HOST, site.dovecot.port, ssl_context=context) as session:
        session.login("ann", PASSWORD)
        session.select()
        # The first one fails, is said, and is tried again.
        site.authority.resolve_to(NOBODY)
        site.certbot("certificates-certbot", "--directory", site.authority.directory, "--retry-seconds", "2")
        wait_for(lambda: (Report.load(site.tls) or Report("")).failures >= 2, site.logs)
        told = Report.load(site.tls)
        assert told is not None and "mail.example.org" in told.error and told.next_attempt
        site.serve()
        assert told.error.split(":")[0] in site.chore.status()["problem"]
        assert served(site.dovecot.port) == old
        site.authority.resolve_to(HOST)
        # The first real one, and two that follow it.
        for _ in range(3):
            wait_for(partial(_changed, site, old), site.logs)
            started, new = time.monotonic(), site.leaf()
            while not served(site.dovecot.port) == served(site.https) == site.leaf():
                site.serve()
                assert time.monotonic() - started < RENEWED_SECONDS, site.logs()
            assert site.leaf() == new
            assert session.noop()[0] == "OK"
            old = new
        trusting = ssl.create_default_context(cadata=site.authority.root())
        for port in (site.dovecot.port, site.https):
            for name in NAMES:
                with socket.create_connection((HOST, port), 10) as plain:
                    trusting.wrap_socket(plain, server_hostname=name).close()
        # Longer than Dovecot waits before it ends what is older than its settings, unless told not to.
        wait_for(lambda: time.monotonic() - started > OLD_PROCESSES_SECONDS, site.logs)
        assert session.select()[0] == "OK"
        # And a password that is taken away still ends it.
        Sessions(site.dovecot.folder / "mail").end("ann")
        wait_for(lambda: _ended(session), site.logs)
        session.state = "LOGOUT"
    report = Report.load(site.tls)
    assert report is not None and not report.error


def test_files_are_private_and_nothing_old_stays(site: Site) -> None:
    for path in (site.tls, site.tls / "pairs", site.folder / "acme"):
        assert path.stat().st_mode & 0o077 == 0, path
    for path in (*site.tls.rglob("*.pem"), *(site.folder / "acme").rglob("*.pem")):
        if not path.is_symlink() and path.name.startswith(("key", "privkey")):
            assert path.stat().st_mode & 0o777 == 0o600, path
    assert len(list((site.tls / "pairs").iterdir())) <= 2
    assert (site.tls / KEY).is_symlink()


def test_plain_http_leads_to_https_and_shows_challenges_only(site: Site) -> None:
    with socket.create_connection((HOST, site.authority.http), 10) as client:
        client.sendall(b"GET /mail?x=1 HTTP/1.0\r\nHost: mail.example.org\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert b" 301 " in answer and b"Location: https://mail.example.org/mail?x=1" in answer
    with socket.create_connection((HOST, site.authority.http), 10) as client:
        client.sendall(b"GET /.well-known/acme-challenge/../../key.pem HTTP/1.0\r\n\r\n")
        assert b" 200 " not in client.recv(4096)


def test_behind_nat_by_dns_with_certificates_of_45_days(tool: Callable[[str], Path], tmp_path: Path) -> None:
    """A home server shows nothing on port 80; Route 53 and the lifetime of 2028 are what there is."""
    runtime = choose(None, tmp_path / "runtime")
    with run_authority(tool, tmp_path / "authority", tmp_path / "ca", free_port(), 45 * 86400) as authority:
        site = Site(runtime, tmp_path, authority, None, 0, None, [])  # type: ignore[arg-type]
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc" / "twinmail.toml").write_text(CONFIG)
        (tmp_path / "etc" / "ca.pem").write_bytes(authority.ca.read_bytes())
        (tmp_path / "etc" / "credentials").write_text(
            "[default]\naws_access_key_id = AKIATEST\naws_secret_access_key = secret\n"
        )
        for volume in ("etc", "tls-volume", "acme", "challenges"):
            runtime.prepare_volume(tmp_path / volume)
        with run_route53("example.org", authority.text) as route53:
            pairs = []
            # The second start finds another wish, as ./inv secrets rotate tls leaves one; the third the same.
            for wish, asked in (("", 1), ("one", 2), ("one", 2)):
                (tmp_path / "etc" / "wish").write_text(wish)
                certbot = site.certbot(
                    "certificates-home",
                    *("--directory", authority.directory, "--wish", "/etc/twinmail/wish"),
                    server="home",
                    AWS_SHARED_CREDENTIALS_FILE="/etc/twinmail/credentials",
                    AWS_ENDPOINT_URL=route53.url,
                    AWS_DEFAULT_REGION="eu-central-1",
                )
                try:
                    wait_for(lambda: (Report.load(site.tls) or Report("")).next_attempt, site.logs)
                    found, report = shelf.installed(site.tls), Report.load(site.tls)
                finally:
                    certbot.stop()
                (site.tls / REPORT).unlink()
                pairs.append(found)
                assert len({one.key for one in pairs if one}) == asked, site.logs()
        assert found is not None and report is not None and not report.error, site.logs()
        assert found.names == {"home.example.org"}
        assert not found.placeholder
        assert abs(found.validity.lifetime - timedelta(days=45)) < timedelta(hours=2)
        in_days = (datetime.fromisoformat(report.next_attempt) - datetime.now(UTC)) / timedelta(days=1)
        assert in_days == pytest.approx(30, abs=0.2)
        # Nothing is left in the zone.
        assert route53.records == {}
        assert set(route53.changed) == {("TXT", "_acme-challenge.home.example.org.")}
        text = (PROJECT / "lambda" / "deployer.yaml").read_text()
        policy = part(parts(text, Config.load(tmp_path / "etc" / "twinmail.toml")), "certificates").document
        assert not [one for one in route53.needs if not one.is_met_by(policy)]
        change = next(one for one in route53.needs if one.context)
        for key, value in {"RecordTypes": "A", "NormalizedRecordNames": "home.example.org"}.items():
            other = {**change.context, f"route53:ChangeResourceRecordSets{key}": (value,)}
            assert not replace(change, context=other).is_met_by(policy), other
        # What certbot does not call, cert-manager does (its guide, "Configuring DNS01: Route 53").
        called = {one.action for one in route53.needs}
        assert actions(policy) - called == {
            "route53:ListHostedZonesByName",
            "route53:ListResourceRecordSets",
        }
