"""The servers: what their syncers say, how far behind the log they are, and which images they run."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from twinmail import layout
from twinmail.doctor.account import clock_finding
from twinmail.doctor.finding import Finding, State
from twinmail.doctor.patient import Patient
from twinmail.layout import LayoutError, ManifestKey
from twinmail.server_page import Unreachable
from twinmail.status import LOW_DISK, troubles

LAG = timedelta(minutes=5)
"""A server that has not looked at an entry for so long is behind; it looks every minute."""
FULL_DISK = 0.03
_DAYS = 3


def servers(patient: Patient) -> Iterable[Finding]:
    """What each server says of itself."""
    newest = _newest(patient)
    for name in patient.servers:
        page = patient.pages.get(name)
        if page is None:
            text = "twinmail.toml does not say where it runs"
            remedy = f"give it a table [servers.{name}.lightsail] or [servers.{name}.kubernetes]"
            yield Finding("servers", name, State.UNKNOWN, text, remedy)
            continue
        try:
            said = json.loads(page.read("/status"))
        except (Unreachable, ValueError) as error:
            remedy = f"see whether it runs; bring it up again: ./inv deploy {_part(patient, name)}"
            yield Finding("servers", name, State.PROBLEM, f"does not answer: {error}", remedy)
            continue
        yield from server_findings(name, said, newest, patient.now())


def server_findings(
    name: str, said: Mapping[str, Any], newest: str | None, now: datetime
) -> Iterable[Finding]:
    """What the syncer of the server *name* *said*, beside the *newest* key of the log."""
    found = []
    for trouble in troubles(said):
        if not trouble.startswith("its disk"):
            found.append(Finding("servers", name, State.PROBLEM, trouble, "./inv status says more"))
    yield from found or [
        Finding("servers", name, State.OK, f"well; {said.get('delivered', 0)} deliveries since it started")
    ]
    yield _lag(name, said, newest, now)
    last = said.get("last") or {}
    text = f"{last['ses_id']} for {last['mailbox']}, {last['at']}" if last else "none since it started"
    yield Finding("servers", f"{name}, last message", State.OK, text)
    disk = said.get("disk") or {}
    if disk.get("total"):
        yield _disk(name, disk)
    if said.get("now"):
        yield clock_finding(name, datetime.fromisoformat(said["now"]) - now, "this machine")


def _lag(name: str, said: Mapping[str, Any], newest: str | None, now: datetime) -> Finding:
    subject, backlog = f"{name}, behind the log", int(said.get("backlog") or 0)
    if newest is None:
        return Finding("servers", subject, State.OK, f"the log had nothing in {_DAYS} days")
    try:
        committed, cursor = ManifestKey.parse(newest), said.get("cursor")
        seen = ManifestKey.parse(cursor).committed if cursor else None
    except LayoutError as error:
        return Finding("servers", subject, State.UNKNOWN, str(error))
    behind = now - committed.committed
    if (seen is None or seen < committed.committed) and behind > LAG:
        since = "nothing" if seen is None else f"entries up to {seen:%Y-%m-%d %H:%M} UTC"
        text = f"it has brought {since}; the newest is of {committed.committed:%Y-%m-%d %H:%M} UTC"
        return Finding("servers", subject, State.PROBLEM, f"{text}; {backlog} wait", "./inv status says why")
    return Finding("servers", subject, State.OK, f"{backlog} entries wait")


def _disk(name: str, disk: Mapping[str, int]) -> Finding:
    share = disk["free"] / disk["total"]
    text = f"{disk['free'] / 1e9:.1f} of {disk['total'] / 1e9:.1f} GB free"
    remedy = "make room, or take a larger disk; mail waits in S3 meanwhile"
    state = State.PROBLEM if share < FULL_DISK else State.WARNING if share < LOW_DISK else State.OK
    return Finding("servers", f"{name}, disk", state, text, "" if state is State.OK else remedy)


def _newest(patient: Patient) -> str | None:
    """The last key of the log, if it is of the last days."""
    s3, today = patient.client("s3"), patient.now()
    for days in range(_DAYS):
        prefix = layout.manifest_day((today - timedelta(days=days)).date())
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=patient.config.bucket, Prefix=prefix)
        keys: list[str] = [
            one["Key"] for page in pages for one in page.get("Contents", ()) if one["Key"].endswith(".json")
        ]
        if keys:
            return max(keys)
    return None


def images(patient: Patient) -> Iterable[Finding]:
    """Whether the containers of each server are the pinned images."""
    for name, ask in patient.images.items():
        differences = tuple(ask())
        remedy = f"./inv deploy {_part(patient, name)}"
        for one in differences:
            yield Finding("images", name, State.PROBLEM, one, remedy)
        if not differences:
            yield Finding("images", name, State.OK, "runs the pinned images")


def _part(patient: Patient, name: str) -> str:
    return "primary" if patient.config.servers[name].kubernetes else "backup"
