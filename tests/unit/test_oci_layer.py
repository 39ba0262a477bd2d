"""The tar writer against the standard library's reader, and the blob against its digests."""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import deflate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmail.oci import layer
from twinmail.oci.tree import Kind, Node, directory, file, link

EPOCH = 1_750_000_000

# Any text that can be a path or the target of a link.
names = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=60)
paths = st.lists(names, min_size=1, max_size=8).map("/".join).filter(lambda path: "." not in path.split("/"))
modes = st.integers(0, 0o1777)
owners = st.integers(0, 2_000_000)
nodes = st.one_of(
    st.builds(lambda path, mode, uid: Node(path, Kind.FILE, mode, uid, 0, b"x" * mode), paths, modes, owners),
    st.builds(lambda path, mode, gid: Node(path, Kind.DIRECTORY, mode, 0, gid), paths, modes, owners),
    st.builds(lambda path, target: Node(path, Kind.LINK, 0o777, target=target), paths, paths),
)
TYPES = {Kind.FILE: tarfile.REGTYPE, Kind.LINK: tarfile.SYMTYPE, Kind.DIRECTORY: tarfile.DIRTYPE}


@given(st.lists(nodes, max_size=6))
def test_readers_find_what_was_written(entries: list[Node]) -> None:
    octets = b"".join(layer.archive(entries, EPOCH))
    assert len(octets) % 10240 == 0
    with tarfile.open(fileobj=io.BytesIO(octets)) as archive:
        found = archive.getmembers()
        assert len(found) == len(entries)
        for member, node in zip(found, entries, strict=True):
            assert (member.name, member.type) == (node.path, TYPES[node.kind])
            assert (member.mode, member.uid, member.gid) == (node.mode, node.uid, node.gid)
            assert (member.mtime, member.linkname, member.uname) == (EPOCH, node.target, "")
            if node.kind is Kind.FILE:
                stream = archive.extractfile(member)
                assert stream is not None
                assert stream.read() == node.content


@pytest.mark.parametrize("length", [99, 100, 101, 155, 156, 157, 256, 257, 300])
@pytest.mark.parametrize("cut", [1, 50, 100])
def test_paths_of_every_length(length: int, cut: int) -> None:
    path = f"{'d' * (length - cut - 1)}/{'n' * cut}" if length - cut > 1 else "n" * length
    octets = b"".join(layer.archive([file(path, b"")], EPOCH))
    with tarfile.open(fileobj=io.BytesIO(octets)) as archive:
        assert archive.getnames() == [path]


def test_headers_are_written_to_the_bit() -> None:
    # Known octets, so that a change of form is seen even if every reader accepts it.
    octets = b"".join(
        layer.archive([directory("usr"), file("usr/x", b"x", 0o755), link("y", "usr/x")], EPOCH)
    )
    assert (
        hashlib.sha256(octets).hexdigest()
        == "5bf71742232acf89c8a3fce5995ae9fc2028b4c1302d10e4d1060b89a5e4b509"
    )


def test_blob_digest_and_diff_id(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000  # more than two members
    made = layer.write([file("big", content)], EPOCH, tmp_path, "a test")
    blob = tmp_path / made.digest.removeprefix("sha256:")
    octets = blob.read_bytes()
    assert hashlib.sha256(octets).hexdigest() == blob.name
    assert len(octets) == made.size
    plain = gzip.decompress(octets)
    assert f"sha256:{hashlib.sha256(plain).hexdigest()}" == made.diff_id
    assert len(plain) == made.diff_size > 2 * layer.MEMBER
    assert made.nodes == {"big": Node("big", Kind.FILE)}
    assert octets[4:8] == bytes(4)  # no time in the gzip header
    assert [path.name for path in tmp_path.iterdir()] == [blob.name]


def test_the_compressor_is_the_pinned_one() -> None:
    # If this fails, every digest of every image is another one: see docs/adr/020.
    text = b"".join(b"line %d of a text that compresses well\n" % number for number in range(5000))
    member = deflate.gzip_compress(text, layer.LEVEL)
    assert (
        hashlib.sha256(bytes(member)).hexdigest()
        == "cb4b97c8f7b1ed65f0dec336d64c4050ca7135944c9914652dc9a1b7f8bb5f20"
    )
