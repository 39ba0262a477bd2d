"""Bringing images up to date: what is built, when nothing is, and how differences are told."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests import package
from tests.golden import world
from twinmail.errors import PermanentError
from twinmail.oci import builder, check, difference, fetch, layout
from twinmail.oci.build import build
from twinmail.oci.builder import Place
from twinmail.oci.digests import FILE, Digests
from twinmail.oci.layer import write
from twinmail.oci.lint import LintError
from twinmail.oci.report import BuildReport
from twinmail.oci.spec import PLATFORMS
from twinmail.oci.stamp import unchanged
from twinmail.oci.tree import directory, file, link

PROJECT = Path(__file__).parents[2]
AMD64, ARM64 = PLATFORMS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    world.make(tmp_path)
    return tmp_path


def run(root: Path, *names: str, platforms: tuple[str, ...] = PLATFORMS, locked: bool = True) -> BuildReport:
    return build(Place.of(root), names, platforms, world.mirrors(root), world.Steps(), locked)


def idle(root: Path, *names: str, platforms: tuple[str, ...] = PLATFORMS, locked: bool = True) -> bool:
    return unchanged(root, Place.of(root).output, names, platforms, locked) is not None


def test_nothing_is_done_twice(root: Path) -> None:
    assert not idle(root)
    first = run(root)
    assert not first.unchanged
    assert idle(root)
    second = run(root)
    assert second.unchanged
    assert second.images == first.images
    assert second.layouts == first.layouts


@pytest.mark.parametrize(
    "place",
    [
        "images/base/image.toml",
        "images/app/image.lock",
        "images/app/rootfs/etc/app.conf",
        "images/app/rootfs/etc/new",
        "images/debug/image.toml",
        "src/pkg/module.py",
        ".twinmail/images/app/index.json",
    ],
)
def test_every_input_counts(root: Path, place: str) -> None:
    run(root)
    with (root / place).open("a") as stream:
        stream.write("\n")
    assert not idle(root)
    assert idle(root, "base") is (place.startswith(("images/app", "src", ".twinmail")))


def test_stray_files_do_not_count(root: Path) -> None:
    run(root)
    (root / "src/pkg/__pycache__/other.pyc").write_bytes(b"")
    (root / "README.md").write_text("x")
    assert idle(root)


def test_finding_nothing_to_do_needs_nothing_heavy(root: Path) -> None:
    run(root)
    program = f"""
import sys
sys.path.insert(0, {str(PROJECT / "src")!r})
from pathlib import Path
from twinmail.oci.stamp import unchanged
assert unchanged(Path({str(root)!r}), Path({str(root / ".twinmail/images")!r}), [], {PLATFORMS!r}, True)
print(*sorted(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"deflate", "urllib3", "rich", "tarfile", "lzma", "twinmail.oci.builder"} & set(
        done.stdout.split()
    )


def test_one_platform_at_a_time(root: Path) -> None:
    run(root, platforms=(ARM64,))
    assert idle(root, platforms=(ARM64,))
    assert not idle(root)
    # The platform that was up to date stays in the layout.
    run(root, platforms=(AMD64,))
    assert idle(root)
    assert sorted(layout.manifests(root / ".twinmail/images/app")["debug"]) == [AMD64, ARM64]


def test_an_image_brings_what_it_stands_on(root: Path) -> None:
    assert sorted(run(root, "base").layouts) == ["base"]
    assert sorted(run(root, "app").layouts) == ["app", "base"]


@pytest.mark.parametrize(
    ("names", "platforms", "text"),
    [
        (["gone"], PLATFORMS, "no image gone; known: base, app"),
        (["debug"], PLATFORMS, "no image debug; known: base, app"),
        ([], ("linux/riscv64",), "no platform 'linux/riscv64'; known: linux/amd64, linux/arm64"),
    ],
)
def test_unknown_names(root: Path, names: list[str], platforms: tuple[str, ...], text: str) -> None:
    with pytest.raises(PermanentError) as error:
        run(root, *names, platforms=platforms)
    assert str(error.value) == text


def test_a_mode_for_a_file_that_is_not_there(root: Path) -> None:
    with (root / "images/app/image.toml").open("a") as stream:
        stream.write('[[files]]\npath = "/usr/bin/gone"\nmode = "0700"\n')
    with pytest.raises(
        PermanentError, match=r"^app/image\.toml: files: /usr/bin/gone: no package and no file in rootfs"
    ):
        run(root)


def test_the_lint_stops_a_build(root: Path) -> None:
    with (root / "images/app/image.toml").open("a") as stream:
        stream.write('[links]\n"/usr/bin/broken" = "nowhere"\n')
    with pytest.raises(
        LintError, match=r"(?s)^app for linux/a.*/usr/bin/broken: leads to nowhere, which is not there"
    ):
        run(root)
    assert not (root / ".twinmail/images/app/index.json").exists()


def test_what_is_not_as_locked_is_said_and_not_taken_for_locked(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    octets = package.deb("tool", [package.member("./usr/bin/tool", b"newer")], "1.1")
    stand_in = root / world._keep(root, octets)
    locked_sha256 = hashlib.sha256(world.PACKAGES["app"]["tool"]).hexdigest()

    def fetch_all(*arguments: object, **named: object) -> dict[str, Path]:
        found = dict(real(*arguments, **named))  # type: ignore[arg-type]
        return found | {locked_sha256: root / ".twinmail/cache/sha256" / stand_in.name}

    real = fetch.fetch_all
    monkeypatch.setattr(builder, "fetch_all", fetch_all)
    report = run(root, locked=False)
    assert report.degraded == ("tool 1.0 has vanished; 1.1 stands in",)
    assert idle(root, locked=False)
    assert not idle(root, locked=True)
    bill = json.loads((root / ".twinmail/images/app.linux-amd64.spdx.json").read_text())
    assert {one["name"]: one["versionInfo"] for one in bill["packages"]}["tool"] == "1.1"
    monkeypatch.undo()
    assert run(root, locked=True).degraded == ()
    for line in difference.layouts(world.EXPECTED / "app", root / ".twinmail/images/app"):
        raise AssertionError(line)


def test_bill_of_materials(root: Path) -> None:
    report = run(root)
    bill = json.loads((root / ".twinmail/images/app.linux-arm64.spdx.json").read_text())
    assert bill["spdxVersion"] == "SPDX-2.3"
    assert bill["creationInfo"]["created"] == "2025-06-15T15:06:40Z"
    versions = {one["name"]: one["versionInfo"] for one in bill["packages"]}
    manifest = report.images["app"][ARM64].manifest
    assert versions == {
        "app": manifest,
        "authorities": "1.0",
        "base-files": "1.0",
        "tool": "1.0",
        "pure": "1.0",
    }
    purls = [one["externalRefs"][0]["referenceLocator"] for one in bill["packages"][1:]]
    assert "pkg:deb/debian/tool@1.0?arch=arm64&distro=debian-13" in purls
    assert "pkg:pypi/pure@1.0" in purls
    identifiers = {one["SPDXID"] for one in bill["packages"]} | {"SPDXRef-DOCUMENT"}
    for relation in bill["relationships"]:
        assert {relation["spdxElementId"], relation["relatedSpdxElement"]} <= identifiers


def test_committed_digests(root: Path) -> None:
    report = run(root)
    Digests.of(report).save(root)
    assert Digests.load(root).differences(report) == []
    (root / "src/pkg/module.py").write_text("thing = 2\n")
    changed = run(root)
    lines = Digests.load(root).differences(changed)
    before, after = report.images["app"][AMD64], changed.images["app"][AMD64]
    assert lines[0] == (
        f"images/digests.json: app for linux/amd64: expected manifest {before.manifest}, got {after.manifest}: "
        f"layer 4 (diff ID {after.diff_ids[4]}, expected {before.diff_ids[4]}) differs; "
        'if the change is intended, run "./inv build --pin" and commit it'
    )
    assert len(lines) == 2  # app for two platforms; base is what it was
    other = replace(before, debug="sha256:other")
    lines = Digests.load(root).differences(replace(report, images={"app": {AMD64: other}}))
    assert "app for linux/amd64: the debug variant: expected manifest sha256:" in lines[0]
    lines = Digests.load(root).differences(
        replace(report, images={"app": {AMD64: replace(before, manifest="x")}})
    )
    assert "the layers' contents are equal, so the config or the compression differs" in lines[0]
    assert "missing" in Digests({}).differences(report)[0]


def test_committed_digests_are_kept_for_other_images(root: Path) -> None:
    report = run(root)
    Digests.of(report).save(root)
    whole = (root / FILE).read_bytes()
    Digests.of(replace(report, images={"base": report.images["base"]})).save(root)
    assert (root / FILE).read_bytes() == whole


def test_building_twice_elsewhere(root: Path) -> None:
    shutil.copytree(PROJECT / "src/twinmail", root / "src/twinmail")
    shutil.copy(PROJECT / "requirements.lock", root)
    (root / "images/keys").mkdir()
    Digests.of(run(root)).save(root)
    assert check.check(root, [], PLATFORMS, world.mirrors(root), world.Steps()) == []
    (root / "images/app/rootfs/etc/app.conf").write_text("setting = 2\n")
    lines = check.check(root, ["app"], (AMD64,), world.mirrors(root), world.Steps())
    assert [line.partition(",")[0] for line in lines] == [
        f"{FILE}: app for linux/amd64: expected manifest {Digests.load(root).images['app'][AMD64]['manifest']}"
    ]
    assert not list((root / ".twinmail").glob("check-*"))


def test_fields_of_documents() -> None:
    one = json.dumps({"a": {"b": [1, 2]}, "c": "x"}).encode()
    other = json.dumps({"a": {"b": [1, 3]}, "d": "y"}).encode()
    assert difference.documents("doc", one, other) == [
        "doc: a.b[1]: 2 and 3",
        "doc: c: only in the first: x",
        "doc: d: only in the second: y",
    ]
    assert difference.documents("doc", one, one) == []
    assert difference.documents("doc", one, one + b" ") == ["doc: equal fields, but written differently"]


def test_entries_of_layers(tmp_path: Path) -> None:
    nodes = [directory("d"), file("d/x", b"1"), file("e", b""), link("l", "d")]
    first = write(nodes, 1, tmp_path)

    def lines(*changed: object, epoch: int = 1) -> list[str]:
        second = write(changed or nodes, epoch, tmp_path)  # type: ignore[arg-type]
        return difference.layers("layer", *(tmp_path / one.digest[7:] for one in (first, second)))

    assert lines(epoch=2)[0] == "layer: /d: mtime: 1 and 2"
    assert lines(directory("d", 0o700), *nodes[1:]) == ["layer: /d: mode: 0755 and 0700"]
    assert lines(nodes[0], file("d/x", b"2"), *nodes[2:])[0].startswith("layer: /d/x: content: sha256:6b86b2")
    assert lines(*nodes[:2], file("f", b""), nodes[3]) == [
        "layer: /e: only in the first",
        "layer: /f: only in the second",
    ]
    assert lines(*nodes[:3], link("l", "e")) == ["layer: /l: target: d and e"]
    assert lines(nodes[0], nodes[2], nodes[1], nodes[3]) == [
        "layer: order of entries: /d/x where the second has /e"
    ]
    many = [file(f"{number:03}", b"") for number in range(99)]
    assert lines(*many)[20:] == ["layer: and more"]


def test_compression_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"".join(b"%d" % number for number in range(9999))
    first = write([file("x", content)], 1, tmp_path)
    monkeypatch.setattr("twinmail.oci.layer.LEVEL", 1)
    second = write([file("x", content)], 1, tmp_path)
    assert first.diff_id == second.diff_id
    assert difference.layers("layer", *(tmp_path / one.digest[7:] for one in (first, second))) == [
        f"layer: equal tar archives, but compressed differently: {first.size} and {second.size} octets"
    ]
