"""``./inv dns``: which records the domains need, whether the DNS has them, and writing them to Route 53."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from twinmail.errors import PermanentError
from twinmail.tasks.command import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinmail.config import Config
    from twinmail.dns.finding import Finding
    from twinmail.dns.known import Known
    from twinmail.dns.resolver import Resolver
    from twinmail.dns.route53 import Plan
    from twinmail.dns.wanted import Wanted

_FILE_WIDTH = 200
_STYLES = {"right": "green", "missing": "red", "wrong": "red", "unanswered": "yellow"}


@command(
    help={
        "zone": "print them as a fragment of a zone file",
        "check": "ask name servers, and say of each record whether it is right; exit code 1 if one is not",
        "resolver": "with --check: ask this one, IP or IP:PORT, and nobody else (default: the name servers "
        "of each zone, and this machine's resolver)",
        "apply": "write to Route 53 what differs there",
        "plan": "with --apply: say what would change, and change nothing",
        "yes": "with --apply: do not ask before the change",
        "config": "another configuration than twinmail.toml",
        "json": "print one JSON object",
    }
)
def dns(
    context: Any,
    zone: bool = False,
    check: bool = False,
    resolver: str = "",
    apply: bool = False,
    plan: bool = False,
    yes: bool = False,
    config: str = "",
    json_: bool = False,
) -> None:
    """Print the DNS records of the domains; --check asks whether they are there, --apply writes them."""
    from twinmail.config import Config
    from twinmail.dns.resolver import Resolver
    from twinmail.dns.wanted import wanted
    from twinmail.tasks import place

    given = {"--zone": zone, "--check": check, "--apply": apply}
    if sum(given.values()) > 1:
        both = " and ".join(name for name, on in given.items() if on)
        raise PermanentError(f"{both}: give one of them")
    if resolver and not check:
        raise PermanentError("--resolver goes with --check")
    if (plan or yes) and not apply:
        raise PermanentError(f"{'--plan' if plan else '--yes'} goes with --apply")
    if zone and json_:
        raise PermanentError("--zone and --json: give one of them")
    asker = Resolver.given(resolver) if resolver else Resolver.of_system() if check else None
    path = place.config_file(config)
    loaded = Config.load(path)
    if apply and not loaded.dns.route53:
        raise PermanentError(
            f"{path.name}: dns.route53 is false, so the zones are somewhere else: enter there by hand what "
            "./inv dns --zone prints, and look whether it is right with: ./inv dns --check"
        )
    known = _known(loaded, apply)
    found = wanted(loaded, known)
    if asker:
        _check(loaded, found, asker, json_)
    elif apply:
        _apply(loaded, found, plan, yes, json_)
    else:
        _print(loaded, found, known, zone, json_)


def _known(config: "Config", needed: bool) -> "Known":
    """What AWS says; without credentials nothing, unless it is *needed*."""
    import boto3

    from twinmail.dns import known
    from twinmail.tasks import place

    # SES signs in AWS alone, whatever runs here.
    if not needed and boto3.Session(region_name=config.region).get_credentials() is None:
        return known.Known(asked=False)
    return known.read(config, place.find(config, "", True).session)


def _print(config: "Config", wanted: "Wanted", known: "Known", zone: bool, as_json: bool) -> None:
    from twinmail.dns.zone import fragment

    if as_json:
        document = {
            "records": [asdict(one) for one in wanted.sets],
            "ses": {domain: asdict(one) for domain, one in known.identities.items()},
            "gaps": wanted.gaps,
            "notes": wanted.notes,
        }
        print(json.dumps(document))
        return
    if zone:
        print(fragment(wanted, config.domains), end="")
    else:
        _show_table(wanted)
    for note in wanted.notes:
        print(f"note: {note}", file=sys.stderr)
    for gap in wanted.gaps:
        print(f"not known yet: {gap}", file=sys.stderr)


def _show_table(wanted: "Wanted") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("name", "type", "value", "for"):
        table.add_column(title, overflow="fold", no_wrap=title == "type")
    for one in wanted.sets:
        values = ("\nelse " if one.any_one else "\n").join(one.values)
        table.add_row(one.name, one.type, values, one.purpose)
    # As plain text: what is between brackets in a record is no style. A file has lines of any length.
    width = None if sys.stdout.isatty() else _FILE_WIDTH
    Console(highlight=False, markup=False, emoji=False, width=width).print(table)


def _check(config: "Config", wanted: "Wanted", resolver: "Resolver", as_json: bool) -> None:
    from twinmail.certificate import names
    from twinmail.dns.check import check

    print(f"asking name servers for {len(wanted.sets)} record sets", file=sys.stderr, flush=True)
    hosts = [name for server in config.servers for name in names.names(config, server)]
    findings = check(wanted.sets, resolver, hosts)
    bad = [one for one in findings if not one.right]
    if as_json:
        document = {
            "right": not bad and not wanted.gaps,
            "findings": [one.document() for one in findings],
            "gaps": wanted.gaps,
            "notes": wanted.notes,
        }
        print(json.dumps(document))
    else:
        _show_findings(findings)
        for gap in wanted.gaps:
            print(f"not known yet: {gap}")
        for note in wanted.notes:
            print(f"note: {note}")
    for doubt in resolver.doubts:
        print(f"warning: {doubt}", file=sys.stderr)
    if bad or wanted.gaps:
        unknown = f", and {len(wanted.gaps)} lines are not known yet" if wanted.gaps else ""
        text = f"{len(bad)} of {len(findings)} record sets are not right{unknown}; see above"
        raise PermanentError("" if as_json else text)


def _show_findings(findings: "Sequence[Finding]") -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for one in findings:
        state = Text(f"{one.state.value:<11}", style=_STYLES[one.state.value])
        note = f"  ({one.note})" if one.note else ""
        console.print(Text.assemble(state, f"{one.type:<6}{one.name}{note}"))
        if one.right:
            continue
        for word, values in (("expected", one.expected), ("got", one.got)):
            if values:
                console.print(f"{'':11}{word + ':':<10}{' and '.join(values)}")
        console.print(f"{'':11}{'do:':<10}{one.remedy}")


def _apply(config: "Config", wanted: "Wanted", only_plan: bool, yes: bool, as_json: bool) -> None:
    from twinmail.dns import zone_change
    from twinmail.tasks import place

    client = place.find(config, "", True).session.client("route53")
    found = zone_change.look(client, config, wanted)
    lines = found.lines()
    if not as_json:
        _show_plan(found, wanted)
    applied = bool(lines) and not only_plan
    if applied:
        _agree(yes)
        zone_change.apply(client, config, found, _say)
    if as_json:
        document = {
            "changes": lines,
            "conflicts": [asdict(one) for one in found.conflicts],
            "without_zone": [asdict(one) for one in found.homeless],
            "gaps": wanted.gaps,
            "name_servers": found.name_servers,
            "applied": applied,
        }
        print(json.dumps(document))
    left = len(found.conflicts) + len(found.homeless) + len(wanted.gaps)
    if left:
        text = f"{left} record set{'s' if left > 1 else ''} could not be brought to Route 53; see above"
        raise PermanentError("" if as_json else text)


def _show_plan(plan: "Plan", wanted: "Wanted") -> None:
    lines = plan.lines()
    print("Route 53: " + ("changes:" if lines else "nothing to change"))
    for line in lines:
        print(f"  {line}")
    for conflict in plan.conflicts:
        print(f"  conflict: {conflict.line}")
    for name in dict.fromkeys(one.name for one in plan.homeless):
        print(f"  no zone in Route 53: {name}; make the zone, or enter the record where its zone is")
    for gap in wanted.gaps:
        print(f"  not known yet: {gap}")
    for zone, servers in plan.name_servers.items():
        names = ", ".join(one.rstrip(".") for one in servers)
        print(f"zone {zone}: the registrar must lead to {names}")


def _agree(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise PermanentError("there is no terminal to ask at; say --yes to write, --plan to look")
    if input("Write to Route 53? [y/N] ").strip().lower() not in ("y", "yes"):
        raise PermanentError("nothing has changed")


def _say(event: str) -> None:
    print(f"  {event}", file=sys.stderr, flush=True)
