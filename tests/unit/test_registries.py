"""No committed file names a host that packages come from: machines say that themselves."""

import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from twinmail.oci.index import Index
from twinmail.oci.mirrors import SNAPSHOT, Mirrors
from twinmail.oci.transport import Transport

ROOT = Path(__file__).parents[2]


def registries() -> set[str]:
    """Hosts of this machine's apt and pip settings, and where pip's index sends its files from."""
    index = Index.of_machine(Transport())
    mirrors = Mirrors.of_machine(ROOT, None)
    urls = [*index.pages, *(base for bases in mirrors.archives.values() for base in bases)]
    urls += [remote.url for remote in index.files("pip")]
    return {host for url in urls if (host := urlsplit(url).hostname)} - {"127.0.0.1", "localhost"}


def test_no_committed_file_names_a_registry() -> None:
    hosts = registries()
    assert hosts, "this machine's pip has no index at all"
    # The operator's mirrors of the same things have other names; a whole domain is what must not appear.
    pattern = re.compile(r"(?<![\w.-])(" + "|".join(map(re.escape, sorted(hosts))) + r")(?![\w-])")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    found = []
    for name in listing.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file():
            text = path.read_text("utf-8", "replace").replace(urlsplit(SNAPSHOT).hostname or "", "")
            found += [f"{name}: {match[0]}" for match in pattern.finditer(text)]
    assert not found
