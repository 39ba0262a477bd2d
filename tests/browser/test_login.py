"""The way into the webmail, and what keeps others out."""

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import Visit
from tests.browser.quiet import Quiet
from tests.browser.site import Site
from tests.browser.webmail import Webmail

Contexts = Callable[..., BrowserContext]


@pytest.mark.parametrize("login", ["dave", "dave@example.org", "Dave@Example.org"])
def test_log_in_by_mailbox_name_and_by_address(contexts: Contexts, site: Site, login: str) -> None:
    context = contexts()
    webmail = Webmail(context.new_page(), site)
    webmail.log_in(login, site.passwords["dave"])
    expect(webmail.page.locator(".header-title.username")).to_have_text("dave@example.org")
    cookies = context.cookies()
    assert {one["name"] for one in cookies} >= {"roundcube_sessid", "roundcube_sessauth"}
    for cookie in cookies:
        if cookie["name"].startswith("roundcube_sess"):
            assert cookie["secure"] and cookie["httpOnly"] and cookie["sameSite"] == "Lax"


def test_log_out_ends_the_session(contexts: Contexts, quiet: Quiet, site: Site) -> None:
    context = contexts()
    webmail = Webmail(context.new_page(), site)
    webmail.log_in("dave", site.passwords["dave"])
    session = context.cookies()
    webmail.page.click("a.logout")
    webmail.page.locator("#login-form").wait_for()
    context.add_cookies([one for one in session if one["name"].startswith("roundcube_sess")])  # type: ignore[arg-type]
    quiet.expect("status 401|status of 401")
    webmail.go("mail")
    webmail.page.locator("#login-form").wait_for()


def test_wrong_password_is_refused_and_then_throttled(contexts: Contexts, quiet: Quiet, site: Site) -> None:
    """After five wrong ones even the right one has to wait, and the page says so in words."""
    quiet.expect("status 401|status of 401")
    webmail = Webmail(contexts().new_page(), site)
    for attempt in range(5):
        webmail.try_to_log_in("eve", f"wrong {attempt}")
        webmail.notice("Login failed")
    webmail.try_to_log_in("eve", site.passwords["eve"])
    webmail.notice("Too many")
    expect(webmail.page.locator("#rcmloginuser")).to_be_visible()


def test_one_mailbox_throttled_leaves_the_others_open(visit: Visit) -> None:
    visit("frank")


def test_page_cannot_be_framed_and_remembers_https(contexts: Contexts, site: Site) -> None:
    page = contexts().new_page()
    answer = page.goto(site.url)
    assert answer
    headers = answer.all_headers()
    assert int(headers["strict-transport-security"].partition("max-age=")[2].split(";")[0]) >= 31_536_000
    policy = {
        one.split()[0]: one.split()[1:] for one in headers["content-security-policy"].split("; ") if one
    }
    assert policy["frame-ancestors"] == ["'self'"]
    assert policy["base-uri"] == ["'none'"]
    assert "'unsafe-inline'" not in policy["script-src"]
    assert answer.security_details() and answer.security_details()["protocol"] in ("TLS 1.2", "TLS 1.3")
