"""The parts of production one after another, and where that stops."""

from dataclasses import dataclass, field

import pytest

from twinmail.deploy import deployment
from twinmail.deploy.deployment import Outlook, Stopped
from twinmail.deploy.server_files import NoSecrets
from twinmail.errors import PermanentError


@dataclass
class Plan:
    changes: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        return self.changes


@dataclass
class Part:
    """A part with *changes* to be made; `events` are all parts'."""

    name: str
    events: list[str]
    changes: tuple[str, ...] = ()
    needs: list[str] = field(default_factory=list)
    fails: bool = False

    def plan(self, keep: bool = False) -> Plan:
        if self.needs and not set(self.needs) <= set(self.events):
            raise NoSecrets("secret x: not there; make it with: ./inv deploy cloud")
        return Plan(self.changes)

    def apply(self, plan: Plan, say: object) -> None:
        if self.fails:
            raise PermanentError("it is so; mend it")
        self.events.append(self.name)
        self.changes = ()


def test_a_plan_shows_all_parts_and_what_is_seen_later() -> None:
    events: list[str] = []
    parts = [
        Part("cloud", events, ("add a",)),
        Part("backup", events),
        Part("primary", events, needs=["cloud"]),
    ]
    assert list(deployment.outlook(parts)) == [
        Outlook("cloud", ("add a",)),
        Outlook("backup", ()),
        Outlook("primary", (), "secret x: not there; make it with: ./inv deploy cloud"),
    ]
    assert events == []


def test_what_no_earlier_part_would_make_is_an_error_at_once() -> None:
    with pytest.raises(NoSecrets):
        list(deployment.outlook([Part("cloud", []), Part("primary", [], needs=["cloud"])]))


def test_each_is_planned_again_when_those_before_it_are_there() -> None:
    events: list[str] = []
    parts = [
        Part("cloud", events, ("a",)),
        Part("backup", events),
        Part("primary", events, ("b",), ["cloud"]),
    ]
    said: list[str] = []
    assert deployment.deploy(parts, said.append) == ("cloud", "primary")
    assert said == ["cloud", "  a", "backup", "primary", "  b"]
    assert deployment.deploy(parts, said.append) == ()


def test_it_stops_where_one_fails_and_goes_on_from_there() -> None:
    events: list[str] = []
    broken = Part("backup", events, ("b",), fails=True)
    parts = [Part("cloud", events, ("a",)), broken, Part("primary", events, ("c",))]
    with pytest.raises(Stopped) as stopped:
        deployment.deploy(parts, lambda text: None)
    assert str(stopped.value) == (
        "backup: it is so; mend it\nnot tried yet: primary\n"
        "once that is put right, the same command goes on from here"
    )
    assert events == ["cloud"]
    broken.fails = False
    assert deployment.deploy(parts, lambda text: None) == ("backup", "primary")
