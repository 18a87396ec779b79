"""What the tests of the list and of one task look for on the page, in one place."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Page, expect

from tests.page.echo import Echo, echo
from tests.page.site import PACE, Site, site

expect.set_options(timeout=30_000)  # a machine of CI may be slow
MODELS = {
    "fast": {"model": "sim-fast", "concurrency": 5, "good_at": ["simple", "general", "batch"]},
    "echo": {"model": "echo", "concurrency": 50, "good_at": ["reasoning", "realtime"]},
}


@asynccontextmanager
async def echoing(folder: Path, **sections: Any) -> AsyncIterator[tuple[Site, Echo]]:
    """A service with a model `fast` of the simulator, and `echo`, which repeats the question."""
    async with echo() as upstream:
        models = {**MODELS, "echo": {**MODELS["echo"], "base_url": upstream.base_url}}
        async with site(folder, {"default": PACE}, models, **sections) as running:
            yield running, upstream


def asking(text: str, **how: Any) -> str:
    """The content that makes `echo` answer with the text."""
    return f"{json.dumps(how)}\n{text}" if how else text


async def open_task(page: Page, url: str, task_id: str, query: str = "") -> None:
    """Open a task by its address."""
    await page.goto(f"{url}/#/tasks/{task_id}{query}")
    await expect(page.locator("article.task .task-line")).to_be_visible()


async def state_is(page: Page, word: str) -> None:
    """Wait until the open task is in the state of that name."""
    await expect(page.locator(".task-line .state")).to_have_text(word)


async def answer_of(page: Page) -> str:
    """The text of the answers in the log, without white space: how it is drawn does not count."""
    texts = await page.locator(".log .read").all_text_contents()
    return squeezed("".join(texts))


def squeezed(text: str) -> str:
    """A text without white space."""
    return "".join(text.split())
