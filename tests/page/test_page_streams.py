"""A task's text on the page: as it comes, over a killed service, of a megabyte, and hostile."""

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.page.browser import LOST
from tests.page.conftest import Visiting
from tests.page.pages import answer_of, asking, echoing, open_task, squeezed, state_is
from tests.polling import until

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

LIVE_MS = 20_000
WORDS = " ".join(f"word{number}" for number in range(400))
HOSTILE = """# Hello <script>window.hacked = 1</script>

<img src=x onerror="window.hacked = 1"> <b onclick="window.hacked = 1">bold</b>
[click](javascript:window.hacked=1) [data](data:text/html,<script>1</script>)
![picture](https://evil.example/p.png) [fine](https://good.example/a?b=1)

<style>body { display: none }</style>
<div style="position:fixed;inset:0">cover</div>
<form action="/tasks"><input name="a"></form><iframe src="https://evil.example"></iframe>

reversed: \u202edcba\u202c and a bell \u0007

"""
TABLE = "|".join(f" h{n} " for n in range(80)) + "\n" + "|".join(["---"] * 80) + "\n"
TABLE += "\n".join("|".join(f"cell{n}" for n in range(80)) for _ in range(40)) + "\n"


async def _seen(page: Page, text: str) -> None:
    """Wait until all of the text, and no more than that, stands in the log."""
    wanted = squeezed(text)

    async def shown() -> str:
        return await answer_of(page)

    await until(shown, lambda found: len(found) >= len(wanted))
    assert await answer_of(page) == wanted


async def test_text_appears_as_it_comes_and_none_is_lost_over_a_killed_service(
    tmp_path: Path, visit: Visiting
) -> None:
    async with echoing(tmp_path) as (site, upstream):
        seen = await visit(site, expected=LOST)
        task_id = await site.submit(asking(WORDS, pieces=12, pause_s=0.02), model="echo")
        await open_task(seen.page, site.url, task_id)
        await expect(seen.page.locator(".log .read")).to_contain_text("word5", timeout=LIVE_MS)
        await state_is(seen.page, "Running")
        await site.kill()
        await expect(seen.page.locator(".bar .link")).to_contain_text("reconnecting")
        await expect(seen.page.locator(".log .read")).to_contain_text("word5")
        await site.start()
        await state_is(seen.page, "Completed")
        await _seen(seen.page, WORDS)
        assert len(upstream.calls) == 2, "the attempt that was cut off was made again"
        await expect(seen.page.locator(".bar .link")).to_contain_text("live")
        await expect(seen.page.locator(".log .note")).to_contain_text("lost no attempt")


async def test_a_slow_network_delays_the_text_and_loses_none(
    tmp_path: Path, visit: Visiting
) -> None:
    async with echoing(tmp_path) as (site, _):
        seen = await visit(site)
        devtools = await seen.context.new_cdp_session(seen.page)
        await devtools.send("Network.enable")
        slow = {"latency": 300, "downloadThroughput": 60_000, "uploadThroughput": 30_000}
        await devtools.send("Network.emulateNetworkConditions", {"offline": False, **slow})
        task_id = await site.submit(asking(WORDS, pieces=12, pause_s=0.02), model="echo")
        await open_task(seen.page, site.url, task_id)
        await state_is(seen.page, "Completed")
        await _seen(seen.page, WORDS)
        await expect(seen.page.locator(".bar .link")).to_contain_text("live")


async def test_an_answer_of_a_megabyte_is_not_drawn_anew_for_each_piece(
    tmp_path: Path, visit: Visiting
) -> None:
    block = (
        "## Part\n\n" + "A sentence of an answer that is very long. " * 20 + "\n\n- one\n- two\n\n"
    )
    code = "```python\n" + "print('a line of code in a long answer')\n" * 2000 + "```\n\n"
    text = (block * 70 + code) * 7
    assert len(text) > 900_000
    async with echoing(tmp_path) as (site, upstream):
        upstream.gate.clear()
        seen = await visit(site)
        content = asking(text, pieces=400, pause_s=0.001)
        task_id = await site.submit(content, model="echo")
        await open_task(seen.page, site.url, task_id)
        await seen.page.evaluate(
            """() => {
                 window.drawn = 0;
                 const count = changes => { for (const change of changes)
                   for (const node of change.type === "characterData"
                                      ? [change.target] : change.addedNodes)
                     window.drawn += node.textContent.length; };
                 new MutationObserver(count).observe(document.body,
                   { childList: true, characterData: true, subtree: true });
               }"""
        )
        upstream.gate.set()
        await expect(seen.page.locator(".task-line .state")).to_have_text(
            "Completed", timeout=60_000
        )

        async def parts() -> int:
            return await seen.page.locator(".log .read h4").count()

        await until(parts, lambda number: number == 70 * 7)
        assert await seen.page.locator(".log .read .block.code").count() == 7
        # To draw all of it anew for each of 400 pieces would be 200 times its length.
        assert await seen.page.evaluate("window.drawn") < 10 * len(text)
        await seen.page.reload()
        await until(parts, lambda number: number == 70 * 7)
        size = await seen.page.evaluate("document.querySelector('.log .read').textContent.length")
        assert size > 850_000


async def test_a_hostile_answer_is_only_text(tmp_path: Path, visit: Visiting) -> None:
    async with echoing(tmp_path) as (site, _):
        seen = await visit(site)
        thoughts = "<script>window.hacked = 1</script><img src=x onerror=window.hacked=1>"
        task_id = await site.submit(asking(HOSTILE + TABLE, think=thoughts), model="echo")
        await site.done(task_id)
        await open_task(seen.page, site.url, task_id)
        await expect(seen.page.locator(".log .wide-table table").first).to_be_visible()
        await seen.page.locator(".log .fold").first.click()
        assert await seen.page.evaluate("window.hacked") is None
        forbidden = ".log :is(script, img, style, iframe, form, input, [style], [onclick])"
        assert await seen.page.locator(forbidden).count() == 0
        links = seen.page.locator(".log .read a")
        assert await links.count() == 2, "the picture and the good link"
        for number in range(2):
            link = links.nth(number)
            assert (await link.get_attribute("href") or "").startswith("https://")
            assert await link.get_attribute("rel") == "noopener noreferrer"
            assert await link.get_attribute("target") == "_blank"
        await expect(seen.page.locator(".log .read").first).to_contain_text("⟨202E⟩dcba⟨202C⟩")
        await expect(seen.page.locator(".log .read").first).to_contain_text("bell ⟨0007⟩")
        width = await seen.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 1440, "an enormous table scrolls in itself"
        assert await seen.barriers() == []


async def test_two_tabs_show_the_same(tmp_path: Path, visit: Visiting) -> None:
    async with echoing(tmp_path) as (site, upstream):
        first, second = await visit(site), await visit(site)
        upstream.gate.clear()
        task_id = await site.running(asking(WORDS, pieces=30), model="echo")
        for one in (first, second):
            await open_task(one.page, site.url, task_id)
        await first.page.keyboard.press("p")
        for one in (first, second):
            await state_is(one.page, "Paused")
        upstream.gate.set()
        await second.page.get_by_role("button", name="Go on").click()
        for one in (first, second):
            await state_is(one.page, "Completed")
            await _seen(one.page, WORDS)
        assert len(upstream.calls) == 2


async def test_text_of_an_attempt_that_was_cut_off_is_void(tmp_path: Path, visit: Visiting) -> None:
    async with echoing(tmp_path) as (site, _):
        seen = await visit(site)
        content = asking(WORDS, pieces=10, cut=200)
        task_id = await site.submit(content, model="echo", max_retries=1)
        await site.done(task_id)
        await open_task(seen.page, site.url, task_id)
        await state_is(seen.page, "Failed")
        errors = seen.page.locator(".log .err")
        await expect(errors).to_have_count(2)
        await expect(errors.last).to_contain_text("upstream_disconnected")
        await expect(errors.last).to_contain_text("Retry may help.")
        assert await answer_of(seen.page) == squeezed(WORDS[:200])
        await seen.page.get_by_role("tab", name="Attempts").click()
        await expect(seen.page.locator(".attempt")).to_have_count(2)
        await expect(seen.page.locator(".attempt summary").first).to_contain_text("void")
