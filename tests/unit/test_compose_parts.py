"""Which services of ``lightsail/compose.yaml`` a server runs, and of which images."""

from dataclasses import replace
from pathlib import Path

from tests.golden.test_client_profile import CONFIG
from tests.golden.test_deploy_files import SECRETS
from twinmail.deploy.backup_server import Request
from twinmail.oci.digests import Digests

ROOT = Path(__file__).resolve().parents[2]


def request(**changes: bool) -> Request:
    server = replace(CONFIG.servers["backup"], **changes)
    config = replace(CONFIG, servers={"backup": server})
    return Request(ROOT, config, "", "backup", SECRETS, Digests({}))


def test_all_of_it() -> None:
    assert [one.name for one in request().parts if one.stays] == [
        *("certbot", "dovecot", "syncer", "relay", "php", "web")
    ]
    assert [one.name for one in request().parts if not one.stays] == ["volume", "placeholder"]
    assert request().images == ("certbot", "dovecot", "roundcube", "syncer")


def test_without_what_is_optional() -> None:
    least = replace(request(webmail=False, submission=False), tls="/own")
    assert [one.name for one in least.parts if one.stays] == ["dovecot", "syncer"]
    # The one that nobody trusts is certbot's, until there is another.
    assert least.images == ("certbot", "dovecot", "syncer")
