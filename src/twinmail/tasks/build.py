"""``./inv build``: make the images, show what they are, prove that they can be made again."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinmail.tasks.command import command
from twinmail.tasks.config import PROJECT

if TYPE_CHECKING:  # everything heavy is imported when there is something to build
    from twinmail.oci.report import BuildReport


@command(
    help={
        "image": "only this image and what it stands on; may be given several times",
        "platform": "linux/amd64 or linux/arm64 (default: both)",
        "json": "print one JSON object with every digest",
        "check": "build everything twice in different surroundings and compare with the committed digests",
        "locked": "stop if a locked file has vanished, instead of taking the newest version of it",
        "pin": "write the digests to images/digests.json, to be committed",
    },
    iterable=["image"],
)
def build(
    context: Any,
    image: list[str],
    platform: str = "",
    json_: bool = False,
    check: bool = False,
    locked: bool = False,
    pin: bool = False,
) -> None:
    """Build the images from their locks; what is up to date is left alone."""
    from twinmail.oci.spec import PLATFORMS

    platforms = (platform,) if platform else PLATFORMS
    if check:
        _check(image, platforms)
        return
    report = images(image, platforms, locked or pin)
    function = None if image else _function()
    if pin:
        from twinmail.deploy import pins
        from twinmail.oci.digests import Digests

        path = Digests.of(report).save(PROJECT)
        for one in (path.relative_to(PROJECT), *pins.save(PROJECT)):
            print(f"{one} written", file=sys.stderr)
    if json_:
        print(json.dumps({**report.to_json(), **({"function": function.name} if function else {})}))
    elif not report.unchanged:
        _show(report)
    else:
        print(f"{', '.join(report.images)}: up to date")
    if function and not json_:
        print(f"Lambda function: {function.relative_to(PROJECT)}")
    for line in report.degraded:
        print(f"warning: {line}: digests differ from the committed ones", file=sys.stderr)


def images(names: list[str], platforms: tuple[str, ...], locked: bool) -> "BuildReport":
    """Bring the images *names* (all without any) up to date, showing progress on standard error."""
    from twinmail.oci.stamp import unchanged

    output = PROJECT / ".twinmail" / "images"
    if done := unchanged(PROJECT, output, names, platforms, locked):
        return done

    from twinmail.config import Environment
    from twinmail.oci.build import build as build_images
    from twinmail.oci.builder import Place
    from twinmail.oci.mirrors import Mirrors
    from twinmail.tasks.progress import Display

    mirrors = Mirrors.of_machine(PROJECT, Environment.read().debian_mirror)
    with Display() as progress:
        return build_images(Place.of(PROJECT), names, platforms, mirrors, progress, locked)


def _function() -> Path:
    """Write the Lambda function's zip, named by its digest, and return its path."""
    from twinmail.config import FILE
    from twinmail.function_zip import build_function

    built = build_function(PROJECT / "src", PROJECT / "lambda" / "handler.py", PROJECT / FILE)
    path = PROJECT / ".twinmail" / "function" / f"{built.sha256}.zip"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob("*.zip"):
            old.unlink()
        path.write_bytes(built.data)
    return path


def _show(report: "BuildReport") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("image", "platform", "layers", "MB", "manifest")
    for name, platforms in report.images.items():
        for platform, built in sorted(platforms.items()):
            table.add_row(
                name, platform, str(len(built.layers)), f"{built.size / 1e6:.1f}", built.manifest[:19] + "…"
            )
    Console().print(table)


def _check(names: list[str], platforms: tuple[str, ...]) -> None:
    from twinmail.config import Environment
    from twinmail.errors import PermanentError
    from twinmail.oci.check import check as check_images
    from twinmail.oci.mirrors import Mirrors
    from twinmail.tasks.progress import Display

    began = time.monotonic()
    mirrors = Mirrors.of_machine(PROJECT, Environment.read().debian_mirror)
    with Display() as progress:
        problems = check_images(PROJECT, names, platforms, mirrors, progress)
    if problems:
        raise PermanentError("\n".join(problems))
    print(f"built twice, equal to the bit, as committed ({time.monotonic() - began:.0f} s)")
