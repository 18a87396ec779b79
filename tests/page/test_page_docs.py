"""The pages about the API, `/docs` and `/docs/try`, in Chromium."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.page.browser import NARROW, Visit
from tests.page.conftest import Visiting
from tests.page.site import Site, site

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

expect.set_options(timeout=30_000)  # a machine of CI may be slow

TOKEN = "alice-token-0123456789"
CLIENTS: Any = {"clients.alice": {"token_env": "ALICE_TOKEN", "scopes": ["read", "submit"]}}
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
KEPT = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A service that asks for a token."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALICE_TOKEN", TOKEN)
        async with site(tmp_path_factory.mktemp("docs"), **CLIENTS) as running:
            yield running


async def _barriers(visit: Visit, words: str) -> list[str]:
    """What keeps people from using what the search finds; the rest is taken away, as axe-core takes
    seconds for the whole page."""
    await visit.page.get_by_label("Search").fill(words)
    await visit.page.evaluate("document.querySelectorAll('[hidden]').forEach(one => one.remove())")
    await expect(visit.page.locator("details.one")).not_to_have_count(0)
    return await visit.barriers()


async def test_the_reference_is_searched_copied_from_and_fits_a_phone(
    guarded: Site, visit: Visiting
) -> None:
    seen = await visit(guarded, permissions=["clipboard-read", "clipboard-write"])
    page = seen.page
    await seen.go("/docs#tasks_submit")
    shown = page.locator("#tasks_submit")
    await expect(shown).to_be_visible()
    await shown.get_by_role("button", name="PowerShell").click()
    await shown.get_by_role("button", name="Copy").click()
    await expect(shown.get_by_role("button", name="Copied")).to_be_visible()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert f"-Uri '{guarded.url}/tasks'" in copied
    assert "$env:ASYNCSVC_TOKEN" in copied
    await page.keyboard.press("/")
    await page.keyboard.type("/fork")
    await expect(page.locator("details.one:visible")).to_have_count(1)
    await page.keyboard.press("Enter")
    await expect(page.locator("#tasks_fork .command[data-kind=powershell]")).to_be_visible()
    await expect(page.locator("#tasks_fork .command[data-kind=curl]")).to_be_hidden()
    await page.keyboard.press("/")
    await page.keyboard.press("Escape")
    await expect(page.locator("#tasks_submit")).to_be_visible()
    assert await _barriers(seen, "POST /tasks submit") == []

    phone = await visit(guarded, size=NARROW, theme="dark", touch=True)
    await phone.go("/docs#ws-subscribe")
    await expect(phone.page.locator("#ws-subscribe")).to_be_visible()
    assert await phone.page.evaluate(WIDER) == 0
    await phone.page.get_by_text("All operations").click()
    await phone.page.locator(".contents a", has_text="close codes").click()
    await expect(phone.page.locator(".contents")).to_be_hidden()
    await expect(phone.page.get_by_role("heading", name="Close codes")).to_be_in_viewport()
    await phone.picture("docs-phone-dark")
    assert await _barriers(phone, "subscribe") == []


async def test_the_explorer_makes_a_call_and_keeps_no_token(guarded: Site, visit: Visiting) -> None:
    seen = await visit(guarded)
    page = seen.page
    await seen.go("/docs/try/#/models/models-models")
    block = page.locator("#operations-models-models-models")
    await expect(block.get_by_role("button", name="Execute")).to_be_visible()
    await page.get_by_role("button", name="Authorize").first.click()
    await page.locator(".auth-container input").fill(TOKEN)
    await page.locator(".auth-btn-wrapper .authorize").click()
    await page.locator(".btn-done").click()
    await block.get_by_role("button", name="Execute").click()
    answer = block.locator(".live-responses-table tbody")
    await expect(answer.locator(".response-col_status")).to_contain_text("200")
    await expect(answer).to_contain_text("sim-fast")
    assert TOKEN not in await page.evaluate(KEPT)
    assert await page.evaluate(WIDER) == 0
    await seen.picture("try-light")
