"""What the webmail's containers are told: the very text of their files, and who gets which."""

import json
from pathlib import Path

from twinmail import webmail
from twinmail.config import Config
from twinmail.local import webmail as local
from twinmail.local.state import Ports, State
from twinmail.webmail import Sender, Service, Settings

CONFIG = Config.parse(
    """\
region = "eu-central-1"
stack = "twinmail"
bucket = "example-mail"
domains = ["example.org"]
[mailboxes.ann]
addresses = ["ann@example.org", "*@example.org"]
full_name = "Ann Müller"
[mailboxes.bob]
addresses = ["bob@example.org"]
[aliases]
"team@example.org" = ["ann", "bob"]
[servers.primary]
platform = "linux/arm64"
host = "primary.example.org"
[servers.backup]
platform = "linux/amd64"
host = "backup.example.org"
webmail = true
"""
)


def test_settings() -> None:
    service = Service("ssl://127.0.0.1:993", "mail.example.org", "/etc/twinmail/ca.pem")
    assert Settings(service, service, service, ("mail.example.org",)).to_json() == (
        Path(__file__).parent / "webmail.json"
    ).read_text("ascii")


def test_services_trust_the_public_authorities_unless_told_otherwise() -> None:
    assert (
        Service("ssl://mail.example.org:993", "mail.example.org").ca == "/etc/ssl/certs/ca-certificates.crt"
    )


def test_sender_does_not_show_its_password() -> None:
    sender = Sender("AKIA", "secret")
    assert "secret" not in repr(sender)
    assert json.loads(sender.to_json()) == {"user": "AKIA", "password": "secret"}


def test_identities_are_what_each_mailbox_may_write_from() -> None:
    assert json.loads(webmail.identities(CONFIG)) == {
        "mailboxes": {
            "ann": {"name": "Ann Müller", "addresses": ["ann@example.org", "team@example.org"]},
            "bob": {"name": "", "addresses": ["bob@example.org", "team@example.org"]},
        }
    }


def test_listens_with_tls_only() -> None:
    assert webmail.listen_conf("127.0.0.1:8443", ("a.example.org", "b.example.org")) == (
        "listen 127.0.0.1:8443 ssl;\nserver_name a.example.org b.example.org;\n"
    )


class TestLocal:
    def ports(self) -> Ports:
        uses = ("imaps", "sieve", "submission", "webmail")
        names = ["submissions", *(f"{server}-{use}" for server in CONFIG.servers for use in uses)]
        return Ports({name: 40000 + number for number, name in enumerate(names)})

    def test_only_servers_with_webmail_have_its_folders(self, tmp_path: Path) -> None:
        folders = local.volumes(State(tmp_path, tmp_path, tmp_path), CONFIG)
        assert {folder.parent for folder in folders} == {tmp_path / "backup" / "webmail"}

    def test_each_container_finds_its_own_files(self, tmp_path: Path) -> None:
        state = State(tmp_path, tmp_path, tmp_path)
        local.prepare(state, CONFIG, self.ports(), "backup")
        root = local.folder(state, "backup")
        php = {path.name for path in (root / "php-etc").rglob("*") if path.is_file()}
        web = {str(path.relative_to(root / "web-etc")) for path in (root / "web-etc").rglob("*")}
        assert php == {webmail.SETTINGS, webmail.IDENTITIES, "ca.pem"}
        assert {"tls/cert.pem", "tls/key.pem", webmail.LISTEN, webmail.FILES} <= web
        found = json.loads((root / "php-etc" / webmail.SETTINGS).read_text())
        assert found["imap"]["name"] == found["sieve"]["name"] == "backup.example.org"
        assert all(found[name]["host"].startswith("ssl://127.0.0.1:4") for name in ("imap", "sieve", "smtp"))
        assert found["hosts"] == ["backup.example.org", "localhost", "127.0.0.1"]

    def test_containers_share_the_socket_and_no_secret(self, tmp_path: Path) -> None:
        state = State(tmp_path, tmp_path, tmp_path)
        web, php = (make(state, "backup", "linux/amd64") for make in (local.web, local.php))
        shared = {one.source for one in web.mounts} & {one.source for one in php.mounts}
        assert shared == {local.folder(state, "backup") / "socket"}
        for spec in (web, php):
            assert all(one.read_only for one in spec.mounts if one.target.startswith("/etc/"))
