"""The syncer and a mail client add keywords to one folder at the same time, under Dovecot's own lock."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.image.asker import Asker, asker
from tests.image.conftest import IMAGES
from tests.image.dovecot import Dovecot, accounts_of
from twinmail.imap import session
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.interface import Runtime

EACH = 12  # of 26 letters that a folder has
_DELIVER = """
import json, sys, time
from datetime import UTC, datetime
from pathlib import Path
from twinmail.maildir import Maildir
maildir = Maildir(Path("/var/mail/twinmail/ann/Maildir"))
for number in range(int(sys.argv[1])):
    stem = f"{1600000000 + number}.{number:032x}.twinmail"
    staged = maildir.stage(stem, [b"Subject: x\\r\\n\\r\\nbody\\r\\n"], datetime.now(UTC))
    info = maildir.info("INBOX", "F" if number % 2 else "", [f"ours{number}", "both"])
    maildir.link(staged, "INBOX", f"{stem},S={staged.size},W={staged.vsize}", info)
    maildir.settle("INBOX", info)
    maildir.discard(staged.path)
    time.sleep(0.05)
print(json.dumps(info))
"""


@pytest.fixture(scope="module")
def syncer(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    server = Dovecot(runtime, IMAGES / "dovecot", host_platform(), tmp_path_factory.mktemp("keywords"))
    server.set_accounts(accounts_of(server.users))
    try:
        with asker(runtime, server.start("keywords"), IMAGES / "syncer") as one:
            yield one
    finally:
        server.stop()


def test_no_keyword_gets_another_name(syncer: Asker) -> None:
    with session(syncer.dovecot.account("ann")) as client:
        for number in range(EACH):
            client.append("INBOX", "", None, f"Subject: c{number}\r\n\r\nbody\r\n".encode())  # type: ignore[arg-type]
        client.select("INBOX")
        with ThreadPoolExecutor(1) as elsewhere:
            delivering = elsewhere.submit(
                syncer.container.exec, ["/usr/bin/python3", "-c", _DELIVER, str(EACH)], 120
            )
            for number in range(EACH):
                client.store(str(number + 1), "+FLAGS", f"(theirs{number} both)")
                client.noop()
            result = delivering.result()
        assert result.code == 0, result.output.decode()
        json.loads(result.output)
        client.select("INBOX")
        _, lines = client.fetch("1:*", "(FLAGS X-GUID)")
    found = {}
    for line in lines:
        assert isinstance(line, bytes)
        guid = re.search(rb"X-GUID ([^ )]+)", line)
        flags = re.search(rb"FLAGS \(([^)]*)\)", line)
        assert guid and flags, line
        found[guid[1].decode()] = set(flags[1].decode().split()) - {"\\Recent"}
    ours = {guid: flags for guid, flags in found.items() if guid.startswith("16000000")}
    assert len(found) == 2 * EACH and len(ours) == EACH
    for guid, flags in ours.items():
        number = int(guid.split(".")[1], 16)
        assert flags == {f"ours{number}", "both", *(["\\Flagged"] if number % 2 else [])}
    theirs = [flags for guid, flags in found.items() if guid not in ours]
    assert sorted(map(sorted, theirs)) == sorted(["both", f"theirs{number}"] for number in range(EACH))
    assert not list(syncer.dovecot.maildir("ann").glob("*.lock"))
