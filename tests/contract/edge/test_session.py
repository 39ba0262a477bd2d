"""The SMTP session of the inbound MX: what it offers, refuses and survives."""

import ssl
from concurrent.futures import ThreadPoolExecutor

from tests.aws_account import Account, rule
from tests.contract.edge.conftest import Activate
from tests.edge_process import Client, EdgeProcess, poll, running_edge

LIMIT = 40 * 1024 * 1024


def test_unknown_recipients_are_refused_and_the_others_served(
    account: Account, client: Client, activate: Activate
) -> None:
    activate(rule("all", ["ann@example.org", "example.net"], [account.store()]))
    client.docmd("MAIL", "FROM:<sender@example.com>")
    for unknown in ("bob@example.org", "ann@sub.example.net", "ann@example.com"):
        code, text = client.docmd("RCPT", f"TO:<{unknown}>")
        assert (code, text) == (550, f"5.1.1 <{unknown}>: mailbox unavailable".encode())
    assert client.docmd("DATA")[0] == 503
    for known in ("ann@example.org", "Ann+tag@EXAMPLE.org", "anybody@example.net"):
        assert client.docmd("RCPT", f"TO:<{known}>")[0] == 250
    client.docmd("DATA")
    client.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
    code, text = client.getreply()
    assert code == 250
    assert account.get(f"incoming/{text.decode().split()[1]}").endswith(b"Subject: x\r\n\r\nbody\r\n")


def test_nothing_is_accepted_without_an_active_rule(
    account: Account, client: Client, activate: Activate
) -> None:
    activate({**rule("off", ["example.org"], [account.store()]), "Enabled": False})
    client.docmd("MAIL", "FROM:<sender@example.com>")
    assert client.docmd("RCPT", "TO:<ann@example.org>")[0] == 550


def test_without_any_rule_nobody_is_unknown_yet(account: Account, client: Client, activate: Activate) -> None:
    activate(rule("all", ["example.org"], [account.store()]))
    client.docmd("MAIL", "FROM:<sender@example.com>")
    assert client.docmd("RCPT", "TO:<ann@example.org>")[0] == 250
    # As in a cloud that was started anew, and has no stack yet.
    account.ses.set_active_receipt_rule_set()
    poll(lambda: True if client.docmd("RCPT", "TO:<ann@example.org>")[0] == 451 else None, "no rules")
    # There was a rule when this recipient was taken.
    client.docmd("DATA")
    client.send(b"Subject: x\r\n\r\n.\r\n")
    assert client.getreply()[0] == 451


def test_oversize_is_refused_when_declared_and_when_not(
    account: Account, client: Client, activate: Activate
) -> None:
    activate(rule("all", ["example.org"], [account.store("oversize/")]))
    assert client.esmtp_features["size"] == str(LIMIT)
    assert client.docmd("MAIL", f"FROM:<a@example.com> SIZE={LIMIT + 1}")[0] == 552
    client.docmd("MAIL", "FROM:<a@example.com>")
    client.docmd("RCPT", "TO:<ann@example.org>")
    client.docmd("DATA")
    line = b"x" * 998 + b"\r\n"
    block = line * 1000
    for _ in range(LIMIT // len(block) + 1):
        client.send(block)
    client.send(b".\r\n")
    assert client.getreply()[0] == 552
    assert account.objects("oversize/") == []
    # The session goes on, and the largest message that is allowed is stored.
    largest = line * (LIMIT // len(line)) + b"y" * (LIMIT % len(line) - 2) + b"\r\n"
    assert len(largest) == LIMIT
    ses_id = client.accepted(largest, ["ann@example.org"])
    assert account.get(f"oversize/{ses_id}").endswith(largest)


def test_starttls_is_offered_and_discards_what_was_said_before(
    account: Account, client: Client, activate: Activate
) -> None:
    activate(rule("all", ["example.org"], [account.store()]))
    # The last line is "250 Ok", as SES writes it.
    assert {"starttls", "8bitmime", "size", "ok"} == set(client.esmtp_features)
    client.docmd("MAIL", "FROM:<a@example.com>")
    client.encrypt()
    assert "starttls" not in client.esmtp_features
    assert client.docmd("RCPT", "TO:<ann@example.org>")[0] == 503
    assert account.get(f"incoming/{client.accepted(b'secret', ['ann@example.org'])}").endswith(b"secret\r\n")


def test_commands_smuggled_before_the_handshake_are_not_executed(client: Client) -> None:
    client.send(b"STARTTLS\r\nMAIL FROM:<injected@example.com>\r\n")
    assert client.getreply()[0] == 220
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    assert client.sock is not None
    client.sock = context.wrap_socket(client.sock)
    client.file = None
    assert client.ehlo()[0] == 250
    assert client.docmd("MAIL", "FROM:<mine@example.com>")[0] == 250


def test_tls_policy_require_is_honoured(account: Account, client: Client, activate: Activate) -> None:
    activate(
        rule("strict", ["ann@example.org"], [account.store()], TlsPolicy="Require"),
        rule("lax", ["example.org"], [account.store()], TlsPolicy="Optional"),
    )
    client.docmd("MAIL", "FROM:<a@example.com>")
    assert client.docmd("RCPT", "TO:<ann@example.org>")[0] == 530
    assert client.docmd("RCPT", "TO:<bob@example.org>")[0] == 250
    client.encrypt()
    client.accepted(b"x", ["ann@example.org"])


def test_smtputf8_is_not_offered(client: Client) -> None:
    assert client.docmd("MAIL", "FROM:<a@example.com> SMTPUTF8")[0] in (501, 555)
    client.send("MAIL FROM:<ä@example.com>\r\n".encode())
    assert client.getreply()[0] == 500


def test_more_than_100_recipients_are_told_to_come_again(
    account: Account, client: Client, activate: Activate
) -> None:
    activate(rule("all", ["example.org"], [account.store()]))
    client.docmd("MAIL", "FROM:<a@example.com>")
    codes = [client.docmd("RCPT", f"TO:<u{number}@example.org>")[0] for number in range(101)]
    assert codes == [250] * 100 + [452]


def test_many_sessions_at_once_mix_nothing_up(
    account: Account, edge: EdgeProcess, activate: Activate
) -> None:
    activate(rule("all", ["example.org"], [account.store("many/")]))

    def send(number: int) -> list[tuple[str, bytes]]:
        contents = [b"Subject: %d\r\n\r\n" % number + b"%d\r\n" % one * 500 for one in range(10)]
        with Client(edge.inbound) as session:
            if number % 2:
                session.encrypt()
            return [(session.accepted(content, ["ann@example.org"]), content) for content in contents]

    with ThreadPoolExecutor(8) as pool:
        sent = [one for batch in pool.map(send, range(8)) for one in batch]
    assert len({ses_id for ses_id, _ in sent}) == 80
    for ses_id, content in sent:
        assert account.get(f"many/{ses_id}").endswith(b"\r\n" + content)


def test_a_client_that_hangs_up_stores_nothing(
    account: Account, edge: EdgeProcess, activate: Activate
) -> None:
    activate(rule("all", ["example.org"], [account.store("cut/")]))
    cut = Client(edge.inbound)
    cut.docmd("MAIL", "FROM:<>")
    cut.docmd("RCPT", "TO:<ann@example.org>")
    cut.docmd("DATA")
    cut.send(b"Subject: x\r\n\r\nhalf of it\r\n.")
    cut.close()
    with Client(edge.inbound) as session:
        ses_id = session.accepted(b"whole\r\n", ["ann@example.org"])
    assert account.objects("cut/") == [f"cut/{ses_id}"]


def test_sigterm_finishes_the_transaction_in_hand(account: Account, activate: Activate) -> None:
    with running_edge(account.endpoint) as own:
        activate(rule("all", ["example.org"], [account.store()]))
        idle, busy = Client(own.inbound), Client(own.inbound)
        busy.docmd("MAIL", "FROM:<>")
        poll(lambda: True if busy.docmd("RCPT", "TO:<ann@example.org>")[0] == 250 else None, "rule set")
        busy.docmd("DATA")
        busy.send(b"Subject: x\r\n\r\nfirst half, ")
        own.terminate()
        assert idle.getreply()[0] == 421
        busy.send(b"second half\r\n.\r\n")
        code, text = busy.getreply()
        assert code == 250
        assert busy.getreply()[0] == 421
        assert own.ended() == 0
        stored = account.get(f"incoming/{text.decode().split()[1]}")
        assert stored.endswith(b"first half, second half\r\n")


def test_while_the_rules_cannot_be_read_recipients_are_told_to_come_again() -> None:
    with running_edge("http://127.0.0.1:1") as own, Client(own.inbound) as session:
        session.docmd("MAIL", "FROM:<>")
        assert session.docmd("RCPT", "TO:<ann@example.org>")[0] == 451
