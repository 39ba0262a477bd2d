"""A checkout with three tiny images, made from hand-made packages: everything a build does, in 20 files."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from tests import package
from tests.package import folder, link, member
from twinmail.oci.builder import Builder, Place
from twinmail.oci.fetch import Silent
from twinmail.oci.lock import ImageLock, Package, PlatformLock, Wheel
from twinmail.oci.locking import inputs
from twinmail.oci.mirrors import Mirrors
from twinmail.oci.report import BuildReport
from twinmail.oci.spec import PLATFORMS, load_all

EXPECTED = Path(__file__).parent / "expected"
EPOCH = 1_750_000_000
IMAGES = ("base", "app")

CERTIFICATE = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n"

# By image: the packages of both platforms, in hand-made form.
PACKAGES: Mapping[str, Mapping[str, bytes]] = {
    "base": {
        "base-files": package.deb(
            "base-files",
            [
                folder("./"),
                folder("./tmp", 0o1777),
                folder("./usr"),
                folder("./usr/bin"),
                folder("./usr/lib"),
                folder("./var"),
                folder("./var/mail", 0o2775, gid=8, gname="mail"),
                link("./bin", "usr/bin"),
                link("./lib", "usr/lib"),
            ],
        ),
        "authorities": package.deb(
            "authorities",
            [
                # The second has no newline at its end; the bundle must still be well-formed.
                member("./usr/share/ca-certificates/mozilla/B.crt", CERTIFICATE % b"B"),
                member("./usr/share/ca-certificates/mozilla/A.crt", (CERTIFICATE % b"A").rstrip()),
                member("./usr/share/doc/authorities/copyright", b"free\n"),
                member("./usr/share/doc/authorities/README", b"nobody reads this\n"),
                member("./usr/share/man/man1/authorities.1", b"nor this\n"),
            ],
            compression="gz",
            control={"md5sums": b"0  usr/share/doc/authorities/copyright\n"},
        ),
    },
    "app": {
        "tool": package.deb(
            "tool",
            [
                folder("./var/mail", 0o700),  # the base's folder keeps its mode
                folder("./lib"),  # the base's link stays
                member("./lib/tool/data", b"in a merged /usr\n"),
                member("./usr/bin/tool", b"#!/bin/tool\n", mode=0o4755),
                member("./usr/share/tool/unwanted/x", b"left out\n"),
                member("./usr/share/tool/unwanted/wanted", b"taken back\n"),
                member(f"./usr/share/tool/{'long' * 40}/name", b"a path beyond the header\n"),
                member("./usr/share/tool/größe", b"a name beyond ASCII\n"),
                link("./usr/share/tool/data", "/lib/tool/data"),
            ],
            control={"postinst": b"exit 1  # never runs\n"},
        ),
    },
    "debug": {"shell": package.deb("shell", [member("./bin/sh", b"a shell\n", mode=0o755)], compression="")},
}

WHEEL = package.wheel(
    {
        "pure/__init__.py": b"VALUE = 1\n",
        "pure/run.sh": b"#!/bin/sh\n",
        "pure-1.0.data/data/share/pure/data": b"data\n",
        "pure-1.0.data/scripts/pure": b"#!python\n",
        "pure-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: pure\nVersion: 1.0\n",
        "pure-1.0.dist-info/RECORD": b"",
    },
    executable=["pure/run.sh"],
)

DECLARATIONS: Mapping[str, str] = {
    "base": """
name = "base"
packages = ["base-files", "authorities"]

[links]
"/etc/localtime" = "/usr/share/zoneinfo/UTC"

[[users]]
name = "root"
uid = 0
gid = 0

[[users]]
name = "twinmail"
uid = 1000
gid = 1000

[[files]]
path = "/usr/share/zoneinfo/UTC"
content = "UTC"

[config]
entrypoint = ["/usr/bin/init", "--"]
cmd = ["hello"]
user = "1000:1000"
env = { PATH = "/usr/bin", BASE = "yes" }
""",
    "app": """
name = "app"
base = "base"
packages = ["tool"]
exclude = ["/usr/share/tool/unwanted", "!/usr/share/tool/unwanted/wanted"]

[python]
requirements = "requirements.txt"
sources = ["src/pkg"]
distribution = "pkg"

[python.entry_points."a.group"]
"name:x" = "pkg.module:thing"

[[files]]
path = "/usr/bin/tool"
mode = "0750"
gid = 1000

[[directories]]
path = "/var/lib/app"
mode = "0700"
uid = 1000
gid = 1000

[[users]]
name = "app"
uid = 1001
gid = 1000

[config]
entrypoint = ["/usr/bin/tool"]
env = { BASE = "no", APP = "yes" }
stop_signal = "SIGINT"
labels = { "org.example.label" = "value" }
""",
    "debug": """
name = "debug"
packages = ["shell"]
""",
}

FILES: Mapping[str, str] = {
    "images/app/requirements.txt": "pure==1.0\n",
    "images/app/rootfs/etc/app.conf": "setting = 1\n",
    "images/app/rootfs/var/mail/README": "in a folder of the base\n",
    "src/pkg/__init__.py": "",
    "src/pkg/module.py": "thing = 1\n",
    "src/pkg/__pycache__/module.cpython-311.pyc": "stray",
}


def make(root: Path) -> None:
    """Write the checkout to *root*, its downloads included."""
    for image, text in DECLARATIONS.items():
        _write(root / "images" / image / "image.toml", text.encode())
    for name, text in FILES.items():
        _write(root / name, text.encode())
    specs = load_all(root)
    wheel = Wheel("pure", "1.0", "pure-1.0-py3-none-any.whl", len(WHEEL), _keep(root, WHEEL))
    for image, packages in PACKAGES.items():
        found = tuple(
            Package(name, "1.0", f"debian/pool/{name}_1.0_all.deb", len(octets), _keep(root, octets))
            for name, octets in sorted(packages.items())
        )
        platform = PlatformLock(found, (wheel,) if image == "app" else ())
        lock = ImageLock(EPOCH, "20250615T000000Z", inputs(specs, image), dict.fromkeys(PLATFORMS, platform))
        lock.save(root / "images" / image / "image.lock")


class Steps(Silent):
    """A progress that remembers what was made."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str, str]] = []

    def step(self, image: str, platform: str, text: str) -> None:
        """Remember it."""
        self.steps.append((image, platform, text))


def mirrors(root: Path) -> Mirrors:
    """Nothing to download from: everything is in the cache."""
    return Mirrors({}, root / "keyring", root / "apt", snapshot="http://127.0.0.1:9")


def build(root: Path, progress: Steps | None = None) -> BuildReport:
    """Build all images of the checkout at *root* that `make` wrote."""
    builder = Builder(load_all(root), Place.of(root), mirrors(root), progress or Steps(), locked=True)
    (root / ".twinmail/images").mkdir(parents=True, exist_ok=True)
    return builder.build(list(IMAGES), PLATFORMS)


def _keep(root: Path, octets: bytes) -> str:
    digest = hashlib.sha256(octets).hexdigest()
    _write(root / ".twinmail/cache/sha256" / digest, octets)
    return digest


def _write(path: Path, octets: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(octets)
