"""`demo`: the service and a simulated provider in one process, and four tasks to see.

Owns the order of the play. Promises real HTTP and one real WebSocket between the parts, a
database that is gone afterwards, and 0 only where all four tasks were completed. Never reads
settings or environment, never calls anything but this machine.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from rich.text import Text

from asyncsvc import server
from asyncsvc.cli import demo_cast, logs, tables, terminal
from asyncsvc.cli.address import Address
from asyncsvc.cli.client import decoded
from asyncsvc.cli.demo_cast import Part
from asyncsvc.cli.demo_lines import Lines
from asyncsvc.cli.demo_screen import Screen
from asyncsvc.cli.failure import FAILED, INTERRUPTED, Failure
from asyncsvc.cli.frames import Message, messages
from asyncsvc.cli.serving import fastest_loop, program
from asyncsvc.simulator import running

LONGEST_S = 60.0
"""The play takes eight seconds; on a machine that is very busy, more."""


def demo(port: int, keep: bool) -> int:
    """Play it; the exit code. Raises StartError or Failure."""
    logs.set_up(logging.WARNING)
    with (
        TemporaryDirectory(prefix="asyncsvc-demo-", ignore_cleanup_errors=True) as folder,
        asyncio.Runner(loop_factory=fastest_loop()) as runner,
    ):
        return runner.run(_play(port, keep, Path(folder) / "demo.db"))


async def _play(port: int, keep: bool, database: Path) -> int:
    code = INTERRUPTED

    async def beside(url: str) -> None:
        nonlocal code
        finished = await _perform(Address(url), demo_cast.parts())
        code = 0 if all(task["status"] == "completed" for task in finished) else FAILED
        _conclude(finished, url, keep)
        if keep:
            try:
                await asyncio.Event().wait()
            finally:
                print()  # the terminal's ^C stands on a line of its own

    async with running(demo_cast.profile()) as provider:
        settings = demo_cast.settings(provider.base_url, port, database)
        await server.serve(settings, {}, lambda _: None, beside=beside)
    return code


async def _perform(address: Address, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Submit, watch, and read the tasks as they ended."""
    try:
        async with (
            asyncio.timeout(LONGEST_S),
            httpx.AsyncClient(base_url=address.url, trust_env=False, timeout=LONGEST_S) as http,
        ):
            for part in parts:
                accepted = decoded(await http.post("/tasks", json=part.fields), address)
                part.card.task_id = accepted["task_id"]
            await _watch(address, {part.card.task_id: part for part in parts})
            ids = [part.card.task_id for part in parts]
            return [decoded(await http.get(f"/tasks/{one}"), address) for one in ids]
    except TimeoutError:
        raise Failure(f"the demo was not over after {LONGEST_S:g} s") from None
    except httpx.HTTPError as error:
        raise Failure(f"the demo's service does not answer: {error!r}") from None


async def _watch(address: Address, parts: dict[str, Part]) -> None:
    def hello() -> tuple[str, list[Message]]:
        return "/ws", [{"op": "subscribe", "task_id": task_id} for task_id in parts]

    everyone = list(parts.values())
    console = terminal.console()
    view = (
        Screen(everyone, address.url, console)
        if terminal.lively()
        else Lines(everyone, address.url)
    )
    async with view, aclosing(messages(address, hello)) as events:
        async for event in events:
            if (part := parts.get(event.get("task_id", ""))) is None or "type" not in event:
                continue
            part.card.take(event)
            view.took(part, event)
            if all(each.card.ended for each in everyone):
                return


def _conclude(finished: Sequence[dict[str, Any]], url: str, keep: bool) -> None:
    table = tables.plain_table("task", "model", "provider's id", "status", ">latency", ">tokens")
    table.columns[2].overflow = "ellipsis"
    for column in table.columns:
        column.no_wrap = True
    for part, task in zip(demo_cast.parts(), finished, strict=True):
        meta = task["metadata"]
        table.add_row(
            part.title,
            meta["name"] or tables.NOTHING,
            Text(meta["model"] or tables.NOTHING, "bright_black"),
            tables.status(task["status"]),
            tables.number(meta["latency"], " s"),
            tables.number((meta["usage"] or {}).get("total_tokens")),
        )
    terminal.console().print(table)
    if keep:
        print(f"listening on {url} until Ctrl-C; next, in another terminal:")
        print(f"{program()} submit --wait --url {url} 你好", flush=True)
    else:
        print(f"next: set ZHIPU_API_KEY, then `{program()}` serves; `--help` shows the rest")
