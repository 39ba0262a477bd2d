"""What the audit hears of a server: the page, the way to it, and what is made of what it says."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.log_simulator import LogSimulator, QueueSimulator, moment
from tests.unit.test_sync_service import BODY, Syncer
from twinmail import layout, versioned_json
from twinmail.audit.finding import Finding, Kind
from twinmail.audit.servers import Servers
from twinmail.audit.tally import Mark, Part, Tally
from twinmail.basename import base_name
from twinmail.delivery_lines import (
    DEEP,
    KEYS,
    PATH,
    Aside,
    Filed,
    Line,
    LinesCut,
    Recorded,
    Waits,
    decode,
    encode,
    failure,
)
from twinmail.deploy.reach import CommandPage
from twinmail.maildir import stem
from twinmail.server_page import LocalPage, Unreachable
from twinmail.sync import service as service_module
from twinmail.sync.health import Health

OLD = datetime(2026, 1, 1, tzinfo=UTC)
KEY = layout.manifest_key("m1", OLD)
STEM = stem(base_name(OLD, "m1", 0, 0))
EVERYTHING = (
    Recorded("ann", STEM),
    Filed("ann", STEM, 3, 17, 18, "0" * 64),
    Waits("ann", KEY),
    Aside(KEY, "of\tno\nform"),
)


class Said:
    """A server that says *looks*, one list of lines after the other."""

    where = "there"

    def __init__(self, *looks: list[Line]) -> None:
        self._looks = list(looks)

    def lines(self, path: str) -> Iterator[bytes]:
        yield from encode(self._looks.pop(0) if len(self._looks) > 1 else self._looks[0])

    def read(self, path: str, request: bytes | None = None) -> bytes:
        raise Unreachable("there: gone")


def audited(
    *servers: Said, until: datetime = datetime(2027, 1, 1, tzinfo=UTC)
) -> tuple[Servers, list[Finding]]:
    """What is found about one message of Ann, which is in the log."""
    with Tally() as tally:
        audit = Servers(tally, {f"s{number}": one for number, one in enumerate(servers)}, ("ann",))
        audit.listen()
        tally.add(
            [
                Mark("m1", Part.LOGGED, KEY),
                Mark("m1", Part.INDEXED, "", "ann"),
                Mark("m1", Part.INDEXED, "", "gone"),
            ]
        )
        tally.gather()
        return audit, list(audit.findings(until))


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ([], Kind.NOT_DELIVERED),
        ([Recorded("bob", STEM), Filed("bob", STEM, 0, 1, 1)], Kind.NOT_DELIVERED),
        ([Filed("ann", STEM, 0, 1, 1)], Kind.NOT_RECORDED),
        ([Waits("ann", KEY)], Kind.NO_ROOM),
        ([Aside(KEY, "of no form")], Kind.PUT_ASIDE),
        ([Recorded("ann", STEM), Filed("ann", STEM, 0, 1, 1), Filed("ann", STEM, 0, 1, 1)], Kind.TWICE),
        ([Recorded("ann", STEM), Filed("ann", STEM, 0, 1, 2)], Kind.CHANGED),
        ([Recorded("ann", STEM)], None),
        ([Recorded("ann", STEM), Filed("ann", STEM, 0, 1, 1), Filed("ann", STEM, 1, 1, 1)], None),
    ],
)
def test_what_a_server_says_and_what_it_is_found_to_be(lines: list[Line], kind: Kind | None) -> None:
    good = Said([Recorded("ann", STEM)])
    _, found = audited(good, Said(lines))
    assert [(one.kind, one.server, one.mailbox, one.key) for one in found] == (
        [(kind, "s1", "ann", KEY)] if kind else []
    )
    if kind is Kind.CHANGED:
        assert (
            "./inv restore --server s1 --mailbox ann --since 2026-01-01T00:00:00Z "
            "--until 2026-01-01T00:00:01Z --lost"
        ) in found[0].remedy
    if kind is Kind.PUT_ASIDE:
        assert found[0].detail == f"{KEY}: of no form"


def test_what_differs_at_one_of_two_looks_is_no_finding() -> None:
    there: list[Line] = [Recorded("ann", STEM), Filed("ann", STEM, 0, 1, 1)]
    assert audited(Said([], there))[1] == []
    assert audited(Said([*there, there[1]], [there[1]]))[1] == [], "in another way"
    assert audited(Said([]), until=OLD - timedelta(seconds=1))[1] == [], "on its way"


def test_a_server_that_says_nothing_is_named_and_the_other_is_audited() -> None:
    class Away(Said):
        def lines(self, path: str) -> Iterator[bytes]:
            raise Unreachable("there: no route")
            yield b""

    audit, found = audited(Away([]), Said([]), Said([Recorded("ann", "none-of-ours")]))
    assert audit.unreachable == {
        "s0": "there: no route",
        "s2": "deliveries: a message with a name that is none of ours",
    }
    assert [one.server for one in found] == ["s1"]
    assert audit.repair(found) == ["there: gone"]


def test_lines_are_read_as_they_were_written() -> None:
    octets = list(encode(EVERYTHING))
    assert list(decode(octets)) == [*EVERYTHING[:3], Aside(KEY, "of no form")]
    for cut, said in (
        (octets[:-1], "ended after 4 lines"),
        (octets[:2] + octets[3:], "after 3 lines"),
        ([b"<html>\n"], "expected 'twinmail deliveries 1', got '<html>'"),
        ([octets[0], b"F\tann\n"], "line 2: not of the form"),
        ([octets[0], failure("the disk\nis away")], "the disk is away"),
        ([], "ended after 0 lines"),
    ):
        with pytest.raises(LinesCut, match=said):
            list(decode(cut))


@pytest.fixture
def syncer(tmp_path: Path) -> Iterator[Syncer]:
    """A server with four messages of Ann, one of them also Bob's."""
    syncer = Syncer(tmp_path, LogSimulator(), QueueSimulator())
    for number in range(4):
        mailboxes = ("ann", "bob") if number == 3 else ("ann",)
        syncer.log.add(f"m{number}", BODY, moment(-10 + number), mailboxes)
    syncer.start(push=False).wait(4)
    yield syncer
    syncer.stop()


@pytest.fixture
def page(syncer: Syncer) -> Iterator[LocalPage]:
    one = syncer.service
    assert one is not None
    health = Health("127.0.0.1", 0, one.status, one.find, one.restore, one.deliveries, one.mend)
    yield LocalPage(f"127.0.0.1:{health.port}")
    health.close()


def mend(page: LocalPage, *keys: str) -> dict[str, str]:
    return dict(json.loads(page.read(PATH, versioned_json.write({"version": 1, "keys": list(keys)}))))


def test_the_page_tells_the_ledger_and_the_files(syncer: Syncer, page: LocalPage) -> None:
    for path in (PATH, DEEP):
        lines = list(decode(page.lines(path)))
        assert len([one for one in lines if isinstance(one, Recorded)]) == 5
        files = [one for one in lines if isinstance(one, Filed)]
        assert len(files) == 5 and all(one.octets == one.named == len(BODY) for one in files)
        assert {len(one.sha256) for one in files} == ({0} if path == PATH else {64})
    program = CommandPage("beside it", (sys.executable, "-"), int(page.where.partition(":")[2]))
    assert list(decode(program.lines(PATH))) == list(decode(page.lines(PATH)))
    with pytest.raises(Unreachable, match="beside it: expected 200, got 400"):
        list(program.lines(f"{PATH}?deep=2"))


def test_bad_requests_are_refused(syncer: Syncer, page: LocalPage) -> None:
    for path in (f"{PATH}?deep=yes", f"{PATH}?since=1"):
        with pytest.raises(Unreachable, match=r"got 400: expected /deliveries or /deliveries\?deep=1"):
            list(page.lines(path))
    for request in (
        b"",
        b'{"version": 1}',
        b'{"version": 1, "keys": [1]}',
        json.dumps({"version": 1, "keys": ["x"] * (KEYS + 1)}).encode(),
    ):
        with pytest.raises(Unreachable, match="409: request to mend: "):
            page.read(PATH, request)
    assert mend(page, "manifest/no") == {"manifest/no": "the log has no such entry"}


def test_a_server_without_the_page_says_so(syncer: Syncer) -> None:
    assert syncer.service is not None
    health = Health("127.0.0.1", 0, syncer.service.status)
    try:
        with pytest.raises(Unreachable, match="expected 200, got 404"):
            list(LocalPage(f"127.0.0.1:{health.port}").lines(PATH))
    finally:
        health.close()


def test_a_stream_is_made_as_it_is_read_and_by_one_at_a_time(syncer: Syncer) -> None:
    service = syncer.service
    assert service is not None
    with service.deliveries(False) as lines:
        next(lines)
        with pytest.raises(Exception, match="another audit"), service.deliveries(False):
            pass
        # Nothing was looked for before it was asked for.
        syncer.files()[0].unlink()
        assert (
            len([one for one in decode([b"twinmail deliveries 1\n", *lines]) if isinstance(one, Filed)]) == 4
        )
    with service.deliveries(False) as lines:
        assert len(list(lines)) == 11


def test_who_goes_away_in_the_middle_leaves_the_page_to_others() -> None:
    ended: list[bool] = []

    @contextmanager
    def reading(deep: bool) -> Iterator[Iterator[bytes]]:
        try:
            yield (b"x" * 1000 + b"\n" for _ in range(1_000_000_000))
        finally:
            ended.append(True)

    health = Health("127.0.0.1", 0, dict, reading=reading)
    try:
        lines = LocalPage(f"127.0.0.1:{health.port}").lines(PATH)
        next(lines)
        lines.close()  # type: ignore[attr-defined]
        from tests.log_simulator import until

        until(lambda: ended, "ended")
    finally:
        health.close()


def test_mending_adopts_what_is_there_and_fetches_what_is_not(syncer: Syncer, page: LocalPage) -> None:
    keys = sorted(one for one in syncer.log.objects if one.startswith(layout.MANIFEST))
    before = {path: path.read_bytes() for mailbox in ("ann", "bob") for path in syncer.files(mailbox)}
    carrier = syncer.service._carrier  # type: ignore[union-attr]
    assert carrier is not None
    stems = [stem(path.name) for path in syncer.files()]
    # The first was deleted by its user; of the others the ledger forgets everything.
    syncer.files()[0].unlink()
    syncer.files()[-1].unlink()
    carrier.ledger.forget({"ann": stems[1:], "bob": stems}, [])
    for _ in range(2):
        assert set(mend(page, *keys).values()) == {"finished"}
        after = {path: path.read_bytes() for mailbox in ("ann", "bob") for path in syncer.files(mailbox)}
        assert set(before) - set(after) == {next(iter(before))} and not set(after) - set(before)
        assert carrier.ledger.mailboxes(stems[3]) == {"ann", "bob"} and carrier.ledger.count() == 5


@pytest.mark.parametrize("ask", ["deliveries", "mend"])
def test_a_server_that_starts_says_so(syncer: Syncer, ask: str) -> None:
    assert syncer.service is not None
    syncer.service._deliveries = None
    call: Callable[[object], object] = getattr(syncer.service, ask)
    with pytest.raises(service_module.NotReady):
        call(b"")
