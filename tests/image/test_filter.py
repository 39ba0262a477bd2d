"""What Pigeonhole in the shipped image decides, asked as the syncer asks it from a container of its own.

And ManageSieve, through which scripts come there.
"""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.asker import Asker, asker
from tests.image.conftest import IMAGES
from tests.image.dovecot import PASSWORD, Dovecot, accounts_of
from tests.managesieve import ManageSieve, Refused, managesieve
from twinmail.local.state import LOOPBACK
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.interface import Runtime

INBOX = {"INBOX": ("", [])}


def message(subject: str = "hello", to: str = "ann@example.org", more: str = "") -> bytes:
    return (
        f"From: Bob <bob@example.com>\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <1@example.com>\r\n"
        f"{more}\r\nHello\r\n"
    ).encode()


@pytest.fixture(scope="module")
def server(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    server = Dovecot(runtime, IMAGES / "dovecot", host_platform(), tmp_path_factory.mktemp("filter"))
    server.set_accounts(accounts_of(server.users))
    try:
        yield server.start("filter")
    finally:
        server.stop()


@pytest.fixture(scope="module")
def pigeonhole(runtime: Runtime, server: Dovecot) -> Iterator[Asker]:
    with asker(runtime, server, IMAGES / "syncer") as one:
        yield one


@pytest.fixture
def session(server: Dovecot) -> Iterator[ManageSieve]:
    with managesieve(LOOPBACK, server.sieve, server.tls, "ann", PASSWORD) as client:
        yield client


class TestDecision:
    def test_without_anything_to_do_the_message_stays_where_it_would_go(self, pigeonhole: Asker) -> None:
        pigeonhole.script("ann", "keep;")
        assert pigeonhole.folders(message()) == INBOX

    def test_fileinto_creates_a_folder_whatever_its_name(self, pigeonhole: Asker) -> None:
        pigeonhole.script("ann", 'require ["fileinto"]; fileinto "Vereine/Büro e.V.";')
        # As our own Dovecot has it on the disk: "/" is ".", "." is escaped, and letters are in modified UTF-7.
        assert pigeonhole.folders(message()) == {"Vereine.B&APw-ro e%2eV%2e": ("", [])}

    def test_flags_and_keywords(self, pigeonhole: Asker) -> None:
        pigeonhole.script(
            "ann", 'require ["imap4flags"]; addflag ["\\\\Seen", "\\\\Flagged", "$label1", "wichtig"]; keep;'
        )
        assert pigeonhole.folders(message()) == {"INBOX": ("FS", ["$label1", "wichtig"])}

    def test_several_folders_each_with_flags_of_its_own(self, pigeonhole: Asker) -> None:
        pigeonhole.script(
            "ann",
            'require ["fileinto", "copy", "imap4flags"];'
            'fileinto :copy "A"; fileinto :copy :flags "\\\\Flagged" "B"; keep :flags "seen-by-rule";',
        )
        assert pigeonhole.folders(message()) == {
            "INBOX": ("", ["seen-by-rule"]),
            "A": ("", []),
            "B": ("F", []),
        }

    def test_discard_leads_to_trash(self, pigeonhole: Asker) -> None:
        pigeonhole.script("ann", "discard;")
        assert pigeonhole.folders(message()) == {"Trash": ("", [])}

    def test_stop_ends_the_script(self, pigeonhole: Asker) -> None:
        pigeonhole.script("ann", 'require "fileinto"; fileinto "A"; stop; fileinto "B";')
        assert set(pigeonhole.folders(message())) == {"A"}

    def test_what_goes_to_junk_goes_there_before_the_users_script(self, pigeonhole: Asker) -> None:
        pigeonhole.script("ann", 'require ["fileinto"]; redirect "else@example.com"; fileinto "A";')
        answer = pigeonhole.ask(message(), folder="Junk")
        assert [one["folder"] for one in answer["placements"]] == ["Junk"] and answer["outgoing"] == []

    def test_a_sender_cannot_say_what_goes_to_junk(self, pigeonhole: Asker) -> None:
        pigeonhole.script("ann", "keep;")
        assert pigeonhole.folders(message(more="X-Twinmail-Folder: Junk\r\n")) == INBOX

    def test_global_rules_can_be_included(self, pigeonhole: Asker) -> None:
        pigeonhole.script("ann", 'require "include"; include :global "lists"; include :global "junk";')
        listed = message(more="List-Id: Talk <talk.lists.example.com>\r\n")
        assert set(pigeonhole.folders(listed)) == {"Lists.talk%2elists%2eexample%2ecom"}
        assert pigeonhole.folders(message()) == INBOX

    def test_scripts_see_the_envelope(self, pigeonhole: Asker) -> None:
        pigeonhole.script(
            "ann",
            'require ["fileinto", "envelope", "subaddress", "variables"];'
            'if envelope :matches :detail "to" "*" { set "detail" "${1}"; }'
            'if envelope :is "to" "ann+shop@example.org" {'
            '  if envelope :is "from" "bounce=1@example.com" { fileinto "${detail}"; } }',
        )
        told = {"recipient": "ann+shop@example.org", "mail_from": "bounce=1@example.com"}
        # The fields of the header say something else.
        assert set(pigeonhole.folders(message(to="all@example.net"), **told)) == {"shop"}
        assert pigeonhole.folders(message(), recipient="ann@example.org") == INBOX

    @pytest.mark.parametrize("mail_from", ["", "b\u00f6b@example.com", "a b@example.com", "a>b@example.com"])
    def test_a_sender_that_lmtp_cannot_express_is_an_empty_one(
        self, pigeonhole: Asker, mail_from: str
    ) -> None:
        pigeonhole.script(
            "ann", 'require ["envelope", "fileinto"]; if envelope :is "from" "" { fileinto "N"; }'
        )
        assert set(pigeonhole.folders(message(), mail_from=mail_from)) == {"N"}

    @pytest.mark.parametrize(
        "body", [b"a\n.\nb", b"\r\n.\r\nMAIL FROM:<x@y>\r\n", b"\0\xff" * 10, b"x" * 3_000_000]
    )
    def test_octets_arrive_as_they_are(self, pigeonhole: Asker, body: bytes) -> None:
        whole = message() + body
        # Scripts see two lines above them.
        above = b"Return-Path: <bob@example.com>\r\nX-Twinmail-Folder: INBOX\r\n"
        size = len(above) + len(whole)
        pigeonhole.script(
            "ann",
            'require ["fileinto", "relational", "comparator-i;ascii-numeric"];'
            f'if allof (size :over {size - 1}, not size :over {size}) {{ fileinto "exact"; }}',
        )
        assert set(pigeonhole.folders(whole)) == {"exact"}

    def test_the_largest_message_that_ses_takes(self, pigeonhole: Asker) -> None:
        pigeonhole.script(
            "ann", 'require ["fileinto", "body"]; if body :contains "the end" { fileinto "Large"; }'
        )
        large = message() + b"line of text\r\n" * (40 * 1024 * 1024 // 14) + b"the end\r\n"
        assert set(pigeonhole.folders(large)) == {"Large"}

    def test_nothing_stays_behind(self, pigeonhole: Asker) -> None:
        pigeonhole.script("ann", "keep;")
        pigeonhole.ask(message())
        assert pigeonhole.left == []

    def test_one_mailbox_never_runs_the_script_of_another(self, pigeonhole: Asker) -> None:
        pigeonhole.script("ann", 'require "fileinto"; fileinto "Anns";')
        pigeonhole.script("bob", 'require "fileinto"; fileinto "Bobs";')
        told = {"user": "bob", "recipient": "bob@example.org"}
        assert set(pigeonhole.folders(message(), **told)) == {"Bobs"}


class TestOutgoing:
    VACATION = (
        'require "vacation";'
        'vacation :days 3 :addresses ["ann@example.org", "ann@example.net"] :subject "Weg" "Bin weg. Grüße";'
    )

    def test_answer_is_taken_down_and_not_sent(self, pigeonhole: Asker) -> None:
        pigeonhole.script("ann", self.VACATION)
        answer = pigeonhole.ask(message())
        assert [one["folder"] for one in answer["placements"]] == ["INBOX"]
        (sent,) = answer["outgoing"]
        assert (sent["kind"], sent["mail_from"], sent["rcpt_to"]) == ("vacation", "", ["bob@example.com"])
        for line in (
            "From: <ann@example.org>",
            "Subject: Weg",
            "In-Reply-To: <1@example.com>",
            "Auto-Submitted: auto-replied (vacation)",
            "Bin weg. Grüße",
        ):
            assert f"{line}\r\n" in sent["message"]
        assert len(sent["memory"]) == 32 and sent["until"]

    def test_asking_again_gives_the_same_answer(self, pigeonhole: Asker) -> None:
        """No server's own memory says who was answered: that is kept where both see it."""
        pigeonhole.script("ann", self.VACATION)
        first, second = pigeonhole.ask(message()), pigeonhole.ask(message("another subject"))
        assert first["outgoing"][0]["memory"] == second["outgoing"][0]["memory"]
        other = pigeonhole.ask(message(), mail_from="eve@example.com")
        assert other["outgoing"][0]["memory"] != first["outgoing"][0]["memory"]

    @pytest.mark.parametrize(
        ("more", "to", "mail_from"),
        [
            ("Auto-Submitted: auto-generated\r\n", "ann@example.org", "bob@example.com"),
            ("Precedence: bulk\r\n", "ann@example.org", "bob@example.com"),
            ("List-Id: <a.b>\r\n", "ann@example.org", "bob@example.com"),
            ("", "everybody@example.net", "bob@example.com"),
            ("", "ann@example.org", ""),
            ("", "ann@example.org", "MAILER-DAEMON@example.com"),
        ],
    )
    def test_no_answer_where_rfc_3834_wants_none(
        self, pigeonhole: Asker, more: str, to: str, mail_from: str
    ) -> None:
        pigeonhole.script("ann", self.VACATION)
        assert pigeonhole.ask(message(to=to, more=more), mail_from=mail_from)["outgoing"] == []

    def test_answer_to_an_address_with_a_tag_or_of_the_list(self, pigeonhole: Asker) -> None:
        pigeonhole.script("ann", self.VACATION)
        tagged = pigeonhole.ask(message(to="ann+shop@example.org"), recipient="ann+shop@example.org")
        assert "From: <ann+shop@example.org>" in tagged["outgoing"][0]["message"]
        listed = pigeonhole.ask(message(to="ann@example.net"), recipient="ann@example.org")
        assert "From: <ann@example.net>" in listed["outgoing"][0]["message"]

    def test_redirect_is_taken_down_with_its_recipients(self, pigeonhole: Asker) -> None:
        pigeonhole.script("ann", 'require "copy"; redirect :copy "x@example.com"; redirect "y@example.com";')
        answer = pigeonhole.ask(message())
        assert [(one["kind"], one["rcpt_to"]) for one in answer["outgoing"]] == [
            ("redirect", ["x@example.com"]),
            ("redirect", ["y@example.com"]),
        ]
        assert answer["outgoing"][0]["mail_from"] == "ann@example.org"

    def test_redirects_have_a_limit(self, pigeonhole: Asker) -> None:
        pigeonhole.script("ann", "".join(f'redirect "{number}@example.com";' for number in range(5)))
        answer = pigeonhole.ask(message())
        assert answer["complaints"] and answer["outgoing"] == []
        assert [one["folder"] for one in answer["placements"]] == ["INBOX"]


class TestTrouble:
    @pytest.mark.parametrize(
        "script",
        [
            "this is no sieve",
            'require "no-such-extension";',
            'require ["variables", "fileinto"]; set "x" "not an address"; redirect "${x}";',
            'require "include"; include :personal "not-there";',
        ],
    )
    @pytest.mark.parametrize("folder", ["INBOX", "Junk"])
    def test_a_broken_script_withholds_nothing(self, pigeonhole: Asker, script: str, folder: str) -> None:
        pigeonhole.script("ann", script)
        answer = pigeonhole.ask(message(), folder=folder)
        assert [one["folder"] for one in answer["placements"]] == [folder]
        assert folder == "Junk" or any("error" in one for one in answer["complaints"])

    @pytest.mark.parametrize(
        "extension", ["reject", "ereject", "editheader", "duplicate", "enotify", "regex"]
    )
    def test_what_is_left_out_is_not_offered(self, session: ManageSieve, extension: str) -> None:
        with pytest.raises(Refused, match=extension):
            session.put("forbidden", f'require "{extension}"; keep;')

    @pytest.mark.parametrize("extension", ["vnd.dovecot.pipe", "vnd.dovecot.execute", "vnd.dovecot.filter"])
    def test_no_script_runs_a_program(self, session: ManageSieve, extension: str) -> None:
        with pytest.raises(Refused, match="unknown Sieve capability"):
            session.put("forbidden", f'require "{extension}"; keep;')


class TestManageSieve:
    def test_it_offers_what_the_configuration_allows(self, session: ManageSieve) -> None:
        offered = next(line for line in session.capabilities if line.startswith('"SIEVE"'))
        names = set(offered.split('"')[3].split())
        assert {"fileinto", "imap4flags", "vacation", "include", "body", "subaddress", "envelope"} <= names
        assert not names & {"reject", "ereject", "editheader", "duplicate", "regex", "vnd.dovecot.pipe"}

    def test_a_script_put_there_is_used(self, session: ManageSieve, pigeonhole: Asker) -> None:
        session.put("mine", 'require "fileinto"; fileinto "Mine";')
        session.activate("mine")
        assert session.scripts()["mine"]
        home = pigeonhole.dovecot.folder / "mail" / "ann"
        assert (home / ".dovecot.sieve").readlink() == Path("sieve/mine.sieve")
        assert set(pigeonhole.folders(message())) == {"Mine"}

    def test_a_script_that_does_not_compile_is_refused(self, session: ManageSieve) -> None:
        with pytest.raises(Refused, match="line 1"):
            session.put("wrong", "fileinto;")

    def test_there_is_no_listener_outside_tls(self, server: Dovecot) -> None:
        with socket.create_connection((LOOPBACK, server.sieve), timeout=10) as plain:
            plain.sendall(b'AUTHENTICATE "PLAIN" ""\r\n')
            answer = plain.recv(100)
        assert not answer.startswith((b'"', b"OK", b"NO")), answer

    def test_its_certificate_is_checked_and_wrong_passwords_are_refused(self, server: Dovecot) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            ManageSieve(LOOPBACK, server.sieve, ssl.create_default_context())
        with (
            pytest.raises(Refused, match="NO"),
            managesieve(LOOPBACK, server.sieve, server.tls, "ann", "wrong"),
        ):
            pass
