"""Mail arrives and is read."""

import hashlib
import random
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.listener import listener
from tests.browser.mail import PNG, deliver, written
from tests.browser.quiet import Quiet
from tests.browser.site import WEBMAIL, Site

# Everything that HTML mail can use to tell its sender that it was opened.
TRACKING = """
<html><head><link rel="stylesheet" href="{url}sheet.css"><style>
@import url("{url}import.css"); body {{ background: url({url}style.png) }} li {{ list-style: url({url}list.png) }}
@font-face {{ font-family: f; src: url({url}font.woff) }} p {{ font-family: f; border-image: url({url}border.png) }}
</style></head><body background="{url}body.png">
<p style="background-image: url('{url}inline.png')">Hello</p><ul><li>one</li></ul>
<img src="{url}image.png" width="1" height="1"><img srcset="{url}set.png 1x"><img lowsrc="{url}low.png">
<picture><source srcset="{url}source.png"><img src="{url}picture.png"></picture>
<table background="{url}table.png"><tr><td background="{url}cell.png">cell</td></tr></table>
<input type="image" src="{url}button.png"><video poster="{url}poster.png" src="{url}film.mp4" autoplay></video>
<audio src="{url}sound.ogg" autoplay></audio><object data="{url}object.png"></object><embed src="{url}embed.png">
<svg><image href="{url}svg.png" xlink:href="{url}xlink.png"/><rect fill="url({url}fill.svg#a)"/></svg>
<iframe src="{url}frame.html"></iframe><bgsound src="{url}background.mid">
<p style="background: url(\\68ttps://{host}escaped.png)">escapes</p>
<div style="content: url({url}content.png); cursor: url({url}cursor.png), auto; filter: url({url}filter.svg#f)">x</div>
</body></html>
"""


@pytest.mark.parametrize("user", ["carol", "ann"])
def test_new_mail_appears_without_reload(visit: Visit, site: Site, user: str) -> None:
    """Also the very first one: carol's mailbox is empty until here."""
    webmail = visit(user)
    webmail.page.evaluate("window.stayed = true")
    for subject in ("The first of today", "The second of today"):
        site.sender.send(bytes(written(subject, f"{user}@example.org")), [f"{user}@example.org"])
        webmail.row(subject).wait_for(timeout=45_000)
        expect(webmail.row(subject)).to_contain_class("unread")
    assert webmail.page.evaluate("window.stayed"), "the page was reloaded"


def test_html_with_inline_image_and_a_large_attachment(visit: Visit, site: Site, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(20 * 1024 * 1024)
    message = written(
        "Holiday film", "ann@example.org", html='<h1>Hällo</h1><img src="cid:pixel@example.com">'
    )
    html = message.get_payload()[1]  # type: ignore[index]
    html.add_related(PNG, "image", "png", cid="<pixel@example.com>")  # type: ignore[union-attr]
    message.add_attachment(data, "application", "octet-stream", filename="Urlaub ☀ 2026.bin")
    deliver(site, "ann", message)

    webmail = visit("ann")
    frame = webmail.read("Holiday film")
    expect(frame.locator("#messagebody h1")).to_have_text("Hällo")
    frame.wait_for_function("document.querySelector('#messagebody img').naturalWidth == 1")
    name = frame.locator("#attachment-list li", has_text="Urlaub ☀ 2026.bin")
    expect(name).to_contain_text("20 MB")
    with webmail.page.expect_download(timeout=120_000) as download:
        name.locator("a.filename").click()
    download.value.save_as(tmp_path / "film")
    assert download.value.suggested_filename == "Urlaub ☀ 2026.bin"
    assert hashlib.sha256((tmp_path / "film").read_bytes()).digest() == hashlib.sha256(data).digest()


def test_pictures_from_elsewhere_only_when_asked(
    visit: Visit, site: Site, quiet: Quiet, tmp_path: Path
) -> None:
    with listener(site.system.state.tls, tmp_path / "tls") as tracker:
        html = TRACKING.format(url=tracker.url, host=tracker.url.removeprefix("https://"))
        deliver(site, "ann", written("Newsletter", "ann@example.org", html=html))
        webmail = visit("ann")
        frame = webmail.read("Newsletter")
        expect(frame.locator("#remote-objects-message")).to_contain_text("blocked")
        webmail.page.wait_for_load_state("networkidle")
        assert tracker.asked == []

        # Now asked for: pictures come, and of all the rest at most what is a picture too.
        quiet.expect(re.escape(tracker.url))
        frame.locator("#remote-objects-message a").click()
        frame = webmail.reading("Newsletter")
        frame.wait_for_function(
            "[...document.querySelectorAll('#messagebody img')].some(one => one.naturalWidth == 1)"
        )
        assert "/image.png" in tracker.asked
        assert not {one for one in tracker.asked if not one.endswith((".png", ".svg"))}


def test_links_open_elsewhere_and_tell_nothing(visit: Visit, site: Site) -> None:
    html = '<a href="https://www.example.com/offer">Offer</a>'
    deliver(site, "ann", written("Offer", "ann@example.org", html=html))
    link = visit("ann").read("Offer").locator("#messagebody a")
    expect(link).to_have_attribute("target", "_blank")
    expect(link).to_have_attribute("rel", "noreferrer")


def test_search_finds_words_in_bodies(visit: Visit, site: Site) -> None:
    deliver(site, "ann", written("Invoice 4711", "ann@example.org", "Your Stromrechnung for November\n"))
    deliver(site, "ann", written("Something else", "ann@example.org"))
    webmail = visit("ann")
    webmail.page.fill("#mailsearchform", "stromrechnung")
    webmail.page.click("a.button.options >> nth=0")
    webmail.page.check("#s_mods_text, input[name=s_mods][value=text], #searchmenu input[value=text]")
    webmail.page.press("#mailsearchform", "Enter")
    webmail.row("Invoice 4711").wait_for()
    expect(webmail.row("Something else")).to_have_count(0)


def test_message_moves_to_junk_and_back_by_the_button(visit: Visit, site: Site) -> None:
    # A sender of its own, since where mail from this sender goes is remembered.
    message = written("Cheap watches", "bob@example.org", sender="watches@example.com")
    accepted = deliver(site, "bob", message)
    webmail = visit("bob")
    webmail.row("Cheap watches").click()
    webmail.page.click("#toolbar-menu a.junk:not(.disabled), #layout-content a.junk:not(.disabled)")
    expect(webmail.row("Cheap watches")).not_to_be_visible()
    with site.client("bob") as client:
        client.wait_for([accepted], "Junk")
        assert not client.find(accepted)
    webmail.show_folder("Junk")
    webmail.row("Cheap watches").click()
    webmail.page.click("a.notjunk:not(.disabled)")
    expect(webmail.row("Cheap watches")).not_to_be_visible()
    with site.client("bob") as client:
        client.wait_for([accepted], "INBOX")


def test_button_beside_a_message_goes_back_to_its_folder(visit: Visit, site: Site) -> None:
    with site.client("bob", WEBMAIL) as client:
        client.imap.append("Archive", "", "", bytes(written("Kept for later", "bob@example.org")))
    webmail = visit("bob")
    webmail.show_folder("Archive")
    webmail.row("Kept for later").dblclick()
    webmail.page.locator("#messagebody").wait_for()
    webmail.loaded()
    webmail.page.click("#taskmenu a.mail")
    webmail.row("Kept for later").wait_for()


def test_contact_is_kept_and_offered(visit: Visit) -> None:
    webmail = visit("bob")
    webmail.go("addressbook")
    webmail.loaded()
    webmail.page.click("#layout-content a.create, a.create.button, a.create")
    form = webmail.page.frame_locator("#contact-frame")
    form.locator("input[name=_firstname]").fill("Grace")
    form.locator("input[name=_surname]").fill("Höpper")
    form.locator(
        "input[name='_email_home[]'], input[type=email], .contactfieldgroup input[name^=_email]"
    ).first.fill("grace@example.com")
    form.locator("button.submit").click()
    expect(webmail.page.locator("#contacts-table")).to_contain_text("Grace Höpper")
    webmail.write()
    field = webmail.page.locator("#compose_to input[type=text]")
    field.press_sequentially("höp")
    offered = webmail.page.locator("#rcmKSearchpane li", has_text="grace@example.com")
    offered.click()
    expect(webmail.page.locator("#compose_to li.recipient")).to_contain_text("Grace Höpper")
