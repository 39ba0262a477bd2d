"""The webmail at work: what pages may run, new mail, identities, uploads."""

import base64
import hashlib
import re
import time

import pytest

from tests.image.dovecot import PASSWORD
from tests.image.roundcube import ADDRESSES, Roundcube, client, rows
from tests.image.webmail_client import WebmailClient

MEGABYTE = 1 << 20
HOSTILE = b"""From: Mallory <mallory@example.com>\r
To: ann@example.org\r
Subject: hostile\r
Message-ID: <hostile@example.com>\r
Content-Type: text/html; charset=utf-8\r
\r
<html><head><base href="https://evil.example/"></head><body onload="window.hacked=1">
<script>window.hacked=1</script><p onclick="window.hacked=1">click</p>
<a href="mailto:x@example.com" onclick="window.hacked=1">write</a>
<img src="https://tracker.example/pixel.png" onerror="window.hacked=1"></body></html>\r
"""


def policy(response: object) -> dict[str, list[str]]:
    """The Content Security Policy: sources by directive."""
    headers = response.headers  # type: ignore[attr-defined]
    parts = [part.split() for part in headers["Content-Security-Policy"].split(";")]
    return {part[0]: part[1:] for part in parts}


class TestPolicy:
    @pytest.mark.parametrize(
        "query", ["?_task=mail", "?_task=settings", "?_task=addressbook", "?_task=login"]
    )
    def test_scripts_run_by_a_nonce_that_is_new_each_time(self, ann: WebmailClient, query: str) -> None:
        nonces = set()
        for _ in range(2):
            page = ann.get(query)
            found = policy(page)
            (nonce,) = found["script-src-elem"]
            nonces.add(nonce)
            assert found["script-src"] == [nonce, "'unsafe-eval'"]
            tags = re.findall(r"<script\b[^>]*>", page.text)
            assert tags
            assert all(f'nonce="{nonce[7:-1]}"' in tag for tag in tags)
            assert found["img-src"] == ["'self'", "data:", "blob:"]
            assert found["frame-ancestors"] == found["form-action"] == found["connect-src"] == ["'self'"]
            assert found["base-uri"] == ["'none'"]
        assert len(nonces) == 2

    @pytest.mark.parametrize("action", ["show", "preview", "print"])
    def test_nothing_of_a_message_may_run_or_load(
        self, roundcube: Roundcube, ann: WebmailClient, action: str
    ) -> None:
        roundcube.dovecot.store("ann", "1600000001.hostile.twinmail", HOSTILE)
        listed = ann.ajax("?_task=mail&_action=list&_mbox=INBOX")
        uid = max(int(one) for one in re.findall(r"add_message_row\((\d+)", listed["exec"]))
        query = f"?_task=mail&_action={action}&_uid={uid}&_mbox=INBOX"
        page = ann.get(query)
        found = policy(page)
        assert "hacked" not in page.text
        assert "'unsafe-inline'" not in found["script-src-attr"] + found["script-src-elem"]
        assert "https:" not in found["img-src"]
        assert "tracker.example" not in re.sub(r"<script.*?</script>", "", page.text, flags=re.S)
        allowed = ann.get(f"{query}&_safe=1")
        assert "https://tracker.example/pixel.png" in allowed.text
        assert "https:" in policy(allowed)["img-src"]

    @pytest.mark.parametrize("quote", ["'", '"'])
    def test_text_that_looks_like_a_handler_allows_none(
        self, roundcube: Roundcube, ann: WebmailClient, quote: str
    ) -> None:
        handler = f"<b onclick={quote}window.hacked=1{quote}>"
        data = (
            f"From: {handler} <m@example.com>\r\nSubject: {handler} onclick={quote}window.hacked=1{quote}\r\n"
        )
        number = 3 + (quote == '"')
        roundcube.dovecot.store("ann", f"160000000{number}.text.twinmail", data.encode() + b"\r\nhello\r\n")
        listed = ann.ajax("?_task=mail&_action=list&_mbox=INBOX")
        uid = max(int(one) for one in re.findall(r"add_message_row\((\d+)", listed["exec"]))
        found = policy(ann.get(f"?_task=mail&_action=show&_uid={uid}&_mbox=INBOX"))
        digest = base64.b64encode(hashlib.sha256(b"window.hacked=1").digest()).decode()
        assert f"'sha256-{digest}'" not in found["script-src-attr"]
        assert len(found["script-src-attr"]) > 5, "Roundcube's own are there"

    def test_button_that_the_skin_gives_its_handler_later_may_run(
        self, roundcube: Roundcube, ann: WebmailClient
    ) -> None:
        roundcube.dovecot.store("ann", "1600000005.back.twinmail", b"Subject: back\r\n\r\nhello\r\n")
        listed = ann.ajax("?_task=mail&_action=list&_mbox=INBOX")
        uid = max(int(one) for one in re.findall(r"add_message_row\((\d+)", listed["exec"]))
        page = ann.get(f"?_task=mail&_action=show&_uid={uid}&_mbox=INBOX")
        address = re.search(r'src="(skins/elastic/ui\.[^"]+)"', page.text)
        assert address
        script = ann.get(f"/{address[1]}").text
        handlers = re.findall(r"""\bonclick: ?"(return rcmail\.[^"]+)\"""", script)
        assert handlers == ["return rcmail.command('list','',this,event);"], "what the policy has to name"
        digest = base64.b64encode(hashlib.sha256(handlers[0].encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy(page)["script-src-attr"]

    def test_answers_that_are_no_pages(self, ann: WebmailClient) -> None:
        headers = {"X-Requested-With": "XMLHttpRequest"}
        answer = ann.get("?_task=mail&_action=list&_mbox=INBOX&_remote=1", headers=headers)
        found = policy(answer)
        assert answer.headers["Content-Type"].startswith("application/json")
        assert found["default-src"] == ["'none'"]
        assert "script-src" not in found


class TestNewMail:
    def test_first_message_of_an_empty_folder_is_shown_by_the_next_refresh(
        self, roundcube: Roundcube, ann: WebmailClient
    ) -> None:
        ann.get("?_task=mail&_mbox=Drafts")
        assert ann.ajax("?_task=mail&_action=list&_mbox=Drafts")["env"]["messagecount"] == 0
        data = b"From: a@example.com\r\nSubject: the first\r\n\r\nhello\r\n"
        roundcube.dovecot.store("ann", "1600000002.first.twinmail", data, "Drafts")
        headers = {"X-Requested-With": "XMLHttpRequest", "X-Roundcube-Request": ann.token}
        fields = {"_mbox": "Drafts", "_list": "1", "_last": "0"}
        deadline = time.monotonic() + 30
        while (
            "the first" not in ann.post("?_task=mail&_action=refresh&_remote=1", fields, headers=headers).text
        ):
            assert time.monotonic() < deadline

    def test_is_looked_for_every_ten_seconds(self, ann: WebmailClient) -> None:
        assert '"refresh_interval":10,' in ann.get("?_task=mail").text


class TestIdentities:
    def test_are_the_addresses_of_the_mailbox(self, ann: WebmailClient) -> None:
        assert list(ann.identities()) == ["Ann <ann@example.org>", "Ann <ann@example.net>"]

    def test_follow_the_file_at_the_next_login(self, roundcube: Roundcube) -> None:
        client(roundcube).log_in("bob", PASSWORD)
        try:
            roundcube.permit({**ADDRESSES, "bob": ("bob@example.org", "robert@example.org")})
            later = client(roundcube)
            later.log_in("bob", PASSWORD)
            assert list(later.identities()) == ["Bob <bob@example.org>", "Bob <robert@example.org>"]
            roundcube.permit({**ADDRESSES, "bob": ("robert@example.org",)})
            last = client(roundcube)
            last.log_in("robert@example.org", PASSWORD)
            assert list(last.identities()) == ["Bob <robert@example.org>"]
        finally:
            roundcube.permit(ADDRESSES)

    def test_no_other_address_can_be_given_to_one(self, roundcube: Roundcube, ann: WebmailClient) -> None:
        number = ann.identities()["Ann <ann@example.net>"]
        for which in (number, ""):
            fields = {"_iid": which, "_name": "Boss", "_email": "boss@example.org", "_standard": "0"}
            ann.post("?_task=settings&_action=save-identity", {"_task": "settings", **fields})
        emails = rows(roundcube, "SELECT DISTINCT email FROM identities WHERE del = 0 AND name != 'Bob'")
        assert set(emails) == {("ann@example.org",), ("ann@example.net",)}

    def test_the_last_of_an_address_stays(self, ann: WebmailClient) -> None:
        own = [one for one in ann.identities().items() if "ann@example.net" in one[0]]
        for _, number in own:
            ann.post("?_task=settings&_action=delete-identity&_remote=1", {"_iid": number})
        assert any("ann@example.net" in text for text in ann.identities())


class TestUploads:
    def test_message_of_forty_megabytes_can_be_imported(self, ann: WebmailClient) -> None:
        ann.get("?_task=mail&_mbox=INBOX")
        line = b"x" * 998 + b"\r\n"
        message = b"From: a@example.com\r\nSubject: large\r\n\r\n" + line * (39 * MEGABYTE // 1000)
        query = "?_task=mail&_action=import&_mbox=Archive"
        answer = ann.upload(query, "_file[]", "large.eml", message, "message/rfc822")
        assert answer.status_code == 200
        assert "Successfully imported 1 messages" in answer.text

    def test_larger_is_refused_in_words(self, ann: WebmailClient) -> None:
        ann.get("?_task=mail")
        body = b"x" * (43 * MEGABYTE)
        try:
            answer = ann.upload("?_task=mail&_action=import", "_file[]", "l.eml", body, "message/rfc822")
        except OSError:
            return  # it did not wait until we had sent everything, which is what the size said
        assert answer.status_code == 413
        assert "40 MB" in answer.text

    def test_attachment_waits_on_the_volume(self, roundcube: Roundcube, ann: WebmailClient) -> None:
        number = ann.compose_id()
        query = f"?_task=mail&_action=upload&_id={number}&_uploadid=1"
        data = b"x" * (25 * MEGABYTE)
        answer = ann.upload(query, "_attachments[]", "large.bin", data, "application/octet-stream")
        assert "large.bin" in answer.text
        kept = [path for path in (roundcube.data / "temp").iterdir() if path.stat().st_size == 25 * MEGABYTE]
        assert len(kept) == 1
