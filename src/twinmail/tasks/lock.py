"""``./inv lock``: decide anew which exact packages and wheels the images consist of."""

from typing import Any

from twinmail.tasks.command import command
from twinmail.tasks.config import PROJECT


@command(
    help={"image": "only this image; may be given several times"},
    iterable=["image"],
)
def lock(context: Any, image: list[str]) -> None:
    """Resolve the images' packages from signed sources and write image.lock."""
    from twinmail.config import Environment
    from twinmail.oci.cache import PLACE, Cache
    from twinmail.oci.locking import lock as lock_images
    from twinmail.oci.mirrors import Mirrors
    from twinmail.oci.spec import ImageSpec, load_all
    from twinmail.oci.tool import DECLARATION
    from twinmail.tasks.progress import Display

    specs = load_all(PROJECT)
    # Not an image, but locked like one: the programs that deployments and tests start here.
    tools = ImageSpec.load(PROJECT / DECLARATION)
    specs[tools.name] = tools
    cache = Cache(PROJECT / ".twinmail" / PLACE)
    mirrors = Mirrors.of_machine(PROJECT, Environment.read().debian_mirror)
    with Display() as progress:
        for report in lock_images(specs, image or specs, cache, mirrors, progress):
            counts = ", ".join(
                f"{platform} {packages} packages {wheels} wheels"
                for platform, (packages, wheels) in sorted(report.counts.items())
            )
            print(f"{report.image}: {counts}, {report.octets / 1e6:.0f} MB")
            for line in report.changes:
                print(f"  {line}")
            for line in report.flags:
                print(f"  look at this: {line}")
