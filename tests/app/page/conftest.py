"""One browser and one server of small models for all tests of the page."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from dtx.app.asked import Explorer
from tests.app.page import browser
from tests.app.page.driven import Tab, server, tab
from tests.app.served import served


@pytest.fixture(scope="package")
def chromium() -> Iterator:
    """The browser; without one the tests are skipped, but in CI they fail."""
    if lacks := browser.lacks():
        (pytest.fail if "CI" in os.environ else pytest.skip)(lacks)
    with browser.started() as chromium:
        yield chromium


@pytest.fixture(scope="package")
def home(explorer: Explorer) -> Iterator[str]:
    """Address of the page of small models (``tests/app/small.py``)."""
    with served(server(explorer)) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="package")
def kept(chromium, home: str) -> Iterator[Tab]:
    """One tab for the tests that follow links in it."""
    with tab(chromium, home) as one:
        one.open()
        yield one


@pytest.fixture
def page(kept: Tab) -> Iterator[Tab]:
    """That tab; at the end nothing may have gone wrong in it."""
    kept.errors.clear()
    yield kept
    assert kept.errors == []


@pytest.fixture
def fresh(chromium, home: str) -> Iterator[Tab]:
    """A tab of its own; at the end nothing may have gone wrong in it."""
    with tab(chromium, home) as one:
        yield one
        assert one.errors == []
