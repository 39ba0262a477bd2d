"""One system and one browser for all tests; each test gets browser contexts of its own, which must stay quiet."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, StorageState, expect

from tests.browser import browser as debian
from tests.browser import site as local
from tests.browser.quiet import Quiet
from tests.browser.site import Site
from tests.browser.webmail import Webmail
from twinmail.runtime.select import available

ARTEFACTS = Path(__file__).parent / "artefacts"

SECONDS = 20

Visit = Callable[..., Webmail]

expect.set_options(timeout=SECONDS * 1000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--screenshots", help="folder for the pictures of the documentation (default: artefacts)"
    )


@pytest.fixture(scope="session")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    # One runtime is enough: that both run the same containers in the same way is what the contract and the
    # end-to-end tests assert, and a browser sees nothing of it. Namespaces need no engine.
    wanted = request.config.getoption("--runtime")
    names = available()
    assert names, "this machine can run no containers; ./inv up says what it needs"
    name = wanted if wanted in names else ("namespace" if "namespace" in names else names[0])
    with local.running(name, tmp_path_factory.mktemp("site")) as one:
        yield one


@pytest.fixture(scope="session")
def browser(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with debian.chromium(tmp_path_factory.mktemp("home"), site.system.ca) as one:
        yield one


@pytest.fixture(scope="session")
def sessions() -> dict[str, StorageState]:
    """Cookies by user, so that not each test logs in; the server limits that."""
    return {}


@pytest.fixture
def quiet(site: Site) -> Iterator[Quiet]:
    """What pages said that they should not have; the test fails for it, whatever else it asserts."""
    one = Quiet(site.origin)
    yield one
    assert one.complaints() == []


@pytest.fixture
def contexts(
    request: pytest.FixtureRequest, browser: Browser, quiet: Quiet
) -> Iterator[Callable[..., BrowserContext]]:
    """Makes browser contexts, as new as a private window; screenshots of all pages are kept."""
    made: list[BrowserContext] = []

    def make(**options: Any) -> BrowserContext:
        context = browser.new_context(
            **{
                "locale": "en-US",
                "viewport": {"width": 1280, "height": 800},
                "accept_downloads": True,
                **options,
            }
        )
        context.set_default_timeout(SECONDS * 1000)
        quiet.watch(context)
        made.append(context)
        return context

    yield make
    ARTEFACTS.mkdir(exist_ok=True)
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    for page in (page for context in made for page in context.pages):
        page.screenshot(
            path=ARTEFACTS / f"{name}-{made.index(page.context)}-{page.context.pages.index(page)}.png"
        )
    for context in made:
        context.close()


@pytest.fixture
def visit(contexts: Callable[..., BrowserContext], sessions: dict[str, StorageState], site: Site) -> Visit:
    """Opens the webmail as a user who has logged in."""

    def open_webmail(user: str, folder: str | None = "INBOX", **options: Any) -> Webmail:
        if user not in sessions:
            first = contexts()
            Webmail(first.new_page(), site).log_in(user, site.passwords[user])
            sessions[user] = first.storage_state()
            first.pages[0].close()
        webmail = Webmail(contexts(storage_state=sessions[user], **options).new_page(), site)
        if folder:
            webmail.show_folder(folder)
        return webmail

    return open_webmail
