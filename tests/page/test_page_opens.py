"""The page opens in a browser without any fault; faults of a page are found."""

import pytest
from playwright.async_api import expect

from asyncsvc.web.http.static_files import load
from asyncsvc.web.page.routes import FOLDER, PREFIX
from tests.page.browser import LOST, NARROW, WIDE
from tests.page.conftest import Visiting
from tests.page.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

FIRST_VIEW_S = 1.0
LOOKS = [
    pytest.param(size, theme, lang, id=f"{size[0]}-{theme}-{lang}")
    for size in (WIDE, NARROW)
    for theme in ("light", "dark")
    for lang in ("en", "zh")
]


@pytest.mark.parametrize(("size", "theme", "lang"), LOOKS)
async def test_the_page_opens_without_a_fault_or_a_barrier(
    shared: Site, visit: Visiting, size: tuple[int, int], theme: str, lang: str
) -> None:
    seen = await visit(shared, size=size, theme=theme, lang=lang)
    await seen.go("/")
    await expect(seen.page.locator(".rows")).to_be_visible()
    await expect(seen.page.locator(".bar .link")).to_be_visible()
    assert await seen.page.title()
    body = await seen.page.evaluate("document.body.innerText")
    assert len(body.strip()) > 20, "the page shows something"
    wide = await seen.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= size[0], "the page is no wider than its window"
    await seen.picture(f"first-{size[0]}-{theme}-{lang}")
    assert await seen.barriers() == []


async def test_files_of_the_page_come_once(shared: Site, visit: Visiting) -> None:
    seen = await visit(shared)
    asked: list[str] = []
    seen.page.on("request", lambda request: asked.append(request.url))
    await seen.go("/")
    await seen.page.wait_for_load_state("networkidle")
    version = load(FOLDER, PREFIX).version
    files = [url for url in asked if "/page/" in url]
    assert len(set(files)) == len(files)
    assert all(f"/page/{version}/" in url for url in files)
    asked.clear()
    await seen.page.reload()
    timings = await seen.page.evaluate(
        "performance.getEntriesByType('resource').map(e => [e.name, e.transferSize])"
    )
    fetched = [name for name, size in timings if "/page/" in name and size > 0]
    assert fetched == [], "what has its version in its address is not asked for again"


async def test_the_first_view_comes_soon(shared: Site, visit: Visiting) -> None:
    seen = await visit(shared)
    await seen.go("/")
    painted = await seen.page.evaluate(
        """new Promise(done => new PerformanceObserver(list => {
             const [first] = list.getEntriesByName('first-contentful-paint');
             if (first) done(first.startTime);
           }).observe({type: 'paint', buffered: true}))"""
    )
    assert painted is not None
    assert painted / 1000 < FIRST_VIEW_S


async def test_faults_of_a_page_are_found(shared: Site, visit: Visiting) -> None:
    expected = ["console error: .*Content.Security.Policy", "console error: .*requires 'Trusted",
                "asked another host", "thrown: .*lost"]  # fmt: skip
    seen = await visit(shared, expected=expected)
    await seen.go("/")
    await seen.page.evaluate(
        """() => {
             const script = document.createElement('script');
             script.append('window.injected = true');
             document.head.append(script);
             const style = document.createElement('style');
             style.append('body { display: none }');
             document.head.append(style);
             const image = new Image();
             image.src = 'http://127.0.0.2:9/elsewhere.png';
             document.body.append(image);
             setTimeout(() => { throw new Error('lost'); });
           }"""
    )
    await seen.page.wait_for_timeout(0)
    async with seen.page.expect_event("pageerror", predicate=lambda _: True) as thrown:
        await seen.page.evaluate("setTimeout(() => { throw new Error('lost again'); })")
    await thrown.value
    assert await seen.page.evaluate("window.injected") is None
    assert sum("Security" in fault for fault in seen.faults) >= 2
    assert seen.unexpected() == []


async def test_a_service_is_killed_and_comes_back_at_the_same_address(
    fresh: Site, visit: Visiting
) -> None:
    seen = await visit(fresh, expected=LOST)
    await seen.go("/")
    task_id = await fresh.submit("hello")
    await fresh.done(task_id)
    await fresh.kill()
    await fresh.start()
    await seen.page.reload()
    assert (await fresh.task(task_id))["status"] == "completed"
