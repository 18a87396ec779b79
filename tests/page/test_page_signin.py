"""Signing in on the page: asked once, kept as chosen, never in an address."""

from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.page.conftest import Visiting
from tests.page.pages import echoing, open_task

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

TOKEN = "a-token-of-alice-1234567890"
CLIENTS = {"clients.alice": {"token_env": "ALICE_TOKEN", "scopes": ["read", "submit"]}}


@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "not kept"])
async def test_the_token_is_asked_for_once(
    tmp_path: Path, visit: Visiting, monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    monkeypatch.setenv("ALICE_TOKEN", TOKEN)
    async with echoing(tmp_path, **CLIENTS) as (site, _):
        site.http.headers["authorization"] = f"Bearer {TOKEN}"
        task_id = await site.submit("hello", model="fast")
        seen = await visit(site, expected=["status of 401", "WebSocket connection to"])
        page, asked = seen.page, list[str]()
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(f"{site.url}/#/tasks/{task_id}")
        field = page.get_by_label("Token", exact=True)
        await field.fill("wrong")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_contain_text("not known here (401)")
        assert await seen.barriers() == []
        if not keeps:
            await page.get_by_label("Keep it until the page is loaded again").check()
        await field.fill(TOKEN)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator(".task .title")).to_have_text("hello")
        await expect(page.locator(".bar .link")).to_contain_text("live")
        assert not [url for url in asked if TOKEN in url]
        assert TOKEN not in await page.evaluate("JSON.stringify(localStorage)")
        await page.reload()
        if keeps:
            await open_task(page, site.url, task_id)
        else:
            await expect(page.get_by_label("Token", exact=True)).to_be_visible()
