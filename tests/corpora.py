"""Real and malformed messages that others collected: CPython's, Perl's MIME-tools' and GMime's test data.

They come from Debian's source packages by locked hash, through the same cache and mirrors as the images;
the upstream tarballs, because those stay on the mirrors through all updates of a release. None is committed.
``PYTHONPATH=src:. .venv/bin/python -m tests.corpora`` locks the newest ones.
"""

import json
import re
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from twinmail.config import Environment
from twinmail.oci.apt import Apt
from twinmail.oci.cache import PLACE, Cache
from twinmail.oci.fetch import Silent, fetch_all
from twinmail.oci.lock import Package
from twinmail.oci.mirrors import Mirrors

ROOT = Path(__file__).parent.parent
LOCK = Path(__file__).parent / "corpora.lock"

# Source package, and what of its tarball is messages or may be sent as one (any octets may).
_PLACES = {
    "python3.13": re.compile(r"Lib/test/test_email/data/.+\.txt"),
    "libmime-tools-perl": re.compile(r"(testmsgs/.+\.msg|testin/.+(?<!\.gif|\.jpg|\.bin))"),
    "gmime": re.compile(r"tests/data/(?!mbox/output).+\.(eml|mbox|txt|html|b64|uu|qp|openpgp-block)"),
}
_MBOX_LINE = re.compile(rb"^From .*\r?\n", re.MULTILINE)


def messages() -> Iterator[tuple[str, bytes]]:
    """Name and octets, as collected, of every message; in the same order every time.

    An mbox gives each of its messages.

    Raises:
        TwinmailError: a tarball cannot be fetched.
    """
    yield from _messages()


@cache
def _messages() -> tuple[tuple[str, bytes], ...]:
    return tuple(_read())


def _read() -> Iterator[tuple[str, bytes]]:
    for package, path in _tarballs().items():
        with tarfile.open(path) as tarball:
            members = [one for one in tarball if one.isfile() and one.size]
            for member in sorted(members, key=lambda one: one.name):
                name = member.name.partition("/")[2]
                stream = tarball.extractfile(member) if _PLACES[package].fullmatch(name) else None
                if stream is None:
                    continue
                octets = stream.read()
                if not name.endswith(".mbox"):
                    yield f"{package}/{name}", octets
                    continue
                for index, one in enumerate(filter(None, _MBOX_LINE.split(octets))):
                    yield f"{package}/{name}/{index}", one


def _tarballs() -> dict[str, Path]:
    """The tarball of each source package."""
    document = json.loads(LOCK.read_text("utf-8"))
    items = [Package(**entry) for entry in document["sources"]]
    # Strict: a newer corpus would be another test.
    files = fetch_all(
        items, Cache(ROOT / ".twinmail" / PLACE), _mirrors().at(document["snapshot"]), Silent(), strict=True
    )
    return {item.name: files[item.sha256] for item in items}


def _mirrors() -> Mirrors:
    return Mirrors.of_machine(ROOT, Environment.read().debian_mirror)


def _lock() -> None:
    """Write the lock of what the signed source indexes name now."""
    mirrors = _mirrors()
    sources = [replace(one, kind="deb-src") for one in next(mirrors.sources())]
    apt = Apt(mirrors.state / "source", "amd64", mirrors.keyring, sources)
    apt.update()
    rows = []
    for name in _PLACES:
        one = next(file for file in apt.source(name) if ".orig.tar." in file.uri and file.uri[-4:] != ".asc")
        package = Package(name, one.version, mirrors.path(one.uri), one.size, one.sha256)
        row = {key: value for key, value in vars(package).items() if key != "scripts"}
        rows.append(json.dumps(row))
    snapshot = apt.newest_release().strftime("%Y%m%dT%H%M%SZ")
    text = f'{{\n"snapshot": "{snapshot}",\n"sources": [\n' + ",\n".join(rows) + "\n]\n}\n"
    LOCK.write_text(text, "utf-8")


if __name__ == "__main__":
    _lock()
    found = list(messages())
    sys.stdout.write(f"{len(found)} messages, {sum(len(octets) for _, octets in found)} octets\n")
