"""Chromium, its pages, and what they must never do.

A visited page may report no error on its console, throw nothing, break no rule of the
Content-Security-Policy, and ask no other host. What it did is in `Visit.faults`; the fixture
`visit` fails the test for each fault that the test does not expect.
"""

import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from tests.page.node import axe
from tests.page.site import Site

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-dev-shm-usage",
    "--js-flags=--expose-gc",
)  # fmt: skip
SCREENSHOTS = "ASYNCSVC_TESTS_SCREENSHOTS"
"""The variable with the folder for pictures; without it none are taken."""
WIDE, NARROW = (1440, 900), (390, 844)
LOST = (r"WebSocket connection to", r"ERR_CONNECTION_(REFUSED|RESET|CLOSED)", r"ERR_EMPTY_RESPONSE")
"""What a browser reports of a service that is killed."""


def executable() -> str | None:
    """The path of the browser; None: the machine has none."""
    given = os.environ.get("ASYNCSVC_TESTS_CHROMIUM")
    return given or next((path for name in NAMES if (path := shutil.which(name))), None)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser without a window."""
    async with async_playwright() as playwright:
        path = executable()
        browser = await playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Visit:
    """One page in a context of its own, and what went wrong on it."""

    site: Site
    page: Page
    context: BrowserContext
    faults: list[str] = field(default_factory=list)
    expected: Sequence[str] = ()
    """Patterns of faults that belong to the test."""

    def unexpected(self) -> list[str]:
        """The faults that the test does not expect. A page may still ask when its service has
        ended with the test."""
        gone = self.site.process.child.returncode is not None
        ended = (
            r"ERR_(CONNECTION_(REFUSED|RESET|CLOSED)|EMPTY_RESPONSE|SOCKET_NOT_CONNECTED"
            r"|CONTENT_LENGTH_MISMATCH)"
        )
        expected = [*self.expected, *([ended] if gone else ())]
        return [
            fault
            for fault in self.faults
            if not any(re.search(pattern, fault) for pattern in expected)
        ]

    async def go(self, path: str = "/") -> None:
        """Open a path of the service."""
        await self.page.goto(f"{self.site.url}{path}")

    async def barriers(self) -> list[str]:
        """What axe-core finds on the page that seriously keeps people from using it."""
        await self.page.evaluate(axe())
        found = await self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['impact']}: {one['id']}: {node['target']}: {node['failureSummary']}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    async def picture(self, name: str) -> Path | None:
        """Take a screenshot, where a folder for them is named."""
        folder = os.environ.get(SCREENSHOTS)
        if not folder:
            return None
        path = Path(folder) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=path)
        return path


@asynccontextmanager
async def visiting(
    browser: Browser,
    site: Site,
    *,
    size: tuple[int, int] = WIDE,
    theme: Literal["light", "dark"] = "light",
    lang: str = "en",
    expected: Sequence[str] = (),
    touch: bool = False,
    **more: Any,
) -> AsyncIterator[Visit]:
    """A new page in a context of its own, nothing opened yet; `more` goes to playwright."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=theme,
        locale={"en": "en-GB", "zh": "zh-CN"}.get(lang, lang),
        timezone_id="Asia/Shanghai",
        reduced_motion="reduce",
        has_touch=touch,
        service_workers="block",
        **more,
    )
    try:
        page = await context.new_page()
        visit = Visit(site, page, context, expected=expected)
        _watch(visit)
        yield visit
    finally:
        await context.close()


def _watch(visit: Visit) -> None:
    own = urlsplit(visit.site.url).netloc

    def printed(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            visit.faults.append(f"console {message.type}: {message.text}")

    def asked(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob", "about") and parts.netloc != own:
            visit.faults.append(f"asked another host: {url}")

    visit.page.on("console", printed)
    visit.page.on("pageerror", lambda error: visit.faults.append(f"thrown: {error}"))
    visit.page.on("request", lambda request: asked(request.url))
    visit.page.on("websocket", lambda socket: asked(socket.url))
