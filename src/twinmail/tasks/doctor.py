"""``./inv doctor``: what is wrong with the system, and what to do about it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinmail.errors import PermanentError
from twinmail.tasks.command import command
from twinmail.tasks.config import PROJECT
from twinmail.tasks.user import PLACE_HELP

if TYPE_CHECKING:
    from twinmail.config import Config
    from twinmail.doctor.finding import Finding
    from twinmail.doctor.patient import Endpoint, Patient
    from twinmail.tasks.place import Place

_MARKS = {"ok": "✓", "warning": "!", "problem": "✗", "cannot tell": "?", "not here": "–"}
_STYLES = {"ok": "green", "warning": "yellow", "problem": "red", "cannot tell": "magenta", "not here": "dim"}


@command(
    help={
        **PLACE_HELP,
        "only": "this check alone; may be given several times, or as words: ./inv doctor dns ports",
        "resolver": "ask this name server: IP, IP:PORT (default: this machine's, and those of the zones)",
    },
    iterable=["only"],
)
def doctor(
    context: Any,
    only: list[str],
    resolver: str = "",
    aws: bool = False,
    config: str = "",
    state: str = "",
    json_: bool = False,
) -> None:
    """Check everything an owner gets wrong. Exit code 1 if there is a problem; a warning is none."""
    from twinmail.config import Config
    from twinmail.doctor.examination import chosen, examine
    from twinmail.doctor.finding import State, worst
    from twinmail.tasks import place

    checks = chosen(only)
    path = place.config_file(config, state)
    loaded = Config.load(path)
    system = place.find(loaded, state, aws, signed_in=False)
    patient = _patient(loaded, path, system, resolver)
    with _progress(system.name) as waiting:
        found = examine(patient, checks, waiting=waiting)
    if json_:
        document = {"place": system.name, "findings": [one.document() for one in found]}
        print(json.dumps({**document, "state": worst(found)}))
    else:
        _print(found)
    count = sum(one.state is State.PROBLEM for one in found)
    if count:
        raise PermanentError("" if json_ else f"{count} problem{'' if count == 1 else 's'}; see above")


@contextmanager
def _progress(name: str) -> Iterator[Callable[[Sequence[str]], None]]:
    """Shows a person at a terminal what is still waited for."""
    from rich.console import Console

    # Standard output is for the findings; where nobody looks, Rich shows nothing.
    with Console(stderr=True).status(f"looking at {name} …") as shown:
        yield lambda names: shown.update(f"looking at {name}: {', '.join(names)} …")


def _patient(config: "Config", path: Path, system: "Place", resolver: str) -> "Patient":
    from botocore.config import Config as Calls

    from twinmail.deploy.cloud import Cloud
    from twinmail.deploy.primary import FOLDER
    from twinmail.dns.resolver import Resolver
    from twinmail.doctor.patient import Patient
    from twinmail.doctor.running import asks
    from twinmail.secret_store import SecretStore
    from twinmail.tasks import status
    from twinmail.tasks.deploy import SECRETS

    calls = Calls(connect_timeout=5, read_timeout=15, retries={"total_max_attempts": 2})
    client = partial(system.session.client, config=calls)
    local = system.description is not None
    return Patient(
        config,
        client,
        local,
        status.server_pages(config, system),
        _local(config, system) if local else _public(config),
        store=None if local else SecretStore(SECRETS),
        images={} if local else asks(config, PROJECT, SecretStore(SECRETS), PROJECT / FOLDER),
        resolver=(lambda: Resolver.given(resolver)) if resolver else Resolver.of_system,
        changes=lambda: Cloud.of(config, path, system.session).plan(keep=False).lines(config),
        month=lambda: status.month_usd(config, client),
        authority=str(system.state.tls / "ca.pem") if system.state else None,
    )


def _public(config: "Config") -> Mapping[str, "Endpoint"]:
    """What people need of each server; one at home may have other ports outside, which nobody here knows."""
    from twinmail.doctor.patient import Endpoint

    found = {}
    for name, server in config.servers.items():
        ports = {"IMAP": 993}
        if server.webmail:
            ports |= {"HTTPS": 443, "HTTP": 80}
        if server.submission:
            ports["submission"] = 465
        found[name] = Endpoint(server.host, server.host, ports, frozenset(ports) - {"HTTP"})
    return found


def _local(config: "Config", system: "Place") -> Mapping[str, "Endpoint"]:
    from twinmail.doctor.patient import Endpoint
    from twinmail.local.state import LOOPBACK

    assert system.description is not None
    ports = system.description.ports
    return {
        name: Endpoint(LOOPBACK, server.host, {"IMAP": ports[f"{name}-imaps"]}, frozenset({"IMAP"}))
        for name, server in config.servers.items()
        # A system that is on its way up has none yet.
        if f"{name}-imaps" in ports
    }


def _print(found: Sequence["Finding"]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for one in found:
        line = Text(f"{_MARKS[one.state]} ", style=_STYLES[one.state])
        subject = "" if one.subject == one.check else f" {one.subject}"
        line.append(f"{one.check}{subject}: {one.text}", style="")
        console.print(line)
        if one.remedy:
            console.print(Text(f"    → {one.remedy}"))
    counts = {name: sum(one.state == name for one in found) for name in _MARKS}
    console.print(Text(", ".join(f"{count} {name}" for name, count in counts.items() if count)))
