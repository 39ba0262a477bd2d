"""How it looks: in the dark, on a telephone, and on every page without complaint."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.mail import deliver, written
from tests.browser.site import Site

PHONE = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 2,
}

# Every page that a person can come to.
PAGES = (
    ("mail", ""),
    ("mail", "compose"),
    ("addressbook", ""),
    ("settings", ""),
    ("settings", "preferences"),
    ("settings", "folders"),
    ("settings", "identities"),
    ("settings", "responses"),
    ("settings", "plugin.managesieve"),
    ("settings", "plugin.managesieve-vacation"),
    ("settings", "about"),
)


def no_wider_than_the_screen(page: Page) -> None:
    for frame in page.frames:
        if frame.is_detached() or "tinymce" in frame.url or frame.name == "composebody_ifr":
            continue
        width, room = frame.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert width <= room + 1, f"{frame.url}: {width} px in {room} px"


@pytest.mark.parametrize(("task", "action"), PAGES)
def test_every_page_loads_without_complaint(visit: Visit, task: str, action: str) -> None:
    """The fixture fails the test for errors, mixed content, requests elsewhere and failed ones."""
    webmail = visit("ann", folder=None)
    webmail.go(task, action)
    webmail.loaded()
    webmail.page.wait_for_load_state("networkidle")
    no_wider_than_the_screen(webmail.page)


def test_dark_follows_the_device_and_can_be_chosen(visit: Visit, site: Site) -> None:
    deliver(site, "ann", written("In the dark", "ann@example.org", html="<p>Night mail</p>"))
    webmail = visit("ann", color_scheme="dark")
    frame = webmail.read("In the dark")
    for place in (webmail.page.main_frame, frame):
        color = place.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(map(int, color.removeprefix("rgb(").removesuffix(")").split(","))) < 80, color
    webmail.page.click("a.theme.light")
    expect(webmail.page.locator("html.dark-mode")).to_have_count(0)
    webmail.show_folder("INBOX")
    expect(webmail.page.locator("html.dark-mode")).to_have_count(0)


def test_telephone_list_read_write(visit: Visit, site: Site) -> None:
    html = '<table width="900"><tr><td>Wide newsletter</td></tr></table><p>' + "word " * 200 + "</p>"
    subject = "A subject that is much too long for the small screen of a telephone, " * 3
    deliver(site, "ann", written(subject.strip(), "ann@example.org", html=html))
    webmail = visit("ann", **PHONE)
    page = webmail.page
    row = webmail.row("A subject that is much too long")
    row.wait_for()
    no_wider_than_the_screen(page)
    row.click()
    frame = webmail.reading("A subject that is much too long")
    expect(frame.locator("#messagebody")).to_contain_text("Wide newsletter")
    expect(row).not_to_be_visible()
    no_wider_than_the_screen(page)
    page.go_back() if not page.locator("a.back-list-button:visible").count() else page.click(
        "a.back-list-button:visible"
    )
    expect(row).to_be_visible()
    webmail.write("bob@example.org", "From the telephone", "Short")
    no_wider_than_the_screen(page)
    webmail.send()
    webmail.show_folder("INBOX")
    no_wider_than_the_screen(page)
