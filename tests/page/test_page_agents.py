"""An agent on the page: its steps, what waits for a person, its files, and a fork."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.page.browser import LOST, NARROW
from tests.page.conftest import Visiting
from tests.page.pages import echoing, open_task, state_is
from tests.page.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

PAGE = "<script>window.hacked = 1</script>\n"
STEPS = [
    {"text": "I look first.", "calls": [{"name": "list_directory", "arguments": {"path": "."}}]},
    {
        "text": "I write the file.",
        "calls": [
            {"name": "edit_file", "arguments": {"path": "a.txt", "old": "one", "new": "two"}},
            {"name": "write_file", "arguments": {"path": "page.html", "content": PAGE}},
        ],
    },
    "All is done.",
]


async def _submit(site: Site, **more: Any) -> str:
    content = f"Change a word.\n\n#agent {json.dumps(STEPS)}"
    files = {"a.txt": "zero\none\n"}
    return await site.submit(content, type="agent", model="fast", files=files, **more)


def _tools(folder: Path) -> dict[str, Any]:
    return {"tools": {"workspace": str(folder / "work")}}


async def test_a_call_that_waits_is_approved_by_key_after_a_killed_service(
    tmp_path: Path, visit: Visiting
) -> None:
    async with echoing(tmp_path, **_tools(tmp_path)) as (site, _):
        task_id = await _submit(site, approve=["edit_file"])
        seen = await visit(site, expected=LOST)
        page = seen.page
        await open_task(page, site.url, task_id)
        await state_is(page, "Needs you")
        await expect(page.locator(".bar .need")).to_have_text(re.compile(r"1\s*needs you"))
        await expect(page.locator(".row .why")).to_contain_text("edit_file waits for your approval")
        ask = page.locator(".block.ask")
        await expect(ask.locator("tr.del")).to_contain_text("one")
        await expect(ask.locator("tr.add")).to_contain_text("two")
        assert await seen.barriers() == []
        await seen.picture("approval")
        await site.kill()
        await site.start()
        await expect(page.locator(".bar .link")).to_contain_text("live")
        await expect(ask).to_have_count(1)
        await page.keyboard.press("a")
        await state_is(page, "Completed")
        await expect(page.locator(".log")).to_contain_text("All is done.")
        await expect(page.locator(".block", has_text="edit_file")).to_contain_text("approved after")
        await expect(page.locator(".bar .need")).to_have_count(0)
        await page.get_by_role("tab", name="Files").click()
        await page.get_by_role("button", name="page.html").click()
        await expect(page.locator(".file pre")).to_contain_text("<script>window.hacked")
        assert await page.evaluate("window.hacked") is None


async def test_a_call_is_denied_with_a_reason_on_a_phone_and_a_desktop(
    tmp_path: Path, visit: Visiting
) -> None:
    async with echoing(tmp_path, **_tools(tmp_path)) as (site, _):
        task_id = await _submit(site, approve=["edit_file", "write_file"])
        wide, narrow = await visit(site), await visit(site, size=NARROW, touch=True)
        for seen in (wide, narrow):
            await open_task(seen.page, site.url, task_id)
        reason = wide.page.get_by_label("Reason for the model")
        await reason.fill("a is not to be changed")
        await wide.page.get_by_role("button", name="Deny").click()
        denied = narrow.page.locator(".block", has_text="edit_file")
        await expect(denied).to_contain_text("denied after")
        approve = narrow.page.get_by_role("button", name="Approve")
        await expect(approve).to_be_in_viewport()
        await narrow.picture("approval-phone")
        await approve.tap()
        for seen in (wide, narrow):
            await state_is(seen.page, "Completed")
        await wide.page.locator(".block", has_text="edit_file").get_by_text("Open").click()
        await expect(wide.page.locator(".log")).to_contain_text("a is not to be changed")


async def test_an_agent_is_forked_from_a_step(tmp_path: Path, visit: Visiting) -> None:
    async with echoing(tmp_path, **_tools(tmp_path)) as (site, _):
        task_id = await _submit(site)
        await site.done(task_id)
        seen = await visit(site)
        page = seen.page
        await open_task(page, site.url, task_id)
        await expect(page.locator(".log .at.step")).to_have_count(2)
        await page.get_by_role("button", name="Fork").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("After step").fill("1")
        assert await seen.barriers() == []
        await dialog.get_by_role("button", name="Fork").click()
        await expect(page.locator(".row")).to_have_count(2)
        await page.wait_for_url(lambda url: task_id not in url)
        await state_is(page, "Completed")
