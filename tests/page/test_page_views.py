"""The models, schedules, batches, the form of a new task and the first start, in a browser."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.page.browser import NARROW
from tests.page.conftest import Visiting
from tests.page.site import MODELS, Site, site
from tests.polling import until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

expect.set_options(timeout=15_000)

AREAS = ("models", "overview", "schedules", "batches", "settings", "new", "first")
LARGE = 1_000_000
CRON = "0 9 * * 1-5"


async def _write(page: Page, text: str) -> None:
    """Fill in the text of a new task, and wait until it stands there where it would go."""
    await page.fill("#content", text)
    await expect(page.locator(".preview .to")).not_to_be_empty()


async def test_a_model_is_held_and_released(fresh: Site, visit: Visiting) -> None:
    seen = await visit(fresh)
    await seen.go("/#/models")
    row = seen.page.locator("tbody", has_text="sim-fast")
    await expect(row.locator(".state")).to_have_text("in service")
    await seen.page.get_by_role("button", name="Hold fast").click()
    await expect(row.locator(".state")).to_have_text("held")
    await expect(row).to_contain_text("It begins no call until it is released")
    (fast, *_) = (await fresh.http.get("/models")).json()["models"]
    assert fast["paused"]
    await seen.page.get_by_role("button", name="Release fast").click()
    await expect(row.locator(".state")).to_have_text("in service")
    (fast, *_) = (await fresh.http.get("/models")).json()["models"]
    assert not fast["paused"]


async def test_a_full_rate_window_shows_its_calls_and_when_there_is_room(
    fresh: Site, visit: Visiting
) -> None:
    for number in range(4):
        await fresh.http.post("/tasks", json={"content": str(number), "model": "limited"})
    seen = await visit(fresh)
    await seen.go("/#/models")
    row = seen.page.locator("tbody", has_text="sim-limited")
    await expect(row.locator(".window rect")).to_have_count(3)
    await expect(row.locator(".window rect.old")).to_have_count(1)
    await expect(row.locator(".window")).to_contain_text("room in")
    await expect(row.locator(".state")).to_have_text("full")
    await expect(row.locator(".g-q")).to_contain_text("1")


async def test_a_provider_that_refuses_is_quoted(tmp_path: Path, visit: Visiting) -> None:
    profile = {"default": {"faults": {"429-after=30": 1.0}}}
    async with site(tmp_path, profile, {"fast": {"model": "sim", "concurrency": 2}}) as running:
        await running.http.post("/tasks", json={"content": "hello"})
        seen = await visit(running)
        await seen.go("/#/models")
        row = seen.page.locator("tbody", has_text="fast")
        await expect(row.locator(".state")).to_contain_text("rests")
        await expect(row.locator(".word")).to_contain_text("The provider answered at")
        await expect(row.locator(".word")).to_contain_text("status 429, Retry-After 30")
        await expect(row.locator(".word q")).not_to_be_empty()
        assert await seen.barriers() == []


async def test_the_overview_draws_figures_and_reads_them_out(fresh: Site, visit: Visiting) -> None:
    for number in range(8):
        await fresh.http.post("/tasks", json={"content": f"question {number}", "model": "fast"})
    await fresh.idle()

    async def rows() -> int:
        return len((await fresh.http.get("/stats/history")).json()["at"])

    await until(rows, lambda number: number >= 2)
    seen = await visit(fresh)
    await seen.go("/#/overview")
    pane = seen.page.locator(".pane").first
    await expect(pane.locator(".plot path.plain")).to_have_attribute("d", re.compile("^M.+L"))
    await expect(pane.locator(".fig")).not_to_have_text(re.compile("^(0|–)"))
    latest = await pane.locator(".fig").inner_text()
    await pane.locator(".plot").focus()
    await seen.page.keyboard.press("ArrowLeft")
    await expect(pane.locator("line.cross")).to_have_count(1)
    await expect(seen.page.locator("line.cross")).to_have_count(9)
    await expect(pane.locator("[role=status]")).to_contain_text(re.compile(r"\d\d:\d\d:\d\d"))
    await seen.page.get_by_role("button", name="As tables").click()
    row = pane.locator("tbody tr").first
    await expect(row.locator("td").first).to_have_text(latest.split()[0])
    assert await seen.barriers() == []


async def test_the_overview_names_what_is_near_its_limit(tmp_path: Path, visit: Visiting) -> None:
    async with site(tmp_path, limits={"memory_mb": 64}) as running:
        seen = await visit(running)
        await seen.go("/#/overview")
        item = seen.page.locator(".watch li", has_text="Memory")
        await expect(item).to_contain_text("Overloaded since")
        await expect(item).to_contain_text("raise limits.memory_mb")
        await expect(item.locator(".sign.st-failed")).to_have_count(1)
        await expect(seen.page.locator(".page-head")).to_contain_text("No task is taken")


async def test_a_client_without_admin_sees_no_figures_of_others(
    tmp_path: Path, visit: Visiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALICE_TOKEN", "alice-token-0123456789")
    clients: Any = {"clients.alice": {"token_env": "ALICE_TOKEN", "scopes": ["read", "submit"]}}
    async with site(tmp_path, **clients) as running:
        seen = await visit(running, expected=["status of 40[13]", "WebSocket connection to"])
        await seen.go("/#/overview")
        await seen.page.get_by_label("Token", exact=True).fill("alice-token-0123456789")
        await seen.page.get_by_role("button", name="Sign in").click()
        await expect(seen.page.locator(".panes-none")).to_contain_text("shown to administrators")
        await expect(seen.page.locator(".watch")).to_contain_text("Open files")
        await seen.go("/#/settings")
        await expect(seen.page.locator(".page")).to_contain_text("shown to administrators")
        await seen.go("/#/models")
        await seen.page.get_by_role("button", name="Hold fast").click()
        refusal = seen.page.locator("tbody", has_text="sim-fast").locator("[role=status]")
        await expect(refusal).to_contain_text("admin")


async def test_settings_say_where_they_come_from(shared: Site, visit: Visiting) -> None:
    seen = await visit(shared)
    await seen.go("/#/settings")
    row = seen.page.locator("tr", has_text="max_s")
    await expect(seen.page.locator("tbody tr").first).to_be_visible()
    many = await seen.page.locator("tbody tr").count()
    await seen.page.get_by_text("Set by you", exact=True).click()
    await expect(row).to_contain_text("0.2")
    await expect(row).to_contain_text("settings file")
    await expect(row).to_contain_text("usually 60")
    assert await seen.page.locator("tbody tr").count() < many
    await seen.page.get_by_label("Search names, values, variables").fill("sim-limited")
    await expect(seen.page.locator("h2")).to_have_text("[models.limited]")
    await expect(seen.page.locator("tbody tr")).to_have_count(1)
    await seen.page.reload()
    await expect(seen.page.locator("tbody tr")).to_have_count(1)
    await seen.page.get_by_role("button", name="Read settings again").click()
    await expect(seen.page.locator("[role=status]", has_text="Nothing has changed")).to_be_visible()


async def test_a_new_task_shows_its_route_and_is_submitted_by_the_keyboard(
    shared: Site, visit: Visiting
) -> None:
    seen = await visit(shared)
    await seen.go("/#/new")
    await _write(seen.page, "深入分析 this trade-off")
    await expect(seen.page.locator(".preview .to")).to_have_text("limited")
    await expect(seen.page.locator("#model")).to_contain_text("Automatic: limited")
    await seen.page.select_option("#model", "fast")
    await expect(seen.page.locator(".preview .to")).to_have_text("fast")
    await seen.page.get_by_text("long", exact=True).click()
    await seen.page.get_by_text("7", exact=True).click()
    await seen.page.focus("#content")
    await seen.page.keyboard.press("Control+Enter")
    await seen.page.wait_for_url("**/#/tasks/*")
    task = await shared.task(seen.page.url.rpartition("/")[2])
    chosen = {name: task[name] for name in ("content", "lane", "priority", "model")}
    assert chosen == {
        "content": "深入分析 this trade-off", "lane": "long", "priority": 7, "model": "fast",
    }  # fmt: skip
    await seen.go("/#/new")
    await expect(seen.page.locator("#content")).to_have_value("")


async def test_a_draft_outlives_a_reload_and_a_large_paste_is_taken(
    shared: Site, visit: Visiting
) -> None:
    seen = await visit(shared, permissions=["clipboard-read", "clipboard-write"])
    await seen.go("/#/new")
    await _write(seen.page, "half a thought")
    await seen.page.reload()
    await expect(seen.page.locator("#content")).to_have_value("half a thought")
    text = "a long line of text\n" * (LARGE // 20)
    await seen.page.evaluate("text => navigator.clipboard.writeText(text)", text)
    await seen.page.focus("#content")
    await seen.page.keyboard.press("Control+A")
    await seen.page.keyboard.press("Control+V")
    await expect(seen.page.locator(".below")).to_contain_text("1.0 MB")
    await seen.page.get_by_role("button", name="Submit").click()
    await seen.page.wait_for_url("**/#/tasks/*")
    task = await shared.task(seen.page.url.rpartition("/")[2])
    assert len(task["content"]) == len(text)


async def test_a_fault_stands_at_its_field_with_the_services_words(
    shared: Site, visit: Visiting
) -> None:
    seen = await visit(shared, expected=["status of 422"])
    await seen.go("/#/new")
    await seen.page.get_by_text("Agent", exact=True).click()
    await seen.page.fill("#content", "mend it")
    await seen.page.fill("#max_steps", "0")
    await expect(seen.page.locator("#max_steps-fault")).to_contain_text("max_steps")
    await expect(seen.page.locator("#max_steps-fault")).to_contain_text("422")
    await expect(seen.page.locator("#max_steps")).to_have_attribute("aria-invalid", "true")
    await seen.page.fill("#max_steps", "many")
    await expect(seen.page.locator("#max_steps-fault")).to_contain_text("A number")


async def test_an_agent_is_given_few_tools_that_ask(shared: Site, visit: Visiting) -> None:
    seen = await visit(shared)
    await seen.go("/#/new")
    await seen.page.get_by_text("Agent", exact=True).click()
    await _write(seen.page, "look at it")
    await seen.page.get_by_role("checkbox", name="exec_python").uncheck()
    await seen.page.get_by_role("button", name="edit_file does not ask").click()
    await seen.page.fill("#max_steps", "3")
    shown = seen.page.locator(".snippet")
    await expect(shown).to_contain_text('"approve": ["edit_file"]')
    await expect(shown).to_contain_text('"max_steps": 3')
    await expect(shown).to_contain_text('"tools": [')
    await expect(shown).not_to_contain_text("exec_python")
    assert await seen.barriers() == []


async def test_a_schedule_is_made_changed_and_deleted(fresh: Site, visit: Visiting) -> None:
    seen = await visit(fresh)
    await seen.go("/#/schedules")
    await seen.page.get_by_role("link", name="New schedule").click()
    await _write(seen.page, "What is new?")
    await seen.page.fill("#cron", CRON)
    await seen.page.fill("#timezone", "Europe/Berlin")
    await seen.page.fill("#name", "news")
    await seen.page.get_by_role("button", name="Make the schedule").click()
    row = seen.page.locator("tbody tr", has_text="news")
    await expect(row).to_contain_text(CRON)
    assert await seen.barriers() == []
    await row.get_by_role("button", name="Change the schedule news").click()
    await expect(seen.page.locator("#content")).to_have_value("What is new?")
    await expect(seen.page.locator("#timezone")).to_have_value("Europe/Berlin")
    await seen.page.fill("#cron", "0 10 * * *")
    await seen.page.get_by_role("button", name="Make the schedule").click()
    await expect(row).to_contain_text("0 10 * * *")
    await row.get_by_role("button", name="Delete the schedule news").click()
    await row.get_by_role("button", name="Delete “news”").click()
    await expect(seen.page.locator(".page")).to_contain_text("No schedule yet")
    assert (await fresh.http.get("/schedules")).json() == {"schedules": []}


async def test_a_batch_is_begun_and_its_answers_are_a_file(
    fresh: Site, visit: Visiting, tmp_path: Path
) -> None:
    body = {"model": "fast", "messages": [{"role": "user", "content": "hi"}]}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    lines = [json.dumps({"custom_id": str(number), **line}) for number in range(3)]
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    seen = await visit(fresh)
    await seen.go("/#/batches")
    await seen.page.get_by_role("button", name="New batch").click()
    await seen.page.set_input_files("input[type=file]", path)
    await seen.page.get_by_role("button", name="Begin the batch").click()
    row = seen.page.locator("tbody tr")
    await expect(row.locator(".state")).to_have_text("Completed", timeout=20_000)
    await expect(row).to_contain_text("3 of 3")
    assert await seen.barriers() == []
    async with seen.page.expect_download() as saved:
        await row.get_by_role("button", name="Answers").click()
    path = await (await saved.value).path()
    found = (await asyncio.to_thread(path.read_text, encoding="utf-8")).splitlines()
    assert {json.loads(one)["custom_id"] for one in found} == {"0", "1", "2"}


async def test_a_first_start_names_the_variable_of_each_model(
    tmp_path: Path, visit: Visiting
) -> None:
    models = {
        name: {**one, "api_key_env": f"ASYNCSVC_ABSENT_{name.upper()}"}
        for name, one in MODELS.items()
    }
    async with site(tmp_path, models=models) as running:
        seen = await visit(running)
        await seen.go("/")
        await expect(seen.page.locator("h1")).to_have_text("No model can answer yet")
        for name in models:
            row = seen.page.locator("tbody tr", has_text=f"sim-{name}")
            await expect(row).to_contain_text(f"ASYNCSVC_ABSENT_{name.upper()}")
        await expect(seen.page.get_by_label("First question")).to_be_disabled()
        assert await seen.barriers() == []


@pytest.mark.parametrize("area", AREAS)
async def test_each_view_can_be_used_by_everybody(shared: Site, visit: Visiting, area: str) -> None:
    seen = await visit(shared)
    await seen.go(f"/#/{area}")
    await expect(seen.page.locator("h1")).not_to_be_empty()
    await seen.page.wait_for_load_state("networkidle")
    assert await seen.barriers() == []
    await seen.picture(f"{area}-light-en")


@pytest.mark.parametrize("area", AREAS)
async def test_each_view_fits_a_phone(shared: Site, visit: Visiting, area: str) -> None:
    seen = await visit(shared, size=NARROW, touch=True, theme="dark", lang="zh")
    await seen.go(f"/#/{area}")
    await expect(seen.page.locator("h1")).not_to_be_empty()
    await seen.page.wait_for_load_state("networkidle")
    wide = "[...document.querySelectorAll('.page')].map(one => one.scrollWidth - one.clientWidth)"
    assert await seen.page.evaluate(wide) == [0]
    assert await seen.barriers() == []
    await seen.picture(f"{area}-phone-dark-zh")
