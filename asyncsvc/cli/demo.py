"""`demo`: the service and a simulated provider in one process, and four tasks to see.

Real HTTP and one real WebSocket run between the parts; the database is temporary; the exit code
is 0 only where all four tasks were completed. Neither settings nor environment are read, and only
this machine is called. A terminal gets four panels, a pipe gets lines that name their task.
"""

import asyncio
import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import httpx
from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from asyncsvc.cli import agent_demo, tables
from asyncsvc.cli.arguments import Commands, Option
from asyncsvc.cli.client import Address
from asyncsvc.cli.demo_service import LONGEST_S, answered, served
from asyncsvc.cli.following import Message, messages
from asyncsvc.cli.options import FAILED, HERE, Failure, Port, program
from asyncsvc.cli.serve import fastest_loop
from asyncsvc.cli.tables import STYLES
from asyncsvc.cli.terminal import say
from asyncsvc.cli.transcript import TaskView
from asyncsvc.config.settings import Log, Settings
from asyncsvc.logs.output import LogOutput
from asyncsvc.simulator import Profile

app = Commands()
MODELS: dict[str, dict[str, Any]] = {
    "zhipu": {"model": "glm-4-flash", "concurrency": 1, "good_at": ["realtime"]},
    "hunyuan": {
        "model": "hunyuan-lite",
        "concurrency": 5,
        "good_at": ["simple", "batch", "general"],
    },
    "nvidia1": {
        "model": "nvidia/nemotron-3-super-120b-a12b",
        "concurrency": 5,
        "rpm": 40,
        "good_at": ["reasoning"],
    },
    "nvidia2": {
        "model": "nvidia/nemotron-nano-3-30b-a3b",
        "concurrency": 5,
        "rpm": 40,
        "good_at": ["simple", "general"],
    },
    "siliconflow": {"type": "embedding", "model": "BAAI/bge-m3", "concurrency": 5, "rpm": 5},
}
PACE: dict[str, dict[str, Any]] = {
    "zhipu": {"first_token_s": 0.3, "tokens_per_s": 30, "answer_tokens": 60},
    "hunyuan": {"first_token_s": 0.4, "tokens_per_s": 26, "answer_tokens": 150},
    "nvidia1": {
        "first_token_s": 0.6,
        "tokens_per_s": 32,
        "reasoning_tokens": 40,
        "answer_tokens": 170,
    },
}


@dataclass
class Part:
    """One task of the demo, as it is submitted and as it goes."""

    title: str
    content: str
    lane: str = "short"
    view: TaskView = field(default_factory=TaskView)


def parts() -> list[Part]:
    """Return the four sample tasks, not yet submitted."""
    batch = ("今天天气很好。", "我们一起去公园散步吧。", "这本书值得再读一遍。")
    lines = "\n".join(f"{number}. {line}" for number, line in enumerate(batch, 1))
    return [
        Part("1 问候", "现在马上回答：你好", "priority"),
        Part("2 提问", "什么是AI？"),
        Part("3 分析", "深入分析人工智能对社会的影响"),
        Part("4 翻译", f"翻译第1句到第3句，译成英文：\n{lines}", "long"),
    ]


def profile() -> Profile:
    """The simulated provider: the same limits as the models' settings, and their pace."""
    models = {}
    for name, settings in MODELS.items():
        limits = {key: settings[key] for key in ("concurrency", "rpm") if key in settings}
        kind = {"type": settings.get("type", "chat")}
        models[settings["model"]] = kind | limits | PACE.get(name, {})
    return Profile.parse({"default": {"jitter": 0.4}, "models": models})


def settings(base_url: str, port: int, database: Path) -> Settings:
    """The service's settings, with every model at the simulated provider."""
    models = {name: given | {"base_url": base_url} for name, given in MODELS.items()}
    return Settings.model_validate(
        {
            "server": {"port": port, "grace_s": 0},
            "storage": {"path": str(database)},
            "models": models,
        }
    )


LEAST_CHARS, MOST_CHARS = 20, 60
"""A line has at least so many characters and ends with a sentence, or has at most so many."""
_SENTENCE_END = re.compile(r"[。！？.!?]\s*$|\n")


class Lines:
    """The demo as plain lines."""

    def __init__(self, parts: Sequence[Part], url: str) -> None:
        say(f"four tasks to {url}, their tokens over one WebSocket:")
        self._gathered = {part.title: "" for part in parts}

    def take(self, part: Part, event: dict[str, Any]) -> None:
        """Print what the event adds, if it makes a line; the part's view has the event."""
        match event["type"]:
            case "chunk":
                self._gather(part, event["data"]["text"])
            case "attempt":
                self._gathered[part.title] = ""
                self._print(part, f"({part.view.model} answers)")
            case "status" if part.view.ended:
                self._flush(part)
                error = part.view.error
                self._print(part, f"({part.view.status}{': ' + error['message'] if error else ''})")

    def _gather(self, part: Part, text: str) -> None:
        line = self._gathered[part.title] + text
        self._gathered[part.title] = line
        if len(line) >= MOST_CHARS or (len(line) >= LEAST_CHARS and _SENTENCE_END.search(line)):
            self._flush(part)

    def _flush(self, part: Part) -> None:
        for line in self._gathered[part.title].splitlines():
            if line.strip():
                self._print(part, line.strip())
        self._gathered[part.title] = ""

    def _print(self, part: Part, text: str) -> None:
        say(f"[{part.title} · {part.view.name or '…'}] {text}")


FRAMES_PER_S = 15
LEAST_HEIGHT, MOST_HEIGHT = 6, 12
NARROW = 64
"""Columns below which the panels stand one below the other."""
MARKS = {"completed": "✔", "failed": "✘", "cancelled": "✘", "running": "●"}


def _picture(parts: Sequence[Part], url: str, console: Console, seconds: float) -> RenderableType:
    """Return the demo as four panels."""
    width, height = console.size
    columns = 1 if width < NARROW else 2
    rows = -(-len(parts) // columns)
    panel_height = max(LEAST_HEIGHT, min(MOST_HEIGHT, (height - 2) // rows))
    grid = Table.grid(expand=True)
    for _ in range(columns):
        grid.add_column(ratio=1)
    panels = [_panel(part, console, width // columns, panel_height) for part in parts]
    for start in range(0, len(panels), columns):
        grid.add_row(*panels[start : start + columns])
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(" asyncsvc ", "bold reverse")
    head.append(f"  4 tasks, 3 models, 1 WebSocket  {url}", "bright_black")
    clock = f"{seconds:4.1f} s "
    head.pad_right(max(1, width - head.cell_len - len(clock)))
    head.append(clock, "bold")
    # The last line is empty, so that the ^C of a terminal shifts nothing.
    return Group(head, grid, Text())


def _panel(part: Part, console: Console, width: int, height: int) -> Panel:
    view = part.view
    style = STYLES[view.status]
    asked = Text(f"› {part.content.splitlines()[0]}", "bold", no_wrap=True, overflow="ellipsis")
    body = Text()
    if view.thoughts:
        body.append(f"{view.thoughts}\n", "italic bright_black")
    body.append(view.text)
    if view.error:
        body.append(view.error["message"], "red")
    return Panel(
        Group(asked, _end_of(body, console, width - 4, height - 3)),
        title=Text.assemble((part.title, "bold"), f" · {part.view.name or '…'}"),
        title_align="left",
        subtitle=_state(view),
        subtitle_align="right",
        border_style=style,
        box=box.ROUNDED,
        height=height,
    )


def _end_of(text: Text, console: Console, width: int, lines: int) -> Text:
    """The last lines of a text, as it breaks at this width."""
    return Text("\n").join(text.wrap(console, max(width, 8))[-lines:])


def _state(view: TaskView) -> Text:
    parts = [f"{MARKS.get(view.status, '○')} {_doing(view)}"]
    if view.tokens:
        parts.append(f"{view.tokens} tokens")
    rate = view.mean_rate if view.ended else view.rate
    if rate:
        parts.append(f"{rate:.0f}/s")
    return Text(" · ".join(parts), STYLES[view.status])


def _doing(view: TaskView) -> str:
    return (
        "thinking" if view.status == "running" and view.thoughts and not view.text else view.status
    )


@app.command(group=HERE)
def demo(
    port: Port = 0,
    keep: Annotated[bool, Option("--keep", help="Keep serving until Ctrl-C.")] = False,
    agent: Annotated[bool, Option("--agent", help="An agent that mends a failing test.")] = False,
) -> int:
    """Four tasks answered live by a simulated provider: no key, nothing leaves the machine."""
    LogOutput().apply(Log(level="warning", format="text"))
    play = agent_demo.play if agent else _play
    with (
        TemporaryDirectory(prefix="asyncsvc-demo-", ignore_cleanup_errors=True) as folder,
        asyncio.Runner(loop_factory=fastest_loop()) as runner,
    ):
        return runner.run(play(port or 0, keep, Path(folder)))


async def _play(port: int, keep: bool, folder: Path) -> int:
    def made(base_url: str) -> Settings:
        return settings(base_url, port, folder / "demo.db")

    async def perform(url: str) -> int:
        finished = await _perform(Address(url), parts())
        _conclude(finished, url, keep)
        return 0 if all(task["status"] == "completed" for task in finished) else FAILED

    return await served(profile(), made, perform, keep)


async def _perform(address: Address, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Submit, watch, and read the tasks as they ended."""
    try:
        async with (
            asyncio.timeout(LONGEST_S),
            httpx.AsyncClient(base_url=address.url, trust_env=False, timeout=LONGEST_S) as http,
        ):
            for part in parts:
                body = {"content": part.content, "lane": part.lane}
                accepted = answered(await http.post("/tasks", json=body), address)
                part.view.task_id = accepted["task_id"]
            await _watch(address, {part.view.task_id: part for part in parts})
            ids = [part.view.task_id for part in parts]
            return [answered(await http.get(f"/tasks/{one}"), address) for one in ids]
    except TimeoutError:
        raise Failure(f"the demo was not over after {LONGEST_S:g} s") from None
    except httpx.HTTPError as error:
        raise Failure(f"the demo's service does not answer: {error!r}") from None


async def _watch(address: Address, parts: dict[str, Part]) -> None:
    def hello() -> tuple[str, list[Message]]:
        return "/ws", [{"op": "subscribe", "task_id": task_id} for task_id in parts]

    def picture() -> RenderableType:
        return _picture(everyone, address.url, console, loop.time() - began)

    loop, console, everyone = asyncio.get_running_loop(), tables.console(), list(parts.values())
    began = loop.time()
    lines = None if tables.lively() else Lines(everyone, address.url)
    screen: AbstractAsyncContextManager[None] = nullcontext()
    if lines is None:
        screen = tables.redrawn(console, picture, FRAMES_PER_S)
    async with screen, aclosing(messages(address, hello)) as events:
        async for event in events:
            if (part := parts.get(event.get("task_id", ""))) is None or "type" not in event:
                continue
            part.view.take(event)
            if lines is not None:
                lines.take(part, event)
            if all(each.view.ended for each in everyone):
                return


def _conclude(finished: Sequence[dict[str, Any]], url: str, keep: bool) -> None:
    table = tables.plain_table("task", "model", "provider's id", "status", ">latency", ">tokens")
    table.columns[2].overflow = "ellipsis"
    for column in table.columns:
        column.no_wrap = True
    for part, task in zip(parts(), finished, strict=True):
        meta = task["metadata"]
        table.add_row(
            part.title,
            meta["name"] or tables.NOTHING,
            Text(meta["model"] or tables.NOTHING, "bright_black"),
            tables.status(task["status"]),
            tables.number(meta["latency"], " s"),
            tables.number((meta["usage"] or {}).get("total_tokens")),
        )
    tables.console().print(table)
    if keep:
        say(f"listening on {url} until Ctrl-C; next, in another terminal:")
        say(f"{program()} submit --wait --url {url} 你好")
    else:
        say(f"next: set ZHIPU_API_KEY, then `{program()}` serves; `--help` shows the rest")
