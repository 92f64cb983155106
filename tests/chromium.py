"""For the tests in a real browser: headless Chromium, and axe, which knows what keeps people from using a page."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright, which drives the browser, is not installed")
playwright.expect.set_options(timeout=20_000)  # ms: other programs may be busy, too
Axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

# Nothing of the browser's own goes out either. Chromium's sandbox does not work for root.
QUIET = ["gpu", "quic", "background-networking", "component-update", "sync"]
ARGUMENTS = [f"--disable-{part}" for part in QUIET] + ["--no-first-run"]
if hasattr(os, "geteuid") and os.geteuid() == 0:
    ARGUMENTS.append("--no-sandbox")


@contextmanager
def launched():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        yield chromium
        chromium.close()


def barriers(page):
    """What axe has to say against the page; nothing, if all is well."""
    results = Axe().run(page)
    return results.generate_report() if results.violations_count else ""
