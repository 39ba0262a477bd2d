"""``docs/secrets.md`` says what there is, and what there is can be found there."""

from pathlib import Path

from tests.golden.test_client_profile import CONFIG
from twinmail.deploy import credentials, secret_kinds, server_files

PAGE = Path(__file__).parents[2] / "docs" / "secrets.md"


def test_the_page_has_the_table() -> None:
    _, _, rest = PAGE.read_text().partition("<!-- secrets: from twinmail.deploy.secret_kinds -->\n")
    assert rest.startswith(secret_kinds.table())


def test_everything_that_servers_are_given_has_a_kind() -> None:
    known = secret_kinds.expected(CONFIG)
    assert {one.secret for one in credentials.every(CONFIG)} <= set(known)
    for server in CONFIG.servers:
        assert set(server_files.secret_names(CONFIG, server)) <= set(known)
