"""Fetching from real HTTP servers, whole and broken."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.mirror import Server, Site, served
from twinmail.oci.cache import Cache
from twinmail.oci.fetch import Unreachable, Vanished, WrongFile, fetch_all
from twinmail.oci.index import Index
from twinmail.oci.lock import Package, Wheel
from twinmail.oci.mirrors import Mirrors
from twinmail.oci.transport import Transport

PLATFORM = "linux/amd64"


@dataclass
class Recorder:
    """A `Progress` that remembers."""

    started: list[tuple[int, int]] = field(default_factory=list)
    octets: int = 0
    warnings: list[str] = field(default_factory=list)

    def start(self, files: int, octets: int) -> None:
        self.started.append((files, octets))

    def advance(self, name: str, octets: int) -> None:
        self.octets += octets

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@dataclass
class Place:
    """A site, its server and an empty cache."""

    site: Site
    server: Server
    cache: Cache
    folder: Path
    progress: Recorder = field(default_factory=Recorder)

    @property
    def mirrors(self) -> Mirrors:
        return self.site.mirrors(self.folder, self.server.url)

    def fetch(
        self, *items: Package | Wheel, strict: bool = True, mirrors: Mirrors | None = None
    ) -> dict[str, Path]:
        transport = Transport(pause=0.001)
        index = Index(transport, (f"{self.server.url}/simple",))
        try:
            found = fetch_all(
                items, self.cache, mirrors or self.mirrors, self.progress, strict, transport, index
            )
            return dict(found)
        finally:
            transport.close()

    def cached(self) -> list[str]:
        return sorted(path.name for path in self.cache.folder.glob("*")) if self.cache.folder.exists() else []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    site = Site(tmp_path / "site")
    site.folder.mkdir()
    with served(site.folder) as server:
        yield Place(site, server, Cache(tmp_path / "cache"), tmp_path / "state")


def test_everything_is_fetched_once_and_then_comes_from_the_cache(place: Place) -> None:
    items = [place.site.add(f"pack{n}", "1.0")[PLATFORM] for n in range(20)]
    found = place.fetch(*items, *items)
    assert {path.name for path in found.values()} == {item.sha256 for item in items} == set(found)
    assert place.progress.started == [(20, sum(item.size for item in items))]
    assert place.progress.octets == sum(item.size for item in items)
    asked = len(place.server.asked)
    assert place.fetch(*items) == found
    assert len(place.server.asked) == asked == 20
    assert len(place.progress.started) == 1


def test_plus_and_tilde_in_versions_arrive(place: Place) -> None:
    item = place.site.add("pack", "1.0~rc1+deb13u7")[PLATFORM]
    assert place.fetch(item)[item.sha256].stat().st_size == item.size


@pytest.mark.parametrize("fault", [500, 503, 429, "truncate"])
def test_a_passing_fault_is_tried_again(place: Place, fault: int | str) -> None:
    item = place.site.add("pack", "1.0")[PLATFORM]
    place.server.faults[f"/{item.path}"] = [fault, fault]
    place.fetch(item)
    assert place.server.asked == [f"/{item.path}"] * 3
    assert place.progress.octets == item.size
    assert place.cached() == [item.sha256]


def test_a_fault_that_stays_is_no_reason_to_take_another_version(place: Place) -> None:
    item = place.site.add("pack", "1.0")[PLATFORM]
    place.site.add("pack", "2.0")
    place.site.publish()
    place.server.faults[f"/{item.path}"] = [500] * 9
    with pytest.raises(Unreachable, match=r"pack 1\.0 .*HTTP 500"):
        place.fetch(item, strict=False)


@pytest.mark.parametrize("fault", ["corrupt", "longer"])
def test_other_bytes_never_enter_the_cache(place: Place, fault: str) -> None:
    item = place.site.add("pack", "1.0")[PLATFORM]
    place.site.publish()
    place.server.faults[f"/{item.path}"] = [fault] * 9
    with pytest.raises(WrongFile) as caught:
        place.fetch(item, strict=False)
    assert "pack 1.0" in str(caught.value)
    assert "expected" in str(caught.value)
    assert place.cached() == []
    assert place.progress.octets == 0


def test_the_next_mirror_has_what_the_first_has_not(place: Place, tmp_path: Path) -> None:
    good, corrupt = place.site.add("good", "1.0")[PLATFORM], place.site.add("corrupt", "1.0")[PLATFORM]
    bad = tmp_path / "bad" / corrupt.path
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"\0" * corrupt.size)
    with served(tmp_path / "bad") as first:
        found = place.fetch(
            good, corrupt, mirrors=place.site.mirrors(place.folder, first.url, place.server.url)
        )
        assert len(found) == 2
        assert sorted(first.asked) == [f"/{corrupt.path}", f"/{good.path}"]


def test_a_dead_mirror_is_passed_over(place: Place) -> None:
    items = [place.site.add(f"pack{n}", "1.0")[PLATFORM] for n in range(3)]
    # The discard port: nothing listens.
    found = place.fetch(
        *items, mirrors=place.site.mirrors(place.folder, "http://127.0.0.1:9", place.server.url)
    )
    assert len(found) == 3


def test_the_archive_of_the_past_is_asked_last_at_the_locks_moment(place: Place, tmp_path: Path) -> None:
    item = place.site.add("pack", "1.0")[PLATFORM]
    archive, _, rest = item.path.partition("/")
    old = tmp_path / "past" / archive / "20261121T021046Z" / rest
    old.parent.mkdir(parents=True)
    (place.site.folder / item.path).rename(old)
    with served(tmp_path / "past") as past:
        mirrors = replace(place.mirrors, snapshot=past.url).at("20261121T021046Z")
        assert place.fetch(item, mirrors=mirrors)[item.sha256].read_bytes() == old.read_bytes()
    assert place.server.asked == [f"/{item.path}"]


def test_a_vanished_file_stops_a_strict_build(place: Place) -> None:
    item = place.site.add("pack", "1.0")[PLATFORM]
    (place.site.folder / item.path).unlink()
    place.site.add("pack", "2.0")
    place.site.publish()
    with pytest.raises(Vanished) as caught:
        place.fetch(item)
    assert str(caught.value) == (
        "1 locked file is gone from every mirror:\n"
        f"  pack 1.0 ({item.path}, sha256:{item.sha256[:12]}…): {place.server.url}/{item.path}: HTTP 404\n"
        'run "./inv lock" to lock what the mirrors have now, or set TWINMAIL_DEBIAN_MIRROR to a mirror that still '
        "has them"
    )


def test_a_vanished_file_is_replaced_by_the_newest_signed_one_and_said_so(place: Place) -> None:
    item, other = place.site.add("pack", "1.0")[PLATFORM], place.site.add("other", "1.0")[PLATFORM]
    (place.site.folder / item.path).unlink()
    newer = place.site.add("pack", "2.0")[PLATFORM]
    place.site.publish()
    found = place.fetch(item, other, strict=False)
    assert found[item.sha256].name == newer.sha256
    assert found[other.sha256].name == other.sha256
    (warning,) = place.progress.warnings
    assert "pack 1.0 has vanished" in warning
    assert "2.0" in warning
    assert "digests of the images will differ" in warning


def test_a_stand_in_must_be_signed_by_the_keys_we_trust(place: Place, tmp_path: Path) -> None:
    item = place.site.add("pack", "1.0")[PLATFORM]
    (place.site.folder / item.path).unlink()
    place.site.add("pack", "2.0")
    place.site.publish(key=Site(tmp_path).key)
    with pytest.raises(Vanished, match="not to be trusted"):
        place.fetch(item, strict=False)
    assert place.cached() == []


def test_a_stand_in_must_be_what_the_signed_index_says(place: Place) -> None:
    item = place.site.add("pack", "1.0")[PLATFORM]
    (place.site.folder / item.path).unlink()
    newer = place.site.add("pack", "2.0")[PLATFORM]
    place.site.publish()
    place.server.faults[f"/{newer.path}"] = ["corrupt"] * 9
    with pytest.raises(Vanished, match="expected sha256"):
        place.fetch(item, strict=False)
    assert place.cached() == []


def test_a_damaged_file_in_the_cache_is_fetched_again(place: Place) -> None:
    item = place.site.add("pack", "1.0")[PLATFORM]
    path = place.fetch(item)[item.sha256]
    path.write_bytes(b"short")
    assert place.fetch(item)[item.sha256].stat().st_size == item.size


def test_ctrl_c_stops_and_leaves_no_parts(place: Place) -> None:
    class Interrupting(Recorder):
        def advance(self, name: str, octets: int) -> None:
            raise KeyboardInterrupt

    items = [place.site.add(f"pack{n}", "1.0")[PLATFORM] for n in range(30)]
    place.progress = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        place.fetch(*items)
    assert place.cached() == []
    assert len(place.server.asked) < 30


@pytest.mark.parametrize("style", ["absolute", "relative"])
def test_wheels_come_from_the_simple_index(place: Place, style: str) -> None:
    body = place.site.add("pack", "1.0")[PLATFORM]
    octets = (place.site.folder / body.path).read_bytes()
    page, files = place.site.folder / "simple" / "some-thing", place.site.folder / "files"
    page.mkdir(parents=True)
    files.mkdir()
    (files / "some_thing-1.0-py3-none-any.whl").write_bytes(octets)
    base = place.server.url if style == "absolute" else "../.."
    (page / "index.html").write_text(
        f'<a href="{base}/files/some_thing-1.0-py3-none-any.whl#sha256={body.sha256}">some_thing</a>'
    )
    wheel = Wheel("some-thing", "1.0", "some_thing-1.0-py3-none-any.whl", body.size, body.sha256)
    assert place.fetch(wheel)[wheel.sha256].read_bytes() == octets


def test_a_vanished_wheel_stops_any_build(place: Place) -> None:
    wheel = Wheel("gone", "1.0", "gone-1.0-py3-none-any.whl", 10, "0" * 64)
    with pytest.raises(Vanished, match=r"gone 1\.0 .*HTTP 404"):
        place.fetch(wheel, strict=False)
