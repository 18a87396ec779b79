"""A day on which everything goes wrong, in virtual time, and what the log says about it.

`python -m tests.logs.bad_day` writes the lines into docs/operations.md, between the two marks.
"""

import asyncio
import io
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from asyncsvc.errors import (
    QuotaExhausted,
    RateLimited,
    StorageUnavailable,
    UpstreamAuth,
    UpstreamDisconnected,
)
from asyncsvc.logs.lines import TextLines
from tests.engine_services import EngineServices, model
from tests.scripted import HANG
from tests.virtual_time import loop, virtual, wall_ms

PAGE = Path(__file__).parents[2] / "docs/operations.md"
BLOCK = re.compile(
    r"(<!-- the bad day -->\n```text\n).*?(```\n<!-- end of the bad day -->)", re.DOTALL
)
MB = 1_000_000
MODELS = {name: model(good_at=[]) for name in ("zhipu", "hunyuan", "nvidia1")}
LEFT_OUT = ("sqlite ",)
"""Beginnings of lines that differ from machine to machine."""


@contextmanager
def lines() -> Iterator[list[str]]:
    """The lines of our own loggers, with the time of the virtual clock and ids by number."""
    found: list[str] = []
    shown = TextLines()
    shown.converter = time.gmtime

    class Kept(logging.StreamHandler[io.StringIO]):
        def emit(self, record: logging.LogRecord) -> None:
            now = wall_ms()
            record.created, record.msecs = now / 1000, now % 1000
            if not record.getMessage().startswith(LEFT_OUT):
                found.append(shown.format(record))

    ours, handler = logging.getLogger("asyncsvc"), Kept()
    before = ours.level, ours.propagate
    ours.setLevel(logging.INFO)
    ours.addHandler(handler)
    ours.propagate = False
    try:
        yield found
    finally:
        ours.removeHandler(handler)
        ours.level, ours.propagate = before


async def until(seconds: float) -> None:
    """Let the virtual day go on to that second."""
    await asyncio.sleep(max(seconds - loop().time(), 0))


async def looked(services: EngineServices) -> None:
    """One look of the monitor, which in virtual time does not look by itself."""
    await services.services.monitor.check()
    for follow in services.services.monitor.on_look:
        follow()


async def providers(services: EngineServices) -> None:
    """A key that was revoked, a balance that is gone, a provider that is down and comes back."""
    submit = services.submit_script
    await services.finished(
        await submit("a", [UpstreamAuth("the API key is invalid")], model="zhipu")
    )
    await until(60)
    spent = QuotaExhausted("the balance is insufficient", retry_after=3600)
    await services.finished(await submit("b", [spent], model="hunyuan"))
    await until(120)
    for number in range(5):
        cut = UpstreamDisconnected("connection reset")
        await services.finished(await submit(f"c{number}", [cut], model="nvidia1", max_retries=0))
    await services.finished(await submit("d", ["ok"], model="nvidia1"))
    await looked(services)
    await until(300)
    await services.finished(
        await submit("e", [RateLimited("slow down", retry_after=20)], ["ok"], model="nvidia1")
    )
    await looked(services)


async def disk(services: EngineServices) -> None:
    """The disk runs full, and has room again."""
    await until(600)
    services.seen = replace(services.seen, disk_free=150 * MB)
    await looked(services)
    store = services.services.journal.store
    with patch.object(store, "commit", side_effect=StorageUnavailable("disk is full")):
        try:
            await services.services.holds.pause("hunyuan")
        except StorageUnavailable:
            await looked(services)
    await until(660)
    services.seen = replace(services.seen, disk_free=50_000 * MB)
    await looked(services)
    await until(663)
    await looked(services)


async def day(folder: Path) -> None:
    """The whole day."""
    async with EngineServices(folder, MODELS, retry={"max_retries": 1}) as services:
        services.seen = replace(services.seen, memory=100 * MB, disk_free=50_000 * MB)
        await providers(services)
        await disk(services)
        await until(900)
        task_id = await services.submit_script("f", ["some ", HANG], ["ok"], model="nvidia1")
        await until(910)
        await services.restart()  # as after kill -9
        await services.finished(task_id)
        await looked(services)


def block() -> str:
    """The lines of the day, as the page shows them."""
    with TemporaryDirectory() as name, lines() as found:
        virtual(day)(Path(name))
    text = "".join(f"{line}\n" for line in found)
    ids = dict.fromkeys(re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", text))
    for number, task_id in enumerate(ids, 1):
        text = text.replace(task_id, f"TASK-{number}")
    return text


def page(text: str, lines_of_the_day: str) -> str:
    """The page with the lines in their place."""
    return BLOCK.sub(lambda found: found[1] + lines_of_the_day + found[2], text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), block()), encoding="utf-8")
