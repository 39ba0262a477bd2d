"""What a server is brought, to the octet: ``tests/golden/deploy`` holds it for one configuration.

`tests.golden.regenerate` writes the files anew; look at the difference.
"""

from pathlib import Path

import pytest

from tests.golden.test_client_profile import CONFIG
from twinmail.deploy import compose, lightsail, server_files
from twinmail.deploy.server_files import ServerSecrets
from twinmail.webmail import Sender

EXPECTED = Path(__file__).with_name("deploy")

SECRETS = ServerSecrets(b"[default]\n", "0" * 48, b"[default]\n", Sender("AKIAEXAMPLE", "password"))
REFERENCES = {
    name: f"127.0.0.1:27149/twinmail/{name}@sha256:{number * 64}"
    for name, number in zip(compose.IMAGES, "abcd", strict=True)
}


def made() -> dict[str, bytes]:
    """Every golden file, by its path."""
    files = server_files.plan(CONFIG, "# twinmail.toml\n", "backup", SECRETS)
    found = {
        f"settings/{one.path}": one.data
        for one in files
        if not one.path.startswith("web/web/files/")  # tests/golden/client has these
    }
    texts = compose.environment(CONFIG, "backup", files, REFERENCES)
    found["first-boot.sh"] = lightsail.first_boot().encode()
    return {**found, **{name.lstrip("."): text.encode() for name, text in texts.items()}}


@pytest.mark.parametrize("name", sorted(made()))
def test_as_expected(name: str) -> None:
    assert made()[name].decode() == (EXPECTED / name).read_text()


def test_nothing_else_is_expected() -> None:
    there = {path.relative_to(EXPECTED).as_posix() for path in EXPECTED.rglob("*") if path.is_file()}
    assert there == set(made())
