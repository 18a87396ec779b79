"""The web page in a browser while many tasks stream: it lists all of them and shows one.

First the page is left alone: what the browser's processes use of a core, and how the heap of the
page grows. Then, for some seconds, each paint of the open task is noted: a chunk is painted when
the page's text has grown beyond it, and its delay is the time from the stamp of its event (just
before its commit) to that frame. Broken is a text on the page that is not the task's own.

    python -m tests.benchmarks.page [--tasks 200] [--rate 20] [--minutes 10]
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp
import psutil
from playwright.async_api import Page, async_playwright

from tests.benchmarks import stage
from tests.benchmarks.report import Report, percentile, progress
from tests.page.browser import ARGUMENTS, WIDE, executable

CORE_TARGET = 0.30
PAINT_TARGET_MS = 100.0
HEAP_TARGET_MB = 5.0
"""How much larger the heap of the page may be after the whole time; the open task's text grows."""
MB = 1e6
WARM_S = 5.0
FIRST_S = 6.0
LOG = ".log .read"
WATCH = """selector => {
  const log = document.querySelector(selector);
  window.paints = [];
  const sized = () => document.querySelector(selector).textContent.replace(/\\s+/g, "").length;
  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      const size = sized();
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => { window.paints.push([Date.now(), size]); };
      port2.postMessage(0); // comes after the frame is drawn
      waiting = false;
    });
  }).observe(log.parentElement, { childList: true, subtree: true, characterData: true });
}"""
"""Notes after each frame in which the text has grown: when, and how long it is without spaces."""


@dataclass(frozen=True)
class Plan:
    tasks: int = 200
    rate: float = 20
    minutes: float = 10
    watched_s: float = 20

    @property
    def tokens(self) -> int:
        """The answers go on until all is measured, also on a slow machine."""
        return round(self.rate * (60 * self.minutes * 1.5 + 3 * self.watched_s + 60))


@dataclass
class Figures:
    """What was measured."""

    core: float = 0.0
    service_core: float = 0.0
    heap_mb: tuple[float, float] = (0.0, 0.0)
    delays_ms: Sequence[float] = ()
    painted: str = ""
    own: str = ""
    rows: int = 0
    commit_ms: float = 0.0
    """The average of a commit while the paints were noted: it is a part of their delays."""


def settings(url: str, tasks: int) -> dict[str, dict[str, Any]]:
    """All tasks run at once."""
    model = {"base_url": f"{url}/v1", "model": "streams", "concurrency": tasks}
    return {"models.streams": model, "limits": {"loop_lag_ms": 0, "memory_mb": 2000}}


async def measure(plan: Plan) -> Figures:
    """Start everything, and look at it."""
    profile = {
        "models.streams": {
            "first_token_s": FIRST_S, "tokens_per_s": plan.rate, "answer_tokens": plan.tokens,
        }
    }  # fmt: skip
    async with (
        stage.workplace() as (folder, client),
        stage.simulator(folder, profile) as provider,
        stage.service(folder, settings(provider.url, plan.tasks)) as service,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(
            executable_path=executable(), args=list(ARGUMENTS)
        )
        size = {"width": WIDE[0], "height": WIDE[1]}
        page = await browser.new_page(viewport=size)  # type: ignore[arg-type]
        tasks = [{"content": f"question {n}"} for n in range(plan.tasks)]
        made = await stage.post(client, f"{service.url}/tasks/batch", {"tasks": tasks})
        shown = made["tasks"][-1]["task_id"]
        await page.goto(f"{service.url}/#/tasks/{shown}")
        await page.locator(LOG).first.wait_for(timeout=60_000)
        figures = await _looked_at(page, plan, service, client, shown)
        await browser.close()
        return figures


async def _looked_at(
    page: Page, plan: Plan, service: stage.Child, client: aiohttp.ClientSession, shown: str
) -> Figures:
    found = Figures()
    await page.wait_for_timeout(WARM_S * 1000)
    found.rows = await page.locator(".rows .row").count()
    before = await _heap_mb(page)
    browser_s, service_s, since = _browser_s(), service.cpu_s(), time.monotonic()
    await page.wait_for_timeout(plan.minutes * 60_000)
    took = time.monotonic() - since
    found.core = (_browser_s() - browser_s) / took
    found.service_core = (service.cpu_s() - service_s) / took
    found.heap_mb = before, await _heap_mb(page)
    progress(f"page: {found.core:.2f} of a core, heap {before:.1f} to {found.heap_mb[1]:.1f} MB")
    commits = await _commits(client, service.url)
    await page.evaluate(WATCH, LOG)
    await page.wait_for_timeout(plan.watched_s * 1000)
    seconds, count = (
        after - before
        for after, before in zip(await _commits(client, service.url), commits, strict=True)
    )
    found.commit_ms = seconds / max(count, 1) * 1000
    paints = await page.evaluate("window.paints")
    texts = await page.locator(LOG).all_text_contents()
    found.painted = "".join("".join(texts).split())
    async with client.get(f"{service.url}/tasks/{shown}/events") as answer:
        events = [json.loads(line) for line in (await answer.text()).splitlines()]
    chunks = [event for event in events if event["type"] == "chunk"]
    found.own = "".join("".join(event["data"]["text"] for event in chunks).split())
    found.delays_ms = delays(chunks, paints)
    return found


async def _commits(client: aiohttp.ClientSession, url: str) -> tuple[float, float]:
    """Seconds of all commits so far, and their number."""
    async with client.get(f"{url}/metrics") as answer:
        text = await answer.text()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
    name = "asyncsvc_commit_seconds"
    return float(values[f"{name}_sum"]), float(values[f"{name}_count"])


def delays(chunks: Sequence[dict[str, Any]], paints: Sequence[tuple[float, float]]) -> list[float]:
    """Milliseconds from each chunk's stamp to the first frame whose text has it, for those that
    came while the paints were noted."""
    found: list[float] = []
    length, index = 0, 0
    first = paints[0] if paints else (0.0, 0.0)
    for chunk in chunks:
        length += len("".join(chunk["data"]["text"].split()))
        at = datetime.fromisoformat(chunk["ts"]).timestamp() * 1000
        while index < len(paints) and paints[index][1] < length:
            index += 1
        if index == len(paints):
            break
        if at >= first[0]:
            found.append(max(paints[index][0] - at, 0.0))
    return found


def _browser_s() -> float:
    """Processor seconds of all processes of the browser, which are below this one."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            if "chrom" in process.name():
                times = process.cpu_times()
                total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total


async def _heap_mb(page: Page) -> float:
    """The page's heap after a collection."""
    session = await page.context.new_cdp_session(page)
    await session.send("HeapProfiler.collectGarbage")
    used = await session.send("Runtime.getHeapUsage")
    await session.detach()
    return float(used["usedSize"]) / MB


async def run(plan: Plan) -> Report:
    """The whole benchmark."""
    found = await measure(plan)
    report = Report(
        f"page: {plan.tasks} tasks at {plan.rate:g} tokens/s, all listed and one shown",
        ("what", "value", "at most"),
    )
    growth = found.heap_mb[1] - found.heap_mb[0]
    p50, p95 = (percentile(found.delays_ms, share) for share in (0.5, 0.95))
    report.row("the browser's share of a core", found.core, CORE_TARGET)
    report.row("the service's share of a core", found.service_core, "")
    report.row("ms from a chunk's commit to its paint, p50", p50, "")
    report.row("ms from a chunk's commit to its paint, p95", p95, PAINT_TARGET_MS)
    report.row("ms of a commit, which is a part of that, on average", found.commit_ms, "")
    report.row("MB of the page's heap at first", found.heap_mb[0], "")
    report.row(f"MB more after {plan.minutes:g} minutes", growth, HEAP_TARGET_MB)
    report.notes.append(f"{len(found.delays_ms)} chunks of the open task were watched")
    report.require(bool(found.delays_ms), "no chunk of the open task was painted")
    report.require(found.rows > 0, "the list has no rows")
    report.require(
        bool(found.painted) and found.own.startswith(found.painted),
        "the text on the page is not the task's",
    )
    report.target(found.core <= CORE_TARGET, f"the browser uses {found.core:.2f} of a core")
    report.target(p95 <= PAINT_TARGET_MS, f"p95 of the paint is {p95:.0f} ms")
    report.target(growth <= HEAP_TARGET_MB, f"the heap has grown by {growth:.1f} MB")
    return report


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=Plan.tasks)
    parser.add_argument("--rate", type=float, default=Plan.rate, help="tokens/s of each task")
    parser.add_argument("--minutes", type=float, default=Plan.minutes)
    given = parser.parse_args(words)
    return asyncio.run(run(Plan(given.tasks, given.rate, given.minutes))).finish()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
