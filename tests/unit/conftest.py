"""One headless Chromium for all page tests, which are skipped where there is none."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.factories.optional import import_optional

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Of the system; none is downloaded."""
    playwright = import_optional("playwright.sync_api")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser is installed; the tests of the page need {' or '.join(NAMES)}")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()
