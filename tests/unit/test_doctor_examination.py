"""Whatever hangs, fails or answers nonsense costs its own lines, and nobody else's."""

import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from tests.cloud import CONFIG
from twinmail.doctor import servers
from twinmail.doctor.examination import CHECKS, Check, ask, examine
from twinmail.doctor.finding import Finding, State
from twinmail.doctor.patient import Endpoint, Patient
from twinmail.server_page import Unreachable

PATIENT = Patient(CONFIG, lambda service: None, False, {}, {})


def well(subject: str) -> Finding:
    return Finding("a", subject, State.OK, "well")


def states(findings: Iterable[Finding]) -> dict[str, str]:
    return {one.subject: str(one.state) for one in findings}


@pytest.fixture
def never() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_what_was_found_before_the_time_was_over_is_kept(never: threading.Event) -> None:
    def slow(patient: Patient) -> Iterator[Finding]:
        yield well("first")
        never.wait(60)
        yield well("second")

    found = examine(PATIENT, (Check("a", "", slow),), seconds=0.3)
    assert states(found) == {"first": "ok", "a": "cannot tell"}


def test_a_dead_server_costs_its_own_lines_alone(never: threading.Event) -> None:
    def dead() -> list[str]:
        never.wait(60)
        return []

    def refused() -> list[str]:
        raise Unreachable("ssh: no route")

    check = next(one for one in CHECKS if one.name == "images")
    hangs = replace(PATIENT, images={"primary": dead, "backup": list})
    found = examine(hangs, (check,), seconds=0.3)
    assert states(found) == {"primary": "cannot tell", "backup": "ok"}
    found = examine(replace(PATIENT, images={"primary": refused, "backup": lambda: ["old"]}), (check,))
    assert states(found) == {"primary": "cannot tell", "backup": "problem"}
    assert "no route" in found[0].text


def test_every_server_is_looked_at_and_named() -> None:
    def asked(patient: Patient) -> Iterator[Finding]:
        yield from (well(f"{name} {','.join(patient.endpoints)}") for name in patient.servers)

    endpoints = {name: Endpoint("h", "h", {}, frozenset()) for name in CONFIG.servers}
    patient = replace(PATIENT, endpoints=endpoints)
    told: list[tuple[str, ...]] = []
    found = examine(
        patient, (Check("a", "", asked, by_server=True),), waiting=lambda names: told.append(tuple(names))
    )
    assert list(states(found)) == ["primary primary", "backup backup"]
    assert told[0] == ("a",)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NoCredentialsError(), "NoCredentialsError: Unable to locate credentials"),
        (TypeError("a list"), "TypeError: a list"),
        (AttributeError("no get"), "AttributeError: no get"),
    ],
)
def test_whatever_fails_is_a_line(error: Exception, said: str) -> None:
    def fails(patient: Patient) -> Iterator[Finding]:
        yield well("first")
        raise error

    first, second = ask(PATIENT, Check("a", "", fails))
    assert first.state is State.OK and second.state is State.UNKNOWN and second.text == said


def test_a_refusal_that_names_no_permission_names_the_call() -> None:
    def denied(patient: Patient) -> Iterator[Finding]:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "Access Denied"}}, "GetBucketPolicy")
        yield

    (found,) = ask(PATIENT, Check("bucket", "", denied))
    assert found.remedy.startswith("let this user call GetBucketPolicy: ./inv deploy policy")


class NoLog:
    """S3, of which nothing can be had."""

    def get_paginator(self, name: str) -> Any:
        raise NoCredentialsError()


def test_a_server_is_heard_although_nobody_knows_the_log() -> None:
    class Page:
        where = "here"

        def read(self, path: str, request: bytes | None = None) -> bytes:
            return json.dumps({"ready": True, "disk": {"free": 1, "total": 100}}).encode()

    patient = replace(PATIENT, pages={"primary": Page()}, client=lambda service: NoLog())
    found = examine(patient, (Check("servers", "", servers.servers, by_server=True),))
    disk = [one for one in found if one.subject == "primary, disk"]
    assert [one.state for one in disk] == [State.PROBLEM]
    assert any(one.state is State.UNKNOWN and "credentials" in one.text for one in found)


def test_a_page_of_nonsense_is_a_line_of_that_server() -> None:
    class Nonsense:
        where = "here"

        def read(self, path: str, request: bytes | None = None) -> bytes:
            return b"[]"

    patient = replace(PATIENT, pages={"primary": Nonsense()}, client=lambda service: NoLog())
    check = Check("servers", "", servers.servers, by_server=True)
    assert set(states(examine(patient, (check,))).values()) == {"cannot tell"}
