"""The list of tasks on the page: filters in the address, keys, many at once, ten thousand."""

from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.page.browser import NARROW
from tests.page.conftest import Visiting
from tests.page.pages import asking, echoing, open_task, state_is
from tests.page.site import Site
from tests.polling import until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

MANY = 10_000
BATCH = 1000


async def _submit_many(site: Site, number: int, **fields: object) -> None:
    for start in range(0, number, BATCH):
        tasks = [{"content": f"question {start + n}", **fields} for n in range(min(BATCH, number))]
        answer = await site.http.post("/tasks/batch", json={"tasks": tasks})
        assert answer.status_code == 202, answer.text


async def test_filters_stand_in_the_address_and_back_takes_them_away(
    tmp_path: Path, visit: Visiting
) -> None:
    async with echoing(tmp_path) as (site, _):
        for number in range(3):
            await site.done(await site.submit(f"finished {number}"))
        later = await site.submit("later", delay_s=3600, lane="long")
        seen = await visit(site)
        page, rows = seen.page, seen.page.locator(".rows .row")
        await seen.go("/")
        await expect(rows).to_have_count(4)
        await page.locator(".counts a", has_text="scheduled").click()
        await expect(rows).to_have_count(1)
        assert "status=scheduled" in page.url
        await rows.first.click()
        assert later in page.url
        assert "status=scheduled" in page.url
        await expect(page.locator(".task .title")).to_have_text("later")
        await page.go_back()
        await page.go_back()
        await expect(rows).to_have_count(4)
        await page.keyboard.press("/")
        await page.keyboard.type("finished 1")
        await expect(rows).to_have_count(1)
        assert "q=finished+1" in page.url
        await page.reload()
        await expect(rows).to_have_count(1)
        await page.get_by_role("searchbox").fill("nothing like it")
        await expect(page.locator(".list-note")).to_contain_text("No task matches")
        await page.get_by_role("link", name="Take away the filter").click()
        await expect(rows).to_have_count(4)


async def test_tasks_are_steered_by_key(tmp_path: Path, visit: Visiting) -> None:
    async with echoing(tmp_path) as (site, _):
        ids = [await site.submit(f"later {number}", delay_s=3600) for number in range(3)]
        seen = await visit(site)
        page = seen.page
        await seen.go("/")
        await expect(page.locator(".rows .row")).to_have_count(3)
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await page.keyboard.press("Enter")
        await expect(page.locator(".task .title")).to_have_text("later 1")
        await page.keyboard.press("p")
        await state_is(page, "Paused")
        await page.keyboard.press("p")
        await state_is(page, "Scheduled")
        await page.keyboard.press("c")
        await state_is(page, "Cancelled")
        assert (await site.task(ids[1]))["status"] == "cancelled"
        await page.keyboard.press("k")
        await page.keyboard.press("x")
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await page.keyboard.press("Shift+X")
        await expect(page.locator(".bulk")).to_contain_text("3 chosen")
        await page.keyboard.press("c")
        question = page.get_by_role("alertdialog")
        await expect(question).to_contain_text("Cancel 2 tasks?")
        await question.get_by_role("button", name="Cancel 2").click()
        await expect(page.locator(".bulk-state")).to_contain_text("2 of 2 done")
        for task_id in ids:
            assert (await site.task(task_id))["status"] == "cancelled"
        await page.keyboard.press("Escape")
        await expect(page.locator(".bulk")).to_have_count(0)
        await page.get_by_role("searchbox").focus()
        await page.keyboard.type("c")
        await page.keyboard.press("Escape")
        await page.keyboard.press("?")
        await expect(page.get_by_role("heading", name="Help")).to_be_visible()
        await page.keyboard.press("g")
        await page.keyboard.press("t")
        await expect(page.locator(".rows")).to_be_visible()


async def test_new_tasks_do_not_push_what_is_read(tmp_path: Path, visit: Visiting) -> None:
    async with echoing(tmp_path) as (site, _):
        await _submit_many(site, 100, delay_s=3600)
        seen = await visit(site)
        page = seen.page
        await seen.go("/")
        await expect(page.locator(".counts")).to_contain_text("100")
        await page.locator(".rows").evaluate("rows => rows.scrollTo(0, 1120)")
        await expect(page.locator(".rows .row", has_text="question 79")).to_be_visible()
        place = page.locator(".rows .row", has_text="question 79")
        before = await place.bounding_box()
        await site.submit("one more", delay_s=3600)
        newer = page.get_by_role("button", name="1 newer")
        await expect(newer).to_be_attached()
        after = await place.bounding_box()
        assert before is not None
        assert after is not None
        assert abs(before["y"] - after["y"]) <= 40
        await newer.click()
        await expect(page.locator(".rows .row").first).to_contain_text("one more")


async def test_ten_thousand_tasks_are_read_as_far_as_one_scrolls(
    tmp_path: Path, visit: Visiting
) -> None:
    async with echoing(tmp_path, queue={"max_length": MANY + 10}) as (site, _):
        await _submit_many(site, MANY, delay_s=36000)
        seen = await visit(site)
        page = seen.page
        await seen.go("/")
        await expect(page.locator(".counts a").first).to_contain_text("10,000")
        rows = page.locator(".rows .row")
        assert await rows.count() < 60, "only rows in view are drawn"
        await page.locator(".rows").evaluate("rows => rows.scrollTo(0, rows.scrollHeight)")
        await expect(page.locator(".foot")).to_contain_text("of 10,000", timeout=30_000)
        await expect(rows.last).to_contain_text("question 0", timeout=30_000)
        assert await rows.count() < 60
        longest = await page.evaluate(
            """async () => {
                 const rows = document.querySelector('.rows');
                 let longest = 0, last = performance.now();
                 for (let at = 0; at < 60; at++) {
                   rows.scrollTo(0, at * 9000);
                   await new Promise(requestAnimationFrame);
                   const now = performance.now();
                   longest = Math.max(longest, now - last); last = now;
                 }
                 return longest;
               }"""
        )
        assert longest < 500
        assert await seen.barriers() == []


async def test_a_task_that_comes_into_a_long_list_far_down_stands_there(
    tmp_path: Path, visit: Visiting
) -> None:
    async with echoing(tmp_path) as (site, _):
        oldest = await site.submit("the oldest", delay_s=36000)
        await site.http.post(f"/tasks/{oldest}/pause")
        await _submit_many(site, 210, delay_s=36000)  # more than are read again at once
        seen = await visit(site)
        rows = seen.page.locator(".rows .row")
        await seen.go("/#/tasks?status=scheduled")
        await seen.page.locator(".rows").evaluate("rows => rows.scrollTo(0, rows.scrollHeight)")
        await expect(rows.last).to_contain_text("question 0")
        await site.http.post(f"/tasks/{oldest}/resume")
        await seen.page.locator(".rows").evaluate("rows => rows.scrollTo(0, rows.scrollHeight)")
        await expect(rows.last).to_contain_text("the oldest")


async def test_on_a_phone_the_task_takes_the_place_of_the_list(
    tmp_path: Path, visit: Visiting
) -> None:
    async with echoing(tmp_path) as (site, _):
        for number in range(30):
            await site.submit(f"later {number}", delay_s=3600)
        seen = await visit(site, size=NARROW, touch=True)
        page = seen.page
        await seen.go("/")
        rows = page.locator(".rows")
        await expect(rows).to_be_visible()
        await rows.evaluate("rows => rows.scrollTo(0, 640)")
        await page.locator(".row", has_text="later 15").tap()
        await expect(page.locator(".task .title")).to_have_text("later 15")
        await expect(rows).to_be_hidden()
        await page.get_by_role("button", name="Back to the list").tap()
        await expect(rows).to_be_visible()
        assert await rows.evaluate("rows => rows.scrollTop") > 300, "the same place of the list"
        await page.get_by_role("button", name="Menu").tap()
        await page.get_by_role("link", name="Models").tap()
        assert page.url.endswith("#/models")


async def test_a_task_that_is_gone_says_so(tmp_path: Path, visit: Visiting) -> None:
    async with echoing(tmp_path) as (site, _):
        task_id = await site.submit("short", model="fast")
        await site.done(task_id)
        seen = await visit(site, expected=["status of 404"])
        await open_task(seen.page, site.url, task_id)
        await seen.page.get_by_role("button", name="Delete").click()
        await seen.page.get_by_role("alertdialog").get_by_role("button", name="Delete").click()
        await expect(seen.page.locator(".list-note")).to_contain_text("No task yet")
        await seen.page.goto(f"{site.url}/#/tasks/{task_id}")
        await expect(seen.page.locator(".err")).to_contain_text("task_not_found")


async def test_a_list_that_cannot_be_read_says_when_it_is_tried_again(
    tmp_path: Path, visit: Visiting
) -> None:
    async with echoing(tmp_path) as (site, _):
        await site.submit(asking("hello"), model="echo")
        seen = await visit(site, expected=["status of 503"])
        refusals = 0

        async def refuse(route: object) -> None:
            nonlocal refusals
            refusals += 1
            error = {"code": "overloaded", "message": "memory at 512 of 500 MB", "param": None}
            await route.fulfill(  # type: ignore[attr-defined]
                status=503, json={"error": error}, headers={"retry-after": "1"}
            )

        await seen.page.route("**/tasks?*", refuse, times=1)
        await seen.go("/")
        await expect(seen.page.locator(".list-note")).to_contain_text(
            "503 overloaded: memory at 512"
        )

        async def rows() -> int:
            return await seen.page.locator(".rows .row").count()

        await until(rows, lambda number: number == 1)
        assert refusals == 1
