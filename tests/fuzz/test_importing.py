"""Whatever is in old files: readers say what they cannot take, and never fail because of it."""

import io
import zipfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinmail.folder_name import is_folder_name
from twinmail.importing import mbox, moment
from twinmail.importing.canonical import canonical, with_smtp_lines
from twinmail.importing.files import Files
from twinmail.importing.folder_map import plan
from twinmail.importing.source import Folder, Mail, SourceBroken

LIMIT = 500
NOW = datetime(2026, 11, 23, tzinfo=UTC)

pieces = st.sampled_from(
    [
        b"From a@example.com Fri Feb 13 23:31:30 2009\n",
        b"From - Fri Feb 13 23:31:30 2009\r\n",
        b"From -\n",
        b">From x\n",
        b"\n",
        b"\r\n",
        b"Subject: x\n",
        b"Status: RO\n",
        b"X-Mozilla-Status: 0009\n",
        b"X-Mozilla-Status: zzzz\n",
        b"Date: Fri, 99 Feb 9999 99:99:99 +9999\n",
        b"Received: x; \xff\x00\n",
        b" continued\n",
        b"x" * 300,
    ]
)
octets = st.lists(pieces | st.binary(max_size=40), max_size=30).map(b"".join)


@settings(deadline=None)
@given(octets)
def test_any_mbox_is_read_to_its_end(data: bytes) -> None:
    for one in mbox.read("old", lambda: closing(io.BytesIO(data)), LIMIT, NOW, NOW):
        if isinstance(one, Mail):
            assert one.message and moment.possible(one.arrived, NOW) == one.arrived
            assert canonical(with_smtp_lines(one.message)) == canonical(one.message)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=octets, damage=st.integers(0, 10_000), octet=st.integers(0, 255))
def test_any_archive_is_read_or_refused(tmp_path: Path, data: bytes, damage: int, octet: int) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Inbox/1.eml", data)
        archive.writestr("Old.mbox", b"From a@example.com Fri Feb 13 23:31:30 2009\n" + data)
    packed = bytearray(path.read_bytes())
    packed[damage % len(packed)] = octet
    path.write_bytes(packed)
    try:
        source = Files([path], LIMIT)
        for folder in source.folders():
            list(source.read(folder, lambda one, mark: False))
    except SourceBroken as error:
        assert str(path) in str(error)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            Folder,
            levels=st.lists(st.text(max_size=20), max_size=5).map(tuple),
            role=st.sampled_from(["", "", "all", "sent", "junk", "flagged", "archive"]),
        ),
        max_size=6,
        unique=True,
    )
)
def test_any_folder_of_another_server_has_a_place_here(folders: list[Folder]) -> None:
    for folder, target in plan(folders).items():
        assert folder in folders and is_folder_name(target)
