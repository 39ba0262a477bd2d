"""Every bad configuration has the exact message it gets."""

import json
from pathlib import Path

import pytest
from invoke.context import Context

from twinmail.config import Config, Environment
from twinmail.errors import ConfigError
from twinmail.production import Budget, Dns, Kubernetes, Lightsail, Retention
from twinmail.tasks.config import config as check

GOOD = """
region = "eu-central-1"
stack = "twinmail"
bucket = "example-mail"
domains = ["example.org", "example.net"]

[mailboxes.ann]
addresses = ["Ann@Example.org", "*@example.net"]

[mailboxes.bob]
addresses = ["bob@example.org"]

[aliases]
"all@example.org" = ["ann", "bob"]

[servers.primary]
platform = "linux/arm64"
host = "primary.example.org"
"""


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        Config.parse(text)
    return caught.value.problems


def test_good_configuration_is_read_whole() -> None:
    config = Config.parse(GOOD)
    assert config.mailboxes["ann"].addresses == ("ann@example.org", "*@example.net")
    assert config.aliases == {"all@example.org": ("ann", "bob")}
    assert config.queue("primary") == "twinmail-primary"
    assert config.limits.message_bytes == 41943040
    assert (config.table, config.topic, config.function) == (
        "twinmail-index",
        "twinmail-manifest",
        "twinmail-processor",
    )


def test_who_may_write_from_which_address() -> None:
    config = Config.parse(GOOD)
    assert config.addresses_of("ann") == ("ann@example.org", "all@example.org")
    assert config.primary_address("ann") == "ann@example.org"
    assert config.catch_all_domains_of("ann") == ("example.net",)
    assert config.catch_all_domains_of("bob") == ()
    nameless = Config.parse(GOOD.replace('"bob@example.org"', '"*@example.org"').replace(', "bob"]', "]"))
    assert nameless.addresses_of("bob") == ()
    assert nameless.primary_address("bob") is None


def test_a_mailbox_has_the_quota_of_all_unless_it_has_its_own() -> None:
    config = Config.parse(
        GOOD.replace('["bob@example.org"]', '["bob@example.org"]\nquota_bytes = 50000000')
        + "[limits]\nquota_bytes = 100000000\n"
    )
    assert (config.quota_of("ann"), config.quota_of("bob")) == (100_000_000, 50_000_000)
    assert Config.parse(GOOD).quota_of("bob") == 10 * 1024**3


def test_a_server_has_search_unless_switched_off_and_the_rest_only_when_switched_on() -> None:
    server = Config.parse(GOOD).servers["primary"]
    assert (server.webmail, server.submission, server.full_text_search) == (False, False, True)
    switched = GOOD + "webmail = true\nsubmission = true\nfull_text_search = false\n"
    server = Config.parse(switched).servers["primary"]
    assert (server.webmail, server.submission, server.full_text_search) == (True, True, False)


def test_production_has_defaults_and_a_server_runs_in_one_place() -> None:
    config = Config.parse(GOOD)
    assert config.operator is None
    assert (config.budget, config.retention, config.dns) == (Budget(), Retention(), Dns())
    server = Config.parse(GOOD + 'addresses = ["192.0.2.1", "2001:db8::1"]\n[servers.primary.lightsail]\n')
    assert server.servers["primary"].lightsail == Lightsail()
    assert server.servers["primary"].addresses == ("192.0.2.1", "2001:db8::1")
    elsewhere = Config.parse(f"{GOOD}[servers.primary.lightsail]\n".replace("eu-central-1", "eu-west-1"))
    assert elsewhere.servers["primary"].lightsail == Lightsail(zone="eu-west-1a")
    kubernetes = Config.parse(
        GOOD
        + '[servers.primary.kubernetes]\ncontext = "pi"\ncomponents = ["cert-manager"]\nstorage_gb = 20\n'
        + 'nodes = ["pi@node1", "ssh://pi@node2:22"]\n'
    ).servers["primary"]
    assert kubernetes.kubernetes == Kubernetes(
        context="pi",
        storage_gb=20,
        components=("cert-manager",),
        nodes=("pi@node1", "ssh://pi@node2:22"),
    )
    assert kubernetes.lightsail is None


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        (
            "lightsail = {}\nkubernetes = {}",
            "servers.primary.kubernetes: a server runs in one place; lightsail is",
        ),
        ("lightsail = 1", "servers.primary.lightsail: expected a table, got 1"),
        (
            "[servers.primary.lightsail]\nsize = 1",
            "servers.primary.lightsail.size: unknown key; known here: bundle",
        ),
        (
            '[servers.primary.lightsail]\nssh_from = ["home"]',
            "servers.primary.lightsail.ssh_from: expected networks",
        ),
        (
            '[servers.primary.lightsail]\nzone = "eu-west-1a"',
            "servers.primary.lightsail.zone: expected a zone of eu-central-1, as 'region' says, got 'eu-west-1a'",
        ),
        (
            "[servers.primary.lightsail]\nsnapshot_hour = 24",
            "snapshot_hour: expected a whole number 0 to 23, got 24",
        ),
        (
            '[servers.primary.kubernetes]\ncomponents = ["ingress"]',
            "components: unknown 'ingress'; known: cert-",
        ),
        ('[servers.primary.kubernetes]\nnamespace = "a b"', "namespace: expected a DNS label, got 'a b'"),
        (
            '[servers.primary.kubernetes]\nnodes = ["-oProxyCommand=x"]',
            "kubernetes.nodes: expected NAME, USER@NAME or ssh://USER@NAME, got '-oProxyCommand=x'",
        ),
        (
            '[servers.primary.kubernetes]\nnodes = ["pi@node1"]\nregistry = "registry.example.org/ann"',
            "kubernetes.registry: images come from one place; nodes are given too",
        ),
        (
            '[servers.primary.kubernetes]\nregistry = "Registry.example.org"',
            "registry: expected HOST[:PORT][/PATH], in lower case, got 'Registry.example.org'",
        ),
        (
            'addresses = ["192.0.2.1", "home.example.org"]',
            "expected IP addresses, or one host name alone, got 'home",
        ),
        ('addresses = "192.0.2.1"', "servers.primary.addresses: expected a list of strings, got '192.0.2.1'"),
        ('[dns]\ndmarc = "yes"', "dns.dmarc: expected none or quarantine or reject, got 'yes'"),
        ("[dns]\nfailover = 1", "dns.failover: expected true or false, got 1"),
        ('[dns]\nmail_from = "a.b"', "dns.mail_from: expected a label such as bounce, got 'a.b'"),
        (
            '[dns]\nmail_from = "primary"',
            "dns.mail_from: primary.example.org is a domain or a server; expected a label not in use",
        ),
        ("[budget]\nmonth_usd = 0", "budget.month_usd: expected a number 0.01 to 100000, got 0"),
        ("[budget]\nvat_percent = true", "budget.vat_percent: expected a number 0 to 100, got True"),
        (
            "[packs]\nexpire_originals_days = 29",
            "packs.expire_originals_days: expected 0 (never) or a whole number 30 to 3650, got 29",
        ),
        ("[packs]\nwait_days = 0", "packs.wait_days: expected a whole number 1 to 3650, got 0"),
        ('[packs]\nenabled = "no"', "packs.enabled: expected true or false, got 'no'"),
        ("[usage]\nmessages_in = -1", "usage.messages_in: expected a whole number 0 to 100000000, got -1"),
        ("[usage]\nmessage_kb = 0", "usage.message_kb: expected a number 0.1 to 40960, got 0"),
        ("[retention]\nlog_days = 29", "retention.log_days: expected one of 1, 3, 5"),
        (
            "[retention]\narchive_days = -1",
            "retention.archive_days: expected a whole number 0 to 3650, got -1",
        ),
    ],
)
def test_each_problem_of_production_is_told(added: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.parse(f"{GOOD}{added}\n")
    assert expected in str(caught.value)
    assert len(caught.value.problems) == 1


def test_operator_is_an_address() -> None:
    assert Config.parse('operator = "ann@example.org"\n' + GOOD).operator == "ann@example.org"
    with pytest.raises(ConfigError, match="operator: expected an address that you read, got 'ann'"):
        Config.parse('operator = "ann"\n' + GOOD)


def test_operator_who_reads_mail_here_is_known() -> None:
    def here(address: str) -> bool:
        return Config.parse(f'operator = "{address}"\n' + GOOD).operator_is_here

    assert here("ann@EXAMPLE.org") and not here("ann@example.com")
    assert not Config.parse(GOOD).operator_is_here


@pytest.mark.parametrize(
    ("operator", "hint"),
    [
        ("", "operator is missing: nobody is told of alarms, nor of a month over budget"),
        (
            "ann@example.org",
            "operator: ann@example.org reads mail on this very system: an alarm that mail does not arrive "
            "may not arrive there; better give an address elsewhere",
        ),
        ("ann@example.com", None),
    ],
)
def test_operator_whom_alarms_may_not_reach_is_told(
    operator: str, hint: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "twinmail.toml"
    path.write_text((f'operator = "{operator}"\n' if operator else "") + GOOD)
    check(Context(), config=str(path))
    lines = [one for one in capsys.readouterr().out.splitlines() if one.startswith("hint: ")]
    assert lines == ([f"hint: {hint}"] if hint else [])
    check(Context(), config=str(path), json_=True)
    assert json.loads(capsys.readouterr().out)["hints"] == ([hint] if hint else [])


def test_bounces_go_to_a_subdomain_of_each_domain() -> None:
    assert Config.parse(GOOD).mail_from("example.net") == "bounce.example.net"
    other = Config.parse(f'{GOOD}[dns]\nmail_from = "return"\n')
    assert other.mail_from("example.org") == "return.example.org"


def test_committed_example_is_valid() -> None:
    config = Config.load(Path(__file__).parents[2] / "twinmail.toml")
    assert "pfeiffer.rocks" in config.domains


def test_receipt_rule_matches_whole_domains_only_where_there_is_a_catch_all() -> None:
    assert Config.parse(GOOD).receipt_recipients == (
        "example.net",
        "all@example.org",
        "ann@example.org",
        "bob@example.org",
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "stack =",
            "stak =",
            "twinmail.toml: stak: unknown key; known here: region, stack, bucket, domains, mailboxes, aliases, servers, limits, operator, budget, retention, dns, usage, packs",
        ),
        (
            '"eu-central-1"',
            '"Frankfurt"',
            "twinmail.toml: region: expected an AWS region such as eu-central-1, got 'Frankfurt'",
        ),
        (
            '"example-mail"',
            "7",
            "twinmail.toml: bucket: expected 3 to 63 lower-case letters, digits and '-', got 7",
        ),
        (
            '"example.net"]',
            '"exa mple.net"]',
            "twinmail.toml: domains: 'exa mple.net' is not a domain (write an international one as xn--…)",
        ),
        ('"example.net"]', '"Example.Org"]', "twinmail.toml: domains: 'example.org' is listed twice"),
        (
            '["ann", "bob"]',
            '["ann", "eve"]',
            "twinmail.toml: aliases.\"all@example.org\": unknown mailbox 'eve'; known: ann, bob",
        ),
        (
            '"bob@example.org"',
            '"ANN@example.org"',
            "twinmail.toml: mailboxes.bob.addresses: 'ann@example.org' already belongs to mailboxes.ann.addresses",
        ),
        (
            '"bob@example.org"',
            '"bob@elsewhere.org"',
            "twinmail.toml: mailboxes.bob.addresses: 'bob@elsewhere.org': domain 'elsewhere.org' is not in domains",
        ),
        (
            '"bob@example.org"',
            '"bob"',
            "twinmail.toml: mailboxes.bob.addresses: 'bob' is not an address; expected user@domain or *@domain",
        ),
        (
            '"all@example.org"',
            '"*@example.org"',
            "twinmail.toml: aliases.\"*@example.org\": '*@example.org' is not an address; expected user@domain",
        ),
        (
            '"linux/arm64"',
            '"arm64"',
            "twinmail.toml: servers.primary.platform: expected linux/amd64 or linux/arm64, got 'arm64'",
        ),
        (
            'host = "primary.example.org"',
            "",
            "twinmail.toml: servers.primary.host: missing; expected a host name",
        ),
        (
            'host = "primary.example.org"',
            'host = "primary.example.org"\nwebmail = "yes"',
            "twinmail.toml: servers.primary.webmail: expected true or false, got 'yes'",
        ),
        (
            '["bob@example.org"]',
            '["bob@example.org"]\nquota_bytes = 1000',
            "twinmail.toml: mailboxes.bob.quota_bytes: expected a number 41943040 to 1125899906842624, got 1000",
        ),
        (
            '["bob@example.org"]',
            '["bob@example.org"]\nfull_name = "Bob\\nBcc: eve"',
            "twinmail.toml: mailboxes.bob.full_name: expected at most 128 printable characters, got 'Bob\\nBcc: eve'",
        ),
        (
            "[mailboxes.bob]",
            "[mailboxes.webmail]",
            "twinmail.toml: mailboxes.webmail: the webmail's own name; choose another",
        ),
        (
            "[mailboxes.bob]",
            "[mailboxes.Bob]",
            "twinmail.toml: mailboxes.Bob: expected a name of lower-case letters, digits, '.', '_' and '-'",
        ),
    ],
)
def test_each_problem_is_one_line_with_file_and_key(old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert expected in problems(GOOD.replace(old, new))


def test_all_problems_are_reported_together() -> None:
    text = (
        GOOD.replace('"eu-central-1"', '"x"').replace('"linux/arm64"', '"x"')
        + "\n[limits]\nmessage_bytes = 1\n"
    )
    with pytest.raises(
        ConfigError, match=r"^3 problems in twinmail.toml:\n  twinmail.toml: region: "
    ) as caught:
        Config.parse(text)
    assert (
        caught.value.problems[-1]
        == "twinmail.toml: limits.message_bytes: expected a number 1024 to 41943040, got 1"
    )


def test_tables_of_the_wrong_type_are_problems_not_crashes() -> None:
    found = problems(
        'region = 1\nstack = []\nbucket = {}\ndomains = "x"\nmailboxes = 3\naliases = 4\nservers = []\nlimits = "l"'
    )
    assert len(found) == 8


def test_missing_file_and_bad_toml_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        Config.load(tmp_path / "twinmail.toml")
    assert problems("a = ")[0].startswith("not TOML: ")
    (tmp_path / "latin.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match="not UTF-8: octet 5"):
        Config.load(tmp_path / "latin.toml")


def test_empty_environment_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINMAIL_DEBIAN_MIRROR", "")
    monkeypatch.setenv("CI", "false")
    assert Environment.read().debian_mirror is None
    assert not Environment.read().ci
