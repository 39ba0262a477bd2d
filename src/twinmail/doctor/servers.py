"""The servers: what their syncers say, how far behind the log they are, and which images they run."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

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
    """What each server says of itself, also while S3 does not say what is in the log."""
    log, refused = None, None
    try:
        log = _log(patient)
    except (BotoCoreError, ClientError) as error:
        refused = error
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
        yield from server_findings(name, said, log, patient.now())
    if refused is not None:
        raise refused


def server_findings(
    name: str, said: Mapping[str, Any], log: Sequence[str] | None, now: datetime
) -> Iterable[Finding]:
    """What the syncer of the server *name* *said*, beside the keys of the *log*, oldest first, if known."""
    found = []
    for trouble in troubles(said):
        if not trouble.startswith("its disk"):
            found.append(Finding("servers", name, State.PROBLEM, trouble, "./inv status says more"))
    yield from found or [
        Finding("servers", name, State.OK, f"well; {said.get('delivered', 0)} deliveries since it started")
    ]
    if log is not None:
        yield _lag(name, said, log, now)
    last = said.get("last") or {}
    text = f"{last['ses_id']} for {last['mailbox']}, {last['at']}" if last else "none since it started"
    yield Finding("servers", f"{name}, last message", State.OK, text)
    disk = said.get("disk") or {}
    if disk.get("total"):
        yield _disk(name, disk)
    if said.get("now"):
        yield clock_finding(name, datetime.fromisoformat(said["now"]) - now, "this machine")


def _lag(name: str, said: Mapping[str, Any], log: Sequence[str], now: datetime) -> Finding:
    subject, cursor = f"{name}, behind the log", str(said.get("cursor") or "")
    text = f"{int(said.get('backlog') or 0)} entries wait"
    # The oldest that it has not looked at: where mail comes all the time, the newest is always new.
    unseen = [one for one in log if one > cursor]
    if unseen and now - (since := ManifestKey.parse(unseen[0]).committed) > LAG:
        text = f"it has not looked at {len(unseen)} entries since {since:%Y-%m-%d %H:%M} UTC; {text}"
        return Finding("servers", subject, State.PROBLEM, text, "./inv status says why")
    return Finding("servers", subject, State.OK, text)


def _disk(name: str, disk: Mapping[str, int]) -> Finding:
    share = disk["free"] / disk["total"]
    text = f"{disk['free'] / 1e9:.1f} of {disk['total'] / 1e9:.1f} GB free"
    remedy = "make room, or take a larger disk; mail waits in S3 meanwhile"
    state = State.PROBLEM if share < FULL_DISK else State.WARNING if share < LOW_DISK else State.OK
    return Finding("servers", f"{name}, disk", state, text, "" if state is State.OK else remedy)


def _log(patient: Patient) -> Sequence[str]:
    """The keys of the last days' entries, oldest first."""
    pages, today = patient.client("s3").get_paginator("list_objects_v2"), patient.now()
    found = []
    for days in range(_DAYS - 1, -1, -1):
        prefix = layout.manifest_day((today - timedelta(days=days)).date())
        for page in pages.paginate(Bucket=patient.config.bucket, Prefix=prefix):
            found += [one["Key"] for one in page.get("Contents", ()) if _is_entry(one["Key"])]
    return found


def _is_entry(key: str) -> bool:
    try:
        ManifestKey.parse(key)
    except LayoutError:
        return False
    return True


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
