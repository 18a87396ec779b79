"""A browser for all tests of the run, a service for a module or a test, and visits.

A module that uses them runs its tests in one loop:
`pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.needs import need
from tests.page import browser as browsers
from tests.page.browser import Visit, visiting
from tests.page.site import Site, site

Visiting = Callable[..., Awaitable[Visit]]
"""`await visit(site, size=…, theme=…, lang=…, expected=…)`: see `browser.visiting`."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium; the test is skipped where the machine has none."""
    need(None if browsers.executable() else "there is no Chromium on this machine")
    async with browsers.chromium() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A service for all tests of a module; it holds what earlier tests have left."""
    async with site(tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(tmp_path: Path) -> AsyncIterator[Site]:
    """A test's own service, empty."""
    async with site(tmp_path) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser) -> AsyncIterator[Visiting]:
    """Opens pages; the test fails for a fault of any of them that it does not expect."""
    visits = []
    async with AsyncExitStack() as stack:

        async def visit(where: Site, **how: Any) -> Visit:
            found = await stack.enter_async_context(visiting(browser, where, **how))
            visits.append(found)
            return found

        yield visit
        faults = [fault for one in visits for fault in one.unexpected()]
    assert not faults, "\n".join(faults)
