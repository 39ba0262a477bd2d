"""Writes tests/golden/expected anew: ``.venv/bin/python -m tests.golden.regenerate`` from the checkout.

Look at the difference before committing it: every line of it is a difference in every image.
"""

import shutil
import tempfile
from pathlib import Path

from tests.golden import world
from twinmail.oci import difference


def main() -> None:
    """Build the world and replace what is expected."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        world.make(root)
        for image, built in world.build(root).layouts.items():
            expected = world.EXPECTED / image
            if expected.is_dir():
                for line in difference.layouts(expected, built):
                    print(f"{image}: {line}")
                shutil.rmtree(expected)
            shutil.copytree(built, expected)


if __name__ == "__main__":
    main()
