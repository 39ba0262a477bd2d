"""Rules that a person makes in the settings, and what becomes of the mail, on both servers."""

from playwright.sync_api import FrameLocator, expect

from tests.browser.conftest import Visit
from tests.browser.mail import wait_until, written
from tests.browser.site import SERVERS, Site
from tests.browser.webmail import Webmail


def new_filter(webmail: Webmail, name: str) -> FrameLocator:
    """Open the form for a new rule."""
    webmail.go("settings", "plugin.managesieve")
    webmail.loaded()
    webmail.page.click("a.create:not(.disabled)")
    form = webmail.page.frame_locator("iframe[name=filter-box]")
    form.locator("#_name").fill(name)
    return form


def test_filter_acts_on_both_servers(visit: Visit, site: Site) -> None:
    webmail = visit("dave")
    form = new_filter(webmail, "Invoices to the archive")
    form.locator("#header0").select_option("subject")
    form.locator("#rule_op0").select_option("contains")
    form.locator("textarea[name='_rule_target[0]'] ~ * input[type=text]").first.fill("invoice")
    form.locator("#action_type0").select_option("fileinto")
    form.locator("#action_mailbox0").select_option("Archive")
    form.locator("button.submit").click()
    expect(webmail.page.locator("#filterslist")).to_contain_text("Invoices to the archive")
    for server in SERVERS:
        # A rule is shared within seconds; mail that is faster than the rule is not what is asserted here.
        active = site.system.state.maildirs(server) / "dave" / ".dovecot.sieve"
        wait_until(lambda path=active: path.exists() and "Archive" in path.read_text(), bool)

    accepted = site.sender.send(bytes(written("Invoice 1", "dave@example.org")), ["dave@example.org"])
    other = site.sender.send(bytes(written("Private", "dave@example.org")), ["dave@example.org"])
    for server in SERVERS:
        with site.client("dave", server) as client:
            client.wait_for([accepted], "Archive")
            client.wait_for([other], "INBOX")
            assert not client.find(accepted, "INBOX")
    webmail.show_folder("Archive")
    expect(webmail.row("Invoice 1")).to_be_visible()


def test_out_of_office_is_a_page_of_its_own(visit: Visit, site: Site) -> None:
    webmail = visit("frank")
    webmail.go("settings", "plugin.managesieve-vacation")
    webmail.loaded()
    page = webmail.page
    page.locator("[name=vacation_status]").select_option("on")
    page.locator("[name=vacation_subject]").fill("Away until Monday")
    page.locator("[name=vacation_reason]").fill("Schöne Grüße, I am hiking.")
    page.click("button.submit:visible")
    webmail.notice("saved")
    webmail.go("settings", "plugin.managesieve-vacation")
    expect(page.locator("[name=vacation_status]")).to_have_value("on")
    expect(page.locator("[name=vacation_reason]")).to_have_value("Schöne Grüße, I am hiking.")
