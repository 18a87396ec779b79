"""The board of `watch`, as a plain table and as a full screen."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console
from textual.pilot import Pilot

from asyncsvc.cli import watch_view
from asyncsvc.cli.client import Api, reach
from asyncsvc.cli.tables import STYLES
from asyncsvc.cli.watch import drawn
from asyncsvc.cli.watch_app import TaskRows, WatchApp
from asyncsvc.cli.watch_board import GROUPS, Board, parsed
from asyncsvc.tasks.state import FINISHED, State
from tests.polling import until
from tests.web.serving import HANG, Service, serving

CELL = 12.2
"""Width of a cell in a picture of the screen."""
ID = "01a1fa86-548c-7d45-b0f3-e4ae29df0be5"
T1, T2, T3 = (f"2026-11-29T12:00:0{second}.000Z" for second in range(3))
HOSTILE = "a\x1b]0;title\x07\x9b31m\u202eb"


def item(status: str, task_id: str = ID, **more: Any) -> dict[str, Any]:
    meta = {"name": "fast", "model": "fast-1", "latency": None, "usage": None}
    return {
        "task_id": task_id,
        "status": status,
        "model": None,
        "metadata": meta,
        "content_preview": "what was asked",
        "result_preview": None,
        "error": None,
        "created_at": T1,
        "updated_at": T1,
        "started_at": None,
        "finished_at": None,
    } | more


def event(kind: str, task_id: str = ID, ts: str = T2, **data: Any) -> dict[str, Any]:
    return {"id": 1, "task_id": task_id, "seq": 1, "type": kind, "ts": ts, "data": data}


def text(board: Board, width: int = 80) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(drawn(board, width, 20))
    return captured.get()


def board(*items: dict[str, Any]) -> Board:
    found = Board(cast(Api, None), 10, 10)
    found.show(
        [one for one in items if one["status"] not in FINISHED],
        [one for one in items if one["status"] in FINISHED],
    )
    return found


def order(found: Board) -> list[str]:
    return [entry.view.task_id for entry in found.entries()]


def test_every_state_has_a_colour_and_a_place() -> None:
    assert set(STYLES) == set(State)
    assert {*GROUPS, *FINISHED} == set(State)


async def test_events_bring_the_table_up_to_date() -> None:
    found = board(item("pending"))
    found.take(event("progress", status="pending", position=3, eta_s=9.0))
    assert "position 3, about 9.0 s" in text(found)
    found.take(event("status", status="running", cause="started"))
    found.take(event("progress", status="running", tokens=40, tokens_per_s=8.0))
    assert "40 tokens, 8/s" in text(found)
    assert " 8 tokens/s" in text(found)
    found.take(event("status", status="failed", error={"code": "timeout", "message": "late"}))
    assert "timeout: late" in text(found)
    assert " 0 tokens/s" in text(found)


async def test_running_ones_are_first_then_the_next_then_the_latest_ended() -> None:
    ended, old = item("completed", "ended"), item("failed", "old")
    waiting = [item("pending", name) for name in ("next", "then")]
    found = board(item("running", "runs"), *waiting, item("scheduled", "later"), ended, old)
    assert order(found) == ["runs", "next", "then", "later", "ended", "old"]
    found.take(event("status", "next", status="running", cause="started"))
    assert order(found) == ["runs", "next", "then", "later", "ended", "old"]
    for task_id in ("runs", "later"):
        found.take(event("status", task_id, status="cancelled", cause="cancelled"))
    assert order(found) == ["next", "then", "later", "runs", "ended", "old"]


async def test_a_list_that_is_older_does_not_undo_what_events_have_reported() -> None:
    found = board(item("pending"))
    found.take(event("status", status="running", cause="started"))
    found.show([item("pending")], [])
    assert "running" in text(found)
    done = item("completed", result_preview="the whole answer", updated_at=T3)
    found.show([], [done])
    assert "the whole answer" in text(found)
    found.show([item("pending", updated_at=f"{T3}0")], [])  # a retry that no event has reported
    assert "pending" in text(found)


async def test_a_list_keeps_what_progress_has_reported() -> None:
    found = board(item("pending"))
    found.take(event("progress", status="pending", position=7, eta_s=None))
    found.show([item("pending")], [])
    assert "position 7" in text(found)


async def test_a_lost_connection_is_written() -> None:
    found = board(item("pending"))
    found.lost("broken")
    assert "connection lost" in text(found)


async def test_whole_ids_where_there_is_room_else_their_ends() -> None:
    assert ID in text(board(item("pending")), 120)
    narrow = text(board(item("pending")), 80)
    assert ID not in narrow
    assert ID[-8:] in narrow
    assert all(len(line) <= 80 for line in narrow.splitlines())


async def test_the_head_counts_and_shows_slots_and_windows_in_its_width() -> None:
    found = board()
    found.figures.counts = {"running": 5, "pending": 3, "scheduled": 4, "completed": 9, "failed": 1}
    model: dict[str, Any] = {
        "enabled": True,
        "in_flight": 2,
        "concurrency": 5,
        "calls_last_60s": 12,
        "rpm": 30,
    }
    model |= {"paused": False, "breaker": "closed", "waiting_for": None}
    found.figures.models = [model | {"name": f"model{n}"} for n in range(9)]
    found.figures.models.append(model | {"name": "off", "enabled": False})
    first, *models = [line.plain for line in watch_view.head(found, 80)]
    assert first == "5 running  7 waiting  9 done  1 failed  0 tokens/s"
    assert models[0].startswith("model0 2/5 12/30rpm  model1 2/5 12/30rpm")
    assert len(models) == watch_view.HEAD_LINES - 1
    shown = "".join(models).count("12/30rpm")
    assert models[-1].endswith(f"+{9 - shown} models")
    assert all(len(line.rstrip()) <= 80 for line in models)
    assert "off" not in "".join(models)


async def test_texts_of_others_cannot_act_on_the_terminal() -> None:
    meta = item("running")["metadata"] | {"name": HOSTILE}
    error = {"code": "upstream_rejected", "message": HOSTILE}
    hostile = item("running", content_preview=HOSTILE, metadata=meta, error=error)
    assert not set(text(board(hostile))) & set("\x1b\x07\x9b\u202e")


@pytest.mark.parametrize(
    ("line", "query"),
    [
        ("", {}),
        ("two  words", {"q": "two words"}),
        ("status:failed model:m x", {"status": "failed", "model": "m", "q": "x"}),
        ("session:s lane:long type:agent owner:o id:0be5", {
            "session_id": "s", "lane": "long", "type": "agent", "owner": "o", "id_ends": "0be5",
        }),
        ("http://x status:", {"q": "http://x status:"}),
    ],
)  # fmt: skip
def test_a_filter_is_words_and_names(line: str, query: dict[str, str]) -> None:
    assert parsed(line) == query


@asynccontextmanager
async def watched(
    service: Service, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[WatchApp, Pilot[None]]]:
    with reach(service.url) as api:
        app = WatchApp(api, 500, 200)
        async with app.run_test(size=size) as pilot:
            yield app, pilot


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path) as found:
        yield found


def screen(app: WatchApp) -> str:
    """What the terminal shows, line by line."""
    rows: dict[float, str] = {}
    cell = r'<text class="[^"]*" x="([0-9.]+)" y="([0-9.]+)" textLength[^>]*>([^<]*)</text>'
    for x, y, part in re.findall(cell, app.export_screenshot()):
        line = rows.get(float(y), "").ljust(round(float(x) / CELL))
        rows[float(y)] = line + unescape(part).replace("\xa0", " ")
    return "\n".join(rows[y].rstrip() for y in sorted(rows))


async def shown(app: WatchApp, wanted: str) -> str:
    async def look() -> str:
        return screen(app)

    return await until(look, lambda found: wanted in found)


def place(lines: str, wanted: str) -> int:
    (found,) = [at for at, line in enumerate(lines.splitlines()) if wanted in line]
    return found


async def test_the_full_screen_shows_the_order_of_the_queue(service: Service) -> None:
    ended = await service.submit("ended", model="fast")
    await service.done(ended)
    for _ in range(5):
        await service.running(HANG, model="fast")
    await service.submit(HOSTILE, model="fast")
    later = await service.submit("later", delay_s=3600)
    async with watched(service) as (app, pilot):
        found = await shown(app, "position 1")
        assert "5 running  2 waiting  1 done" in found
        assert "fast 5/5" in found
        assert not set(found) & set("\x1b\x07\x9b\u202e")
        places = [place(found, mark) for mark in ("a␛]0;title␇", later[-8:], ended[-8:])]
        assert places == sorted(places)
        late = await service.submit("urgent", model="fast", lane="priority")
        found = await shown(app, late[-8:])
        assert place(found, late[-8:]) < places[0] + 1
        await pilot.press("q")
    assert app.failure is None


async def test_keys_cancel_after_a_yes_pause_resume_and_retry(service: Service) -> None:
    task_id = await service.submit("steered", delay_s=3600)
    async with watched(service) as (app, pilot):
        await shown(app, task_id[-8:])
        await pilot.press("r")
        await shown(app, "retry is not for a task that is scheduled")
        for keys, state in (
            ("p", "paused"),
            ("p", "scheduled"),
            ("cn", "scheduled"),
            ("cy", "cancelled"),
        ):
            await pilot.press(*keys)
            if keys != "cn":
                await shown(app, f"{task_id} is {state}")
            await shown(app, f"{task_id[-8:]} {state}")
            assert (await service.task(task_id))["status"] == state
        await pilot.press("r")
        await shown(app, f"{task_id} is pending")


async def test_a_question_names_the_task_that_is_chosen(service: Service) -> None:
    first, second = [await service.submit(f"number {n}", delay_s=3600 + n) for n in range(2)]
    async with watched(service) as (app, pilot):
        await shown(app, second[-8:])
        await pilot.press("down", "c")
        assert f"cancel {second}, which is scheduled? [y/N]" in await shown(app, "[y/N]")
        await service.steer(first, "cancel")  # the order changes, the choice does not
        await pilot.press("y")
        await shown(app, f"{second} is cancelled")


async def test_a_task_is_opened_with_its_text_as_it_comes(service: Service) -> None:
    task_id = await service.speaking(f"a story {HOSTILE} [[sim:tokens=40]] [[sim:rate=20]]")
    async with watched(service) as (app, pilot):
        await shown(app, task_id[-8:])
        await pilot.press("enter")
        found = await shown(app, "simulated answer")
        assert task_id in found
        assert "a story a␛]0;title␇" in found
        assert not set(found) & set("\x1b\x07\x9b\u202e")
        await shown(app, "completed")
        await pilot.press("escape")
        await shown(app, "1 done")


async def test_a_filter_is_asked_of_the_service(service: Service) -> None:
    ids = [await service.submit(f"number {n}", delay_s=3600 + n) for n in range(30)]
    async with watched(service) as (app, pilot):
        await shown(app, "30 waiting")
        await pilot.press("slash", *"number 29", "enter")
        await shown(app, "filter q=number 29")
        found = await shown(app, ids[29][-8:])
        assert ids[3][-8:] not in found
        await pilot.press("slash", *" status:odd", "enter")
        await shown(app, "status must be one of")
        await pilot.press("escape")
        await shown(app, ids[3][-8:])


async def test_the_list_scrolls_to_its_end_and_back(service: Service) -> None:
    ids = [await service.submit(f"number {n}", delay_s=3600 + n) for n in range(30)]
    async with watched(service) as (app, pilot):
        await shown(app, "30 waiting")
        assert ids[29][-8:] not in screen(app)
        await pilot.press("G")
        assert ids[0][-8:] not in await shown(app, ids[29][-8:])
        await pilot.press("pageup", "k", "g")
        await shown(app, ids[0][-8:])
        await pilot.press("question_mark")
        await shown(app, "cancel it, after a question")
        await pilot.press("x")
        await shown(app, ids[0][-8:])


async def test_no_line_is_wider_than_the_screen(service: Service) -> None:
    await service.submit("x" * 300 + HOSTILE, delay_s=3600)
    for width in (80, 120):
        async with watched(service, (width, 24)) as (app, _):
            found = await shown(app, "scheduled")
            assert all(len(line) <= width for line in found.splitlines())


async def test_only_changes_are_drawn_and_at_most_eight_times_a_second(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws: list[float] = []
    render = TaskRows.render

    def counted(rows: TaskRows) -> Any:
        draws.append(asyncio.get_running_loop().time())
        return render(rows)

    monkeypatch.setattr(TaskRows, "render", counted)
    await service.running(HANG, model="fast")
    async with watched(service) as (app, _):
        await shown(app, "1 running")
        draws.clear()
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < 1:
            app.board.take(event("progress", status="running"))
            await asyncio.sleep(0)
        took = asyncio.get_running_loop().time() - began
        assert len(draws) <= took * 8 + 2


async def test_the_full_screen_comes_back_after_a_restart_of_the_service(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        async with serving(tmp_path) as service:
            before = await service.submit("before", delay_s=3600)
            port = service.port
            with reach(service.url) as api:
                app = WatchApp(api, 500, 200)
            await stack.enter_async_context(app.run_test(size=(80, 24)))
            await shown(app, before[-8:])
        await shown(app, "connection lost")
        async with serving(tmp_path, server={"port": port}) as service:
            after = await service.submit("after", delay_s=7200)
            found = await shown(app, after[-8:])
            assert place(found, before[-8:]) < place(found, after[-8:])
            await shown(app, "Enter open")
    assert app.failure is None


async def test_a_signal_that_ends_it_gives_the_terminal_back(service: Service) -> None:
    async with watched(service) as (app, _):
        await shown(app, "0 running")
        os.kill(os.getpid(), signal.SIGTERM)
        await until(running(app), lambda runs: not runs)
    assert app.failure is None


def running(app: WatchApp) -> Callable[[], Awaitable[bool]]:
    async def runs() -> bool:
        return app.is_running

    return runs
