"""The builder's output, to the bit; see `tests.golden.regenerate`."""

import os
import time
from pathlib import Path

import pytest

from tests.golden import world
from twinmail.oci import difference


@pytest.fixture
def root(tmp_path: Path) -> Path:
    world.make(tmp_path)
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


@pytest.mark.parametrize("image", world.IMAGES)
def test_layout_is_the_expected_one(root: Path, image: str) -> None:
    built = world.build(root).layouts[image]
    lines = difference.layouts(world.EXPECTED / image, built)
    assert not lines, "\n".join([*lines, "python -m tests.golden.regenerate if that is intended"])
    assert files(built) == files(world.EXPECTED / image)


def test_time_zone_umask_and_file_times_change_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (root / "src").rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700 if path.is_dir() else 0o600)
    monkeypatch.setenv("TZ", "Pacific/Chatham")
    time.tzset()
    before = os.umask(0o077)
    try:
        built = world.build(root).layouts
    finally:
        os.umask(before)
        monkeypatch.undo()
        time.tzset()
    for image in world.IMAGES:
        assert files(built[image]) == files(world.EXPECTED / image)


def test_kept_layers_are_the_same_layers(root: Path) -> None:
    world.build(root)
    again = world.Steps()
    built = world.build(root, again).layouts
    assert again.steps == []
    assert files(built["app"]) == files(world.EXPECTED / "app")


def test_a_change_of_code_makes_one_layer(root: Path) -> None:
    first = world.build(root)
    (root / "src/pkg/module.py").write_text("thing = 2\n")
    steps = world.Steps()
    second = world.build(root, steps)
    assert {(image, text) for image, _, text in steps.steps} == {("app", "files of its own")}
    for platform, built in second.images["app"].items():
        before = first.images["app"][platform]
        assert built.layers[:-1] == before.layers[:-1]
        assert built.layers[-1] != before.layers[-1]
    lines = difference.layouts(world.EXPECTED / "app", second.layouts["app"])
    assert any("/usr/lib/python3/dist-packages/pkg/module.py: content: sha256:" in line for line in lines)
    # Blobs that only the first build had are gone, so the folder does not grow.
    assert len(files(second.layouts["app"])) == len(files(world.EXPECTED / "app"))


def test_layers_of_the_base_are_shared(root: Path) -> None:
    images = world.build(root).images
    for platform, built in images["app"].items():
        below = images["base"][platform].layers
        assert built.layers[: len(below)] == below
