"""Debian's Chromium, driven by Playwright, with our authority among those it trusts.

Certificates are checked as at home: the local authority is put into an NSS database in the browser's HOME,
where Chromium on Linux looks for authorities that a person has added. Switches that ignore errors would also
hide what the tests assert (HSTS is not remembered and mixed content is judged differently on such pages).
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ARGUMENTS = (
    "--no-sandbox",  # tests run as root in CI, where Chromium's own sandbox refuses
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@contextmanager
def chromium(home: Path, ca: Path) -> Iterator[Browser]:
    """Start the browser with *home* as its HOME; it trusts the authority whose certificate is *ca*."""
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    certutil = [found("certutil"), "-d", f"sql:{database}"]
    subprocess.run([*certutil, "-N", "--empty-password"], check=True)
    subprocess.run([*certutil, "-A", "-n", "twinmail", "-t", "C,,", "-i", str(ca)], check=True)
    environment: dict[str, str | float | bool] = {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found("chromium"), args=list(ARGUMENTS), env=environment, headless=True
        )
        try:
            yield browser
        finally:
            browser.close()


def found(program: str) -> str:
    """Where *program* is."""
    path = shutil.which(program)
    assert path, f"no {program}; on Debian: sudo sh .ci/chromium"
    return path
