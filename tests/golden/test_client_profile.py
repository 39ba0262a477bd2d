"""What clients get, to the octet: ``tests/golden/client`` holds it for one configuration.

`tests.golden.regenerate` writes the files anew; look at the difference.
"""

from pathlib import Path

import pytest

from twinmail.client_profile import records, web
from twinmail.client_profile.sheet import sheet
from twinmail.client_profile.site import site
from twinmail.config import Config

EXPECTED = Path(__file__).with_name("client")

CONFIG = Config.parse(
    """
region = "eu-central-1"
stack = "twinmail"
bucket = "example-mail"
domains = ["example.org", "example.net"]

[mailboxes.ann]
full_name = "Ann <O'Hara> & Söhne"
addresses = ["ann@example.org", "ann@example.net", "*@example.net"]

[mailboxes.bob]
addresses = ["bob@example.org"]

[aliases]
"info@example.org" = ["bob"]
"team@example.org" = ["ann", "bob"]

[servers.primary]
platform = "linux/arm64"
host = "primary.example.org"

[servers.backup]
platform = "linux/amd64"
host = "backup.example.org"
webmail = true
submission = true
"""
)


def made() -> dict[str, bytes]:
    """Every file that is rendered for `CONFIG`."""
    where = site(CONFIG)
    return {
        **web.files(CONFIG, where, {"bob": "AKIAEXAMPLE"}),
        "sheet-ann.html": sheet(CONFIG, where, "ann", "ann@example.org"),
        "sheet-bob.html": sheet(CONFIG, where, "bob", "bob@example.org", "AKIAEXAMPLE"),
        "zone.txt": "".join(
            f"{one}\n" for one in records.zone_lines(records.records(CONFIG, where))
        ).encode(),
    }


def test_the_files_are_those_expected() -> None:
    assert sorted(made()) == sorted(
        path.relative_to(EXPECTED).as_posix() for path in EXPECTED.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("name", sorted(made()))
def test_each_file_is_as_expected(name: str) -> None:
    assert made()[name].decode() == (EXPECTED / name).read_bytes().decode()
