"""Who gets a message: the envelope decides, and nobody gets it twice."""

import smtplib

import pytest

from tests.e2e.conftest import CROWD, SERVERS, Running
from tests.e2e.mail import stored


def message(subject: str, to: str = "somebody@example.org") -> bytes:
    return f"From: sender@example.com\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nHello\r\n".encode()


def test_one_message_is_on_both_servers(running: Running) -> None:
    accepted = running.sender.send(message("one"), ["ann@example.org"])
    running.assert_once("ann", accepted)
    assert not stored(running.state.maildirs("primary"), "bob", accepted)


def test_both_servers_hold_it_under_the_same_name(running: Running) -> None:
    accepted = running.sender.send(message("guid"), ["ann@example.org"])
    running.assert_once("ann", accepted)
    names = {
        stored(running.state.maildirs(server), "ann", accepted)[0].name.partition(":")[0]
        for server in SERVERS
    }
    assert len(names) == 1


def test_forty_recipients_get_one_copy_each(running: Running) -> None:
    accepted = running.sender.send(message("forty"), [f"{name}@example.org" for name in CROWD])
    for name in CROWD:
        running.assert_once(name, accepted)


def test_bcc_recipient_gets_it_and_nobody_else_learns_of_it(running: Running) -> None:
    accepted = running.sender.send(
        message("bcc", to="ann@example.org"), ["ann@example.org", "bob@example.org"]
    )
    running.assert_once("ann", accepted)
    running.assert_once("bob", accepted)
    for server in SERVERS:
        with running.client(server, "ann") as client:
            assert b"bob" not in client.fetch(client.find(accepted)[0])


def test_plus_address_leads_to_its_user(running: Running) -> None:
    running.assert_once("bob", running.sender.send(message("plus"), ["bob+shop@example.org"]))


def test_catch_all_takes_what_nobody_else_does(running: Running) -> None:
    running.assert_once("carol", running.sender.send(message("any"), ["whatever.it.is@example.net"]))
    accepted = running.sender.send(message("exact"), ["ann@example.net"])
    running.assert_once("ann", accepted)
    assert not stored(running.state.maildirs("primary"), "carol", accepted)


def test_alias_leads_to_both_mailboxes_and_overlap_is_one_copy(running: Running) -> None:
    accepted = running.sender.send(message("team"), ["team@example.org", "ann@example.org"])
    running.assert_once("ann", accepted)
    running.assert_once("bob", accepted)


def test_two_domains_in_one_transaction(running: Running) -> None:
    accepted = running.sender.send(message("two"), ["ann@example.org", "carol@example.net"])
    running.assert_once("ann", accepted)
    running.assert_once("carol", accepted)


@pytest.mark.parametrize("recipient", ["nobody@example.org", "ann@example.com", "annn@example.org"])
def test_unknown_user_is_refused_in_the_conversation(running: Running, recipient: str) -> None:
    with pytest.raises(smtplib.SMTPResponseException) as caught:
        running.sender.send(message("unknown"), [recipient])
    assert caught.value.smtp_code == 550


def test_spam_goes_to_junk(running: Running) -> None:
    gtube = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
    accepted = running.sender.send(message("spam") + gtube + b"\r\n", ["ann@example.org"])
    running.assert_once("ann", accepted, "Junk")


def test_virus_stays_in_quarantine(running: Running) -> None:
    # The EICAR test file, in two parts so that a scanner does not stop this source file.
    eicar = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR" + rb"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
    accepted = running.sender.send(message("virus") + eicar + b"\r\n", ["ann@example.org"])
    after = running.sender.send(message("after the virus"), ["ann@example.org"])
    running.assert_once("ann", after)
    s3 = running.system.session().client("s3")
    listed = s3.list_objects_v2(Bucket="example-mail", Prefix="quarantine/")["Contents"]
    assert [one for one in listed if accepted.ses_id in one["Key"]]
    assert not stored(running.state.maildirs("primary"), "ann", accepted)
