"""The zone file that ``./inv dns --zone`` prints, to the octet, and as a reader of zone files understands it.

`tests.golden.regenerate` writes the files anew; look at the difference.
"""

from dataclasses import replace
from pathlib import Path

import dns.rdatatype
import dns.zonefile
import pytest

from tests.unit.dns_example import CONFIG, KNOWN, with_dns, with_server
from twinmail.dns.known import Known
from twinmail.dns.record_set import RecordSet, of_data
from twinmail.dns.wanted import Wanted, wanted
from twinmail.dns.zone import fragment

EXPECTED = Path(__file__).with_name("dns")

ELSEWHERE = with_dns(with_server("primary", host="mail.example.com"), failover=True)
WANTED = {
    "deployed.zone": (CONFIG, wanted(CONFIG, KNOWN)),
    "failover.zone": (ELSEWHERE, wanted(ELSEWHERE, KNOWN)),
    "not-deployed.zone": (CONFIG, wanted(CONFIG, Known())),
}


def made() -> dict[str, bytes]:
    """Every golden file, by its path."""
    return {name: fragment(found, config.domains).encode() for name, (config, found) in WANTED.items()}


@pytest.mark.parametrize("name", sorted(made()))
def test_as_expected(name: str) -> None:
    assert made()[name].decode() == (EXPECTED / name).read_text()


def test_nothing_else_is_expected() -> None:
    assert {path.name for path in EXPECTED.iterdir()} == set(made())


@pytest.mark.parametrize("name", sorted(WANTED))
def test_it_is_read_back_as_what_it_was_made_of(name: str) -> None:
    config, found = WANTED[name]
    fixed = [one for one in found.sets if not one.any_one]
    assert parsed(fragment(found, config.domains)) == {
        (one.name, one.type, one.ttl): sorted(one.values) for one in fixed
    }


def test_a_long_text_is_split_and_read_back_whole() -> None:
    text = "v=DMARC1; p=none; rua=" + ",".join(f"mailto:ann{number}@example.org" for number in range(40))
    one = RecordSet("_dmarc.example.org", "TXT", (text,), "reports")
    written = fragment(Wanted((one,), (), ()), ["example.org"])
    assert parsed(written) == {("_dmarc.example.org", "TXT", 3600): [text]}
    line = next(one for one in written.splitlines() if one.startswith("_dmarc"))
    assert max(len(part) for part in line.split('"')[1::2]) == 255


def test_what_is_not_known_is_a_comment() -> None:
    found = replace(wanted(CONFIG, KNOWN), gaps=("example.org: the DKIM records: wait",))
    assert "\n; Not known yet:\n; example.org: the DKIM records: wait\n" in fragment(found, CONFIG.domains)


def parsed(text: str) -> dict[tuple[str, str, int], list[str]]:
    # Of the root, every name is below; so none may be written relative to it.
    assert all(one.split()[0].endswith(".") for one in text.splitlines() if one[:1] not in ("", ";"))
    rrsets = dns.zonefile.read_rrsets(text, origin=".", relativize=False, rdclass=None)
    return {
        (one.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(one.rdtype), one.ttl): sorted(
            of_data(data) for data in one
        )
        for one in rrsets
    }
