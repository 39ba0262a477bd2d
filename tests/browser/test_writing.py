"""Mail is written, sent, arrives, and is in Sent."""

import email
from email import policy
from email.message import EmailMessage
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.mail import deliver, wait_until, written
from tests.browser.quiet import Quiet
from tests.browser.site import Site
from tests.e2e.mail import Client


def messages(client: Client, folder: str, subject: str) -> list[EmailMessage]:
    """All messages with *subject* in *folder*."""
    found = []
    for uid in client.guids(folder).values():
        message = email.message_from_bytes(client.fetch(uid, folder), policy=policy.default)
        if message["Subject"] == subject:
            found.append(message)
    return found


def test_written_message_arrives_and_is_in_sent_once(visit: Visit, site: Site) -> None:
    subject = "Größe & Maß – 日本 ✉"
    data = bytes(range(256)) * 300
    webmail = visit("ann")
    webmail.write("bob@example.org", subject, "Schöne Grüße\naus Köln")
    webmail.attach("Übersicht 1.bin", "application/octet-stream", data)
    webmail.send()
    with site.client("bob", "primary") as client:
        (arrived,) = wait_until(lambda: messages(client, "INBOX", subject), lambda found: len(found) > 0)
    assert arrived["From"] == "Ann Müller <ann@example.org>"
    text = arrived.get_body(("plain",))
    assert text and text.get_content().split() == ["Schöne", "Grüße", "aus", "Köln"]
    (attached,) = arrived.iter_attachments()
    assert (attached.get_filename(), attached.get_content()) == ("Übersicht 1.bin", data)
    with site.client("ann") as client:
        (sent,) = wait_until(lambda: messages(client, "Sent", subject), lambda found: len(found) > 0)
        # SES gives every message a Message-ID of its own; the copy in Sent takes it, so that answers thread.
        (sent,) = wait_until(
            lambda: messages(client, "Sent", subject),
            lambda found: [one["Message-ID"] for one in found] == [arrived["Message-ID"]],
        )
    (attached,) = sent.iter_attachments()
    assert attached.get_content() == data
    webmail.show_folder("Sent")
    expect(webmail.page.locator("#messagelist tbody tr", has_text=subject)).to_have_count(1)


def test_reply_threads_with_the_sent_copy(visit: Visit, site: Site) -> None:
    ann = visit("ann")
    ann.write("bob@example.org", "Lunch on Friday?", "At noon?")
    ann.send()
    with site.client("bob") as client:
        (question,) = wait_until(lambda: messages(client, "INBOX", "Lunch on Friday?"), bool)
    bob = visit("bob")
    bob.read("Lunch on Friday?")
    bob.page.click("a.reply:not(.all):not(.disabled):visible")
    bob.page.locator("body.action-compose").wait_for()
    expect(bob.editor()).to_contain_text("At noon?")
    expect(bob.page.locator("#compose_to li.recipient")).to_contain_text("ann@example.org")
    bob.editor().locator("body").press_sequentially("Yes!")
    bob.send()
    with site.client("ann") as client:
        (answer,) = wait_until(lambda: messages(client, "INBOX", "Re: Lunch on Friday?"), bool)
        wait_until(
            lambda: [one["Message-ID"] for one in messages(client, "Sent", "Lunch on Friday?")],
            lambda ids: ids == [answer["In-Reply-To"]],
        )
    assert answer["In-Reply-To"] == question["Message-ID"]
    assert answer["References"].split()[-1] == question["Message-ID"]


def test_foreign_sender_is_refused(visit: Visit, site: Site, quiet: Quiet) -> None:
    """The list of senders offers one's own; whoever changes the form is refused, and nothing is sent."""
    webmail = visit("ann")
    webmail.write("bob@example.org", "From somebody else", "Trust me")
    offered = webmail.page.locator("#_from option").all_inner_texts()
    assert sorted(offered) == ["Ann Müller <ann@example.net>", "Ann Müller <ann@example.org>"]
    webmail.page.evaluate(
        """() => {
            const list = document.querySelector('#_from'), text = document.createElement('input');
            text.name = '_from'; text.type = 'hidden'; text.value = 'Bob <bob@example.org>';
            list.parentNode.appendChild(text); list.remove();
        }"""
    )
    webmail.click_send()
    webmail.notice("bob@example.org")
    expect(webmail.page.locator("body.action-compose")).to_be_visible()
    quiet.expect("^beforeunload")
    last = deliver(site, "bob", written("The last one", "bob@example.org"))
    with site.client("bob") as client:
        assert client.find(last)
        assert messages(client, "INBOX", "From somebody else") == []


def test_identity_with_a_foreign_address_is_refused(visit: Visit) -> None:
    """The address of an identity cannot be edited; whoever opens the field is refused by the server."""
    webmail = visit("ann", folder=None)
    webmail.go("settings", "identities")
    webmail.loaded()
    webmail.page.locator("#identities-table tbody tr").first.click()
    form = webmail.page.frame_locator("iframe[name=preferences-frame]")
    address = form.locator("[name=_email]")
    expect(address).to_be_disabled()
    address.evaluate("""one => {
        const open = document.createElement('input');
        open.name = '_email'; open.value = 'bob@example.org';
        one.replaceWith(open);
    }""")
    form.locator("button.submit").click()
    webmail.loaded()
    webmail.write()
    offered = webmail.page.locator("#_from option").all_inner_texts()
    assert sorted(one.partition("<")[2] for one in offered) == ["ann@example.net>", "ann@example.org>"]


def test_file_too_large_to_send_is_refused_before_it_is_sent(visit: Visit, tmp_path: Path) -> None:
    film = tmp_path / "film.bin"
    film.write_bytes(bytes(31 * 1024 * 1024))
    webmail = visit("ann", folder=None)
    webmail.write("bob@example.org", "Too large")
    limit = webmail.page.locator(".file-upload .hint, #compose-attachments .hint").inner_text()
    assert "30 MB" in limit
    webmail.page.set_input_files("#uploadformInput", film)
    webmail.notice("30 MB")
    expect(webmail.page.locator("#attachment-list li")).to_have_count(0)
    webmail.page.evaluate("rcmail.compose_skip_unsavedcheck = true")
