"""One headless Chromium for all tests of the page; without one they are skipped."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.callbacks.report import pages

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Of the system; none is downloaded."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; take the dev group")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser is installed; the tests of the page need {' or '.join(NAMES)}")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page file and gives the tab; afterwards nothing may have been asked of a network, run from data or gone wrong."""
    context, said = browser.new_context(viewport={"width": 1280, "height": 900}), []

    def open_(path: Any, **more: Any) -> Any:
        tab = context.new_page()
        for name, value in more.items():
            getattr(tab, name)(value)
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        tab.on("request", lambda request: None if request.url.startswith((path.as_uri(), "data:", "blob:")) else said.append(request.url))
        tab.goto(path.as_uri())
        return tab

    yield open_
    context.close()
    assert not said


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], pages.Page]:
    """Pages by name, each written once."""
    folder = tmp_path_factory.mktemp("pages")
    found: dict[str, pages.Page] = {}
    ways = {
        "mask": pages.masks,
        "masks": lambda to: pages.masks(to, classes=3),
        "folds": lambda to: pages.masks(to, folds=True),
        "label": pages.labels,
        "labels": lambda to: pages.labels(to, classes=3),
        "exclusive": lambda to: pages.labels(to, classes=3, exclusive=True),
    }

    def page(name: str) -> pages.Page:
        if name not in found:
            found[name] = ways[name](folder / name)
        return found[name]

    return page
