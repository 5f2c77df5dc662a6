# SPDX-License-Identifier: Apache-2.0
"""A browser for the tests of pages: the one that this system has."""

import os
import shutil
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOOLS / "shared"), str(TOOLS / "tests"), str(TOOLS.parent)]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("there is no browser: none of %s is on the PATH" % ", ".join(BROWSERS))
    sandbox = [] if os.getuid() else ["--no-sandbox"]  # root has none
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=sandbox)
        yield browser
        browser.close()
