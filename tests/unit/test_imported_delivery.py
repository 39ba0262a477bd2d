"""The syncer and imported messages: nobody is asked about them, and they wait for room like others."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.log_simulator import entry_of, moment
from tests.unit.test_filter_delivery import Server
from tests.unit.test_sync_quota import World, body
from twinmail.layout import manifest_key
from twinmail.manifest import Delivery, Entry
from twinmail.sync.outcome import Outcome

# Later than the script became active, so that only being imported keeps it from being asked about.
ARRIVED = datetime(2026, 11, 23, 12, tzinfo=UTC)
DELIVERY = Delivery("ann", "Projekte/Übersicht", ("\\Flagged", "\\Seen"), ("todo",))
PLACE = ".Projekte.&ANw-bersicht"


def imported(octets: bytes, arrived: datetime = ARRIVED) -> Entry:
    entry = entry_of("import-1", octets, arrived)
    return replace(entry, mail_from="", rcpt_to=(), deliveries=(DELIVERY,), imported=True)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.stop()


def test_no_filter_answer_or_list_of_senders_is_asked(tmp_path: Path) -> None:
    server = Server(tmp_path)
    octets = b"From: friend@example.com\r\nSubject: hello\r\n\r\nbody\r\n"
    entry, now = imported(octets, moment()), moment()
    server.source.put(entry.key, octets)
    server.source.put(manifest_key("import-1", now), entry.to_bytes())
    assert server.carry(manifest_key("import-1", now)) is Outcome.FINISHED
    assert not server.asked.questions and not server.store.objects
    (path,) = (server.mail / "ann" / "Maildir" / PLACE / "cur").iterdir()
    assert path.read_bytes() == octets and path.name.endswith(":2,FSa")
    # The same mailbox asks its script about what SES receives.
    assert server.carry(server.add("received")) is Outcome.FINISHED
    assert len(server.asked.questions) == 1


def test_imported_message_waits_for_room_and_comes_with_its_flags(world: World) -> None:
    assert world.carry(world.send(60_000)) is Outcome.FINISHED
    octets = body(60_000)
    entry, now = imported(octets), moment()
    key = manifest_key("import-1", now)
    world.log.put(entry.key, octets)
    world.log.put(key, entry.to_bytes())
    assert world.carry(key) is Outcome.WAITING
    world.chore.turn()
    assert world.waiting() == [key] and len(world.files()) == 1
    world.files()[0].unlink()
    world.chore.turn()
    (path,) = world.files()
    assert world.waiting() == [] and path.parent.parent.name == PLACE and path.name.endswith(":2,FSa")
