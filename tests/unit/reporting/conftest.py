"""Pages of synthetic runs, and browser tabs that show them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.factories import pages


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open page files in tabs; fail at the end on any network request, dialog, message or error."""
    context, said = browser.new_context(viewport={"width": 1280, "height": 900}), []

    def open_(path: Any, **more: Any) -> Any:
        tab = context.new_page()
        for name, value in more.items():
            getattr(tab, name)(value)
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on(
            "dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss())
        )
        tab.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((path.as_uri(), "data:", "blob:"))
                else said.append(request.url)
            ),
        )
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
