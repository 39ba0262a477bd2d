"""Vacation answers and redirects of two servers that both deliver the message."""

from tests.e2e.conftest import Running
from tests.e2e.people import sent_to, stranger, use_script, wait

AWAY = (
    'require ["vacation"];\r\n'
    'vacation :days 3 :subject "Away" :from "Boss <boss@example.com>" "I am away until M\u00e4rz.";\r\n'
)


def message(sender: str, to: str, *extra: str) -> bytes:
    identifier = f"Message-ID: <{sender}>"
    lines = [f"From: Friend <{sender}>", f"To: {to}", "Subject: hello", identifier, *extra, "", "Hi", ""]
    return "\r\n".join(lines).encode()


def test_answered_once_although_both_servers_deliver(running: Running) -> None:
    use_script(running, "primary", "u25", AWAY)
    address, friend, other = "u25@example.org", stranger(), stranger()
    for _ in range(3):
        accepted = running.sender.send(message(friend, address), [address], mail_from=friend)
        running.assert_once("u25", accepted)
    wait(lambda: bool(sent_to(running, friend)), "an answer")
    # What another sender gets comes later than any second answer to the first would.
    listed, bulk = stranger(), stranger()
    running.sender.send(message(listed, address, "List-Id: <x.example.com>"), [address], mail_from=listed)
    running.sender.send(message(bulk, address, "Precedence: bulk"), [address], mail_from=bulk)
    bounced = stranger()
    running.sender.send(message(bounced, address), [address], mail_from="")
    accepted = running.sender.send(message(other, address), [address], mail_from=other)
    running.assert_once("u25", accepted)
    wait(lambda: bool(sent_to(running, other)), "an answer to somebody else")
    (answer,) = sent_to(running, friend)
    assert answer["From"].addresses[0].addr_spec == address
    assert answer["Auto-Submitted"] == "auto-replied"
    assert answer["Subject"] == "Away"
    assert answer["In-Reply-To"] == f"<{friend}>"
    assert "until M\u00e4rz" in answer.get_content()
    for silent in (listed, bulk, bounced):
        assert not sent_to(running, silent)
    assert len(sent_to(running, other)) == 1


def test_many_senders_get_one_answer_each_while_both_servers_race(running: Running) -> None:
    use_script(running, "backup", "u26", AWAY)
    address = "u26@example.org"
    friends = [stranger() for _ in range(10)]
    for friend in friends:
        for _ in range(2):
            running.sender.send(message(friend, address), [address], mail_from=friend)
    wait(lambda: all(sent_to(running, friend) for friend in friends), "ten answers")
    last = stranger()
    accepted = running.sender.send(message(last, address), [address], mail_from=last)
    running.assert_once("u26", accepted)
    wait(lambda: bool(sent_to(running, last)), "the last answer")
    assert [len(sent_to(running, friend)) for friend in friends] == [1] * len(friends)


def test_server_that_was_down_answers_nothing_a_second_time(running: Running) -> None:
    use_script(running, "primary", "u24", AWAY)
    address, friend, last = "u24@example.org", stranger(), stranger()
    running.system.stop_container("primary-syncer")
    first = running.sender.send(message(friend, address), [address], mail_from=friend)
    wait(lambda: bool(sent_to(running, friend)), "the answer of the other server")
    running.system.start_syncer("primary")
    running.system.wait_for_syncer("primary")
    running.assert_once("u24", first)
    running.sender.send(message(last, address), [address], mail_from=last)
    wait(lambda: bool(sent_to(running, last)), "the last answer")
    assert len(sent_to(running, friend)) == 1


def test_redirected_once_from_the_users_own_address(running: Running) -> None:
    target, friend, address = stranger(), stranger(), "u29@example.org"
    use_script(running, "backup", "u29", f'require ["copy"];\r\nredirect :copy "{target}";\r\n')
    accepted = running.sender.send(message(friend, address), [address], mail_from=friend)
    running.assert_once("u29", accepted)
    wait(lambda: bool(sent_to(running, target)), "the redirected message")
    (redirected,) = sent_to(running, target)
    assert redirected["From"].addresses[0].addr_spec == address
    assert redirected["Reply-To"].addresses[0].addr_spec == friend
    assert "Hi" in redirected.get_content()
