"""A small OCI image layout made of this machine's own bash and a few programs, for tests of the runtimes."""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROGRAMS = ("bash", "cat", "env", "id", "ls", "mkdir", "sleep", "stat", "touch")
PASSWD = "root:x:0:0:root:/root:/usr/sbin/nologin\ntwinmail:x:1000:1000::/home/twinmail:/usr/sbin/nologin\n"
GROUP = "root:x:0:\ntwinmail:x:1000:\n"
CONFIG: dict[str, Any] = {
    "User": "1000:1000",
    "Env": ["PATH=/bin", "FROM_IMAGE=yes", "REPLACED=image"],
    "Entrypoint": ["/bin/bash", "-c"],
    "Cmd": ["echo default command"],
    "WorkingDir": "/work",
}


class Layout:
    """An image layout under construction in *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = folder / "blobs" / "sha256"
        self.blobs.mkdir(parents=True)
        self.descriptors: list[dict[str, Any]] = []

    def add_blob(self, media_type: str, data: bytes) -> dict[str, Any]:
        """Store *data* and return its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        (self.blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def add_image(
        self, layers: Sequence[bytes], config: Mapping[str, Any], platform: str, reference: str | None = None
    ) -> str:
        """Add an image of uncompressed tars; return the digest of its config."""
        os_name, _, architecture = platform.partition("/")
        document = {
            "os": os_name,
            "architecture": architecture,
            "config": dict(config),
            "rootfs": {
                "type": "layers",
                "diff_ids": ["sha256:" + hashlib.sha256(one).hexdigest() for one in layers],
            },
            "history": [{"created_by": "tests"} for _ in layers],
        }
        stored = self.add_blob("application/vnd.oci.image.config.v1+json", json.dumps(document).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": stored,
            "layers": [
                self.add_blob("application/vnd.oci.image.layer.v1.tar+gzip", gzip.compress(one, 1, mtime=0))
                for one in layers
            ],
        }
        descriptor = self.add_blob(manifest["mediaType"], json.dumps(manifest).encode())  # type: ignore[arg-type]
        descriptor["platform"] = {"os": os_name, "architecture": architecture}
        if reference:
            descriptor["annotations"] = {"org.opencontainers.image.ref.name": reference}
        self.descriptors.append(descriptor)
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (self.folder / "index.json").write_text(
            json.dumps({"schemaVersion": 2, "manifests": self.descriptors})
        )
        return str(stored["digest"])


def tar(entries: Mapping[str, bytes | str | None], modes: Mapping[str, int] | None = None) -> bytes:
    """A layer: file contents, link targets (str) or folders (None) by path."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.mode = (modes or {}).get(name, 0o755)
            if content is None:
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def programs() -> dict[str, bytes | str | None]:
    """`PROGRAMS` below bin, and the libraries they need where the loader looks for them."""
    entries: dict[str, bytes | str | None] = {"bin": None}
    for name in PROGRAMS:
        program = shutil.which(name)
        assert program, name
        entries[f"bin/{name}"] = Path(program).read_bytes()
        # "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)" or "/lib64/ld-linux-x86-64.so.2 (0x…)"
        listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"(/\S+) \(0x", listing):
            path = os.path.normpath(library).lstrip("/")
            for parent in reversed(Path(path).parents[:-1]):
                entries.setdefault(str(parent), None)
            entries[path] = Path(library).read_bytes()
    return entries


def build(folder: Path, platform: str) -> str:
    """Make the layout; return the digest of the image's config."""
    lower = {
        **programs(),
        "etc": None,
        "etc/passwd": PASSWD.encode(),
        "etc/group": GROUP.encode(),
        "etc/layer": b"lower\n",
        "etc/only-lower": b"lower\n",
        "etc/empty-folder": None,
        "run": None,
        "tmp": None,
        "proc": None,
        "dev": None,
        "work": None,
        "var": None,
        "var/run": "/run",
    }
    upper: dict[str, bytes | str | None] = {"etc": None, "etc/layer": b"upper\n", "etc/link": "layer"}
    return Layout(folder).add_image([tar(lower), tar(upper)], CONFIG, platform)
