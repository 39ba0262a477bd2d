"""Writes tests/golden/{expected,client,deploy,dns} and docs/iam.md: ``.venv/bin/python -m tests.golden.regenerate``.

Look at the difference before committing it: every line of it is a difference in every image.
"""

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from tests.golden import test_client_profile as client
from tests.golden import test_deploy_files as deploy
from tests.golden import test_dns_zone as dns
from tests.golden import test_iam as permissions
from tests.golden import world
from twinmail import iam
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
    for made in (client, deploy, dns):
        shutil.rmtree(made.EXPECTED, ignore_errors=True)
        for name, data in made.made().items():
            path = made.EXPECTED / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    texts = (one.read_text() for one in (permissions.DOCUMENT, permissions.TEMPLATE, permissions.DEPLOYER))
    permissions.DOCUMENT.write_text(iam.documented(*texts))


if __name__ == "__main__":
    main()
