"""Every octet of DATA is in the stored object, whatever it is."""

import pytest

from tests.aws_account import Account, rule
from tests.contract.edge.conftest import Activate
from tests.edge_process import Client

HOSTILE = {
    "8-bit": b"Subject: \xe4\xf6\r\n\r\n" + bytes(range(128, 256)) + b"\r\n",
    "all octets": b"Subject: x\r\n\r\n"
    + bytes(one for one in range(256) if one not in b"\r\n") * 40
    + b"\r\n",
    "bare LF": b"Subject: x\nTo: y\n\nbody\n.\n\n.\nend\r\n",
    "bare CR": b"Subject: x\rTo: y\r\r\nbody\r.\r\r\n",
    "NUL": b"Subject: \0\r\n\r\n\0\0\r\n",
    "long lines": b"Subject: " + b"x" * 5000 + b"\r\n\r\n" + b"y" * 3_000_000 + b"\r\n",
    "2,000 headers": b"".join(b"X-%d: y\r\n" % one for one in range(2000)) + b"\r\nbody\r\n",
    "no headers": b"\r\nbody\r\n",
    "no empty line": b"Subject: x\r\n",
    "nothing": b"",
    "empty body": b"Subject: x\r\n\r\n",
    "dots": b".\r\n..\r\n.x\r\n\r\n.\r\n...\r\n",
    "UTF-8": "Subject: Grüße 🙂\r\n\r\nJürgen\r\n".encode(),
    "broken MIME": b'Content-Type: multipart/mixed; boundary="\r\n\r\n--\r\n--x\r\nContent-Type: ;\r\n\r\n=ZZ\r\n',
    "CR LF CR LF": b"\r\n" * 500,
    "ends with CR": b"Subject: x\r\n\r\nend\r\r\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_every_octet_is_stored(account: Account, client: Client, activate: Activate, name: str) -> None:
    activate(rule("all", ["example.org"], [account.store()]))
    content = HOSTILE[name]
    stored = account.get(f"incoming/{client.accepted(content, ['ann@example.org'])}")
    assert stored.startswith(b"Return-Path: <sender@example.com>\r\nReceived: from client.example.com (")
    assert stored.endswith(b"X-SES-RECEIPT;\r\n" + content)
    # What came behind the final dot in the same packet is the next command.
    client.docmd("MAIL", "FROM:<>")
    client.docmd("RCPT", "TO:<ann@example.org>")
    client.docmd("DATA")
    client.send(b"\r\nx\r\n.\r\nNOOP\r\nMAIL FROM:<>\r\n")
    assert [client.getreply()[0] for _ in range(3)] == [250, 250, 250]
