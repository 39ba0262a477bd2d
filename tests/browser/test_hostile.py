"""Mail that wants to run in its reader's browser: none does, by two lines of defence that are tested apart.

The corpus is in hostile/: what Roundcube's sanitizer was once fooled by (named by its CVE), and what browsers are
known to run. A script shows itself by a dialog; a style sheet, picture, form or frame by asking hostile.example.
The fixture `quiet` fails a test for either, and for everything that only the second line of defence stopped.
"""

import email
import http.client
from contextlib import closing
from email import policy
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Error, Frame, Page, expect

from tests.browser.conftest import Visit
from tests.browser.quiet import Quiet
from tests.browser.site import Site
from tests.browser.webmail import Webmail

USER = "grace"
CORPUS = sorted((Path(__file__).parent / "hostile").glob("*.eml"))

# A browser runs handlers and loads pictures in its own time; this is long after all of them.
SETTLED = """() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))"""

# Whatever a click could run. Links to elsewhere open a window of their own, which is what links are for.
CLICK = """() => {
    for (const one of document.querySelectorAll('.message-htmlpart *, .message-part *')) {
        for (const {name, value} of one.attributes) {
            if (/^on/.test(name) && !/^return rcmail\\.command\\('compose'/.test(value)) throw new Error(one.outerHTML);
            if (/^\\s*(javascript|vbscript|data:text)/i.test(value) && name != 'title' && name != 'alt')
                throw new Error(one.outerHTML);
        }
        for (const kind of ['pointerenter', 'mouseover', 'mousemove', 'focus', 'toggle', 'animationstart'])
            one.dispatchEvent(new Event(kind, {bubbles: true}));
        if (one.matches('a, area, svg a *, summary') && !/^(https?|mailto)/.test(one.protocol || 'https'))
            one.dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}));
    }
}"""


@pytest.fixture(scope="session")
def uids(site: Site) -> dict[str, str]:
    """UID by name of the file."""
    accepted = site.sender.send_all([path.read_bytes() for path in CORPUS], [f"{USER}@example.org"])
    with site.client(USER) as client:
        found = client.wait_for(accepted)
    return {path.stem: found[one.ses_id][0] for path, one in zip(CORPUS, accepted, strict=True)}


def show(visit: Visit, uid: str) -> Webmail:
    """The message on a page of its own."""
    webmail = visit(USER, folder=None)
    webmail.go("mail", "show", _mbox="INBOX", _uid=uid)
    webmail.loaded()
    webmail.page.locator("#messagebody").wait_for()
    return webmail


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_nothing_runs_when_it_is_read_and_answered(
    visit: Visit, uids: dict[str, str], site: Site, quiet: Quiet, path: Path
) -> None:
    if path.stem == "handlers-of-roundcube":
        # Roundcube's own handler for writing to an address; the policy names none that has markup in it.
        quiet.expect("inline event handler violates")
    webmail = show(visit, uids[path.stem])
    page = webmail.page
    address = page.url
    page.evaluate(SETTLED)
    page.evaluate(CLICK)
    page.evaluate(SETTLED)
    assert page.url == address

    webmail.go("mail", "compose", _reply_uid=uids[path.stem], _mbox="INBOX")
    page.locator("#composebody_ifr:visible, #composebody:visible").wait_for()
    webmail.loaded()
    page.evaluate(SETTLED)
    assert page.url.startswith(site.origin)
    # Unsaved text would ask before the page goes.
    page.evaluate("rcmail.compose_skip_unsavedcheck = true")


ATTACHED = [path for path in CORPUS if b"multipart/mixed" in path.read_bytes()]


@pytest.mark.parametrize("path", ATTACHED, ids=lambda path: path.stem)
def test_nothing_runs_when_an_attachment_is_opened(
    visit: Visit, uids: dict[str, str], site: Site, quiet: Quiet, path: Path
) -> None:
    webmail = visit(USER)
    parts = email.message_from_bytes(path.read_bytes(), policy=policy.compat32).get_payload()
    for number, _ in enumerate(parts, 1):
        for how in ({}, {"_frame": "1"}, {"_embed": "1"}, {"_nocheck": "1"}):
            query = {
                "_task": "mail",
                "_action": "get",
                "_mbox": "INBOX",
                "_uid": uids[path.stem],
                "_part": number,
                **how,
            }
            look_at(webmail.page, site, urlencode(query))
    quiet.expect("Content Security Policy")
    quiet.expect("net::ERR_(ABORTED|INVALID_RESPONSE)|: csp")


def look_at(page: Page, site: Site, query: str) -> None:
    """Open it in the browser, unless it is a download."""
    cookies = "; ".join(f"{one['name']}={one['value']}" for one in page.context.cookies())
    connection = http.client.HTTPSConnection(urlsplit(site.url).netloc, timeout=60, context=site.tls)
    with closing(connection):
        connection.request("GET", f"/?{query}", headers={"Cookie": cookies})
        answer = connection.getresponse()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    assert headers["x-content-type-options"] == "nosniff"
    directives = {
        one.split()[0]: one.split()[1:] for one in headers["content-security-policy"].split(";") if one
    }
    assert "'unsafe-inline'" not in directives.get("script-src", directives["default-src"])
    if not headers.get("content-disposition", "").startswith("attachment") and answer.status == 200:
        # The load event comes after all scripts, pictures and frames of the page, and after their handlers.
        try:
            page.goto(f"{site.url}?{query}")
        except Error as error:
            assert "Download is starting" in str(error)


@pytest.mark.parametrize("place", ["preview", "show"])
def test_policy_stops_what_the_sanitizer_would_let_through(
    visit: Visit, uids: dict[str, str], quiet: Quiet, place: str
) -> None:
    """The raw HTML of every mail of the corpus, put into the page that shows a message."""
    # Stopped, and said so; what is not stopped is a dialog or reaches another place, and no pattern forgives that.
    quiet.expect("^console (error|warning): .*(Content Security Policy|X-Frame|Unsafe attempt|frame)")
    quiet.expect("^request failed: .*: csp")
    quiet.expect("^(request elsewhere|console error|request failed|status 40.): .*")
    webmail = show(visit, uids["plain-with-markup"])
    frame: Frame = webmail.page.main_frame
    if place == "preview":
        webmail.show_folder("INBOX")
        frame = webmail.read("plain-with-markup")
    frame.evaluate(
        "addEventListener('securitypolicyviolation', one => (window.stopped ??= []).push(one.effectiveDirective))"
    )
    for path in CORPUS:
        message = email.message_from_bytes(path.read_bytes(), policy=policy.compat32)
        # A refresh is no script, and would leave the page that is being looked at.
        if message.get_content_type() != "text/html" or path.stem == "meta-refresh":
            continue
        html = message.get_payload(decode=True).decode("utf-8", "replace")  # type: ignore[union-attr]
        frame.evaluate(
            "html => document.querySelector('#messagebody').append(document.createRange().createContextualFragment(html))",
            html,
        )
        frame.evaluate(SETTLED)
    stopped = set(frame.evaluate("window.stopped"))
    assert stopped >= {"script-src-elem", "script-src-attr", "img-src"}
    said = [one for one in quiet.heard if one.startswith(("alert", "confirm", "prompt"))]
    assert said == []


def test_the_tests_would_notice(contexts: object, visit: Visit, quiet: Quiet) -> None:
    """A page without a policy does run what is in the corpus, and the fixture hears it."""
    page = visit(USER, folder=None).page
    page.goto("about:blank")
    page.set_content("<img src='data:,' onerror='alert(1)'><img src='https://hostile.example/'>")
    page.evaluate(SETTLED)
    expect(page.locator("img")).to_have_count(2)
    heard = [one.partition(":")[0] for one in quiet.heard]
    assert "alert" in heard and "request elsewhere" in heard
    quiet.expect("")
