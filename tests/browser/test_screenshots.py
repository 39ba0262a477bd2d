"""The pictures of the documentation. ``./inv screenshots`` takes them anew; each run of the group keeps its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ARTEFACTS, Visit
from tests.browser.mail import PICTURE, deliver, written
from tests.browser.site import Site
from tests.browser.test_appearance import PHONE
from tests.browser.webmail import Webmail
from twinmail.tasks.config import PROJECT

USER = "helen"
MOST_OCTETS = 150_000
PICTURES = PROJECT / "docs" / "screenshots"

LETTERS = (
    ("Oma Lotte <lotte@example.com>", "Kommt ihr am Sonntag?", "Es gibt Pflaumenkuchen.", ""),
    ("Stadtwerke <service@example.com>", "Ihre Rechnung 2026-1187", "Die Rechnung finden Sie im Anhang.", ""),
    ("Jonas Weber <jonas@example.com>", "Re: Concert tickets", "Row 7, I could not believe it either!", ""),
    (
        "Alpenverein <post@example.com>",
        "Hut is open until October",
        "The hut is open until October.",
        '<h2 style="color: #2a6f97">The hut is open until October</h2><p>Dear members,</p>'
        "<p>new beds, the same <b>Kaiserschmarrn</b>. The path along the ridge is marked again, and the spring "
        'behind the hut has water.</p><p><img src="cid:hut@example.com" width="420" height="130"></p>'
        "<p>See you up there!</p>",
    ),
)

Take = Callable[[str, Webmail], None]


@pytest.fixture(scope="session")
def letters(site: Site) -> None:
    for sender, subject, text, html in LETTERS:
        message = written(subject, f"{USER}@example.org", text, html, sender)
        if html:
            message.get_payload()[1].add_related(PICTURE, "image", "svg+xml", cid="<hut@example.com>")  # type: ignore[index, union-attr]
        if "Rechnung" in subject:
            message.add_attachment(b"%PDF-1.7\n", "application", "pdf", filename="Rechnung 2026-1187.pdf")
        deliver(site, USER, message)


@pytest.fixture
def take(request: pytest.FixtureRequest, letters: None) -> Take:
    """Takes a picture of what the window shows."""
    folder = Path(request.config.getoption("--screenshots") or ARTEFACTS)
    folder.mkdir(parents=True, exist_ok=True)

    def screenshot(name: str, webmail: Webmail) -> None:
        webmail.loaded()
        webmail.page.evaluate("document.fonts.ready")
        picture = webmail.page.screenshot(path=folder / f"{name}.png", animations="disabled")
        assert len(picture) <= MOST_OCTETS

    return screenshot


@pytest.mark.parametrize("light", ["light", "dark"])
def test_picture_of_a_message(visit: Visit, take: Take, light: str) -> None:
    webmail = visit(USER, color_scheme=light)
    frame = webmail.read("Hut is open until October")
    expect(frame.locator("#messagebody h2").first).to_be_visible()
    take(f"webmail-{light}", webmail)


def test_picture_of_a_new_message(visit: Visit, take: Take) -> None:
    webmail = visit(USER, folder=None)
    webmail.write("lotte@example.com", "Sonntag", "Liebe Oma, wir kommen gern, und bringen Sahne mit!")
    webmail.attach("Wanderkarte.pdf", "application/pdf", b"%PDF-1.7\n" * 20_000)
    take("webmail-compose", webmail)
    webmail.page.evaluate("rcmail.compose_skip_unsavedcheck = true")


def test_picture_of_a_filter(visit: Visit, take: Take) -> None:
    webmail = visit(USER, folder=None)
    webmail.go("settings", "plugin.managesieve")
    webmail.loaded()
    webmail.page.click("a.create:not(.disabled)")
    form = webmail.page.frame_locator("iframe[name=filter-box]")
    form.locator("#_name").fill("Bills")
    form.locator("textarea[name='_rule_target[0]'] ~ * input[type=text]").first.fill("Rechnung")
    form.locator("#action_mailbox0").select_option("Archive")
    take("webmail-filter", webmail)


@pytest.mark.parametrize("page", ["list", "message"])
def test_picture_of_a_telephone(visit: Visit, take: Take, page: str) -> None:
    webmail = visit(USER, **PHONE)
    if page == "message":
        webmail.read("Hut is open until October")
    take(f"webmail-phone-{page}", webmail)


def test_documentation_has_each_picture(request: pytest.FixtureRequest) -> None:
    names = {
        "webmail-light",
        "webmail-dark",
        "webmail-compose",
        "webmail-filter",
        "webmail-phone-list",
        "webmail-phone-message",
    }
    assert {path.stem for path in PICTURES.glob("*.png")} == names
    shown = (PROJECT / "docs" / "webmail.md").read_text()
    for name in names:
        assert f"](screenshots/{name}.png)" in shown
        assert (PICTURES / f"{name}.png").stat().st_size <= MOST_OCTETS
