"""The live table of all tasks."""

import signal
from typing import Any, cast

from rich.console import Console

from asyncsvc.cli.client import Api
from asyncsvc.cli.tables import STYLES
from asyncsvc.cli.watch import Board
from asyncsvc.tasks.state import State
from tests.cli.processes import Place, Terminal

ID = "01a1fa86-548c-7d45-b0f3-e4ae29df0be5"


def item(status: str, **more: Any) -> dict[str, Any]:
    meta = {"name": "fast", "model": "fast-1", "latency": None, "usage": None}
    return {
        "task_id": ID,
        "status": status,
        "model": None,
        "metadata": meta,
        "content_preview": "what was asked",
        "result_preview": None,
        "error": None,
    } | more


def event(kind: str, **data: Any) -> dict[str, Any]:
    return {"id": 1, "task_id": ID, "seq": 1, "type": kind, "ts": "", "data": data}


def drawn(board: Board, width: int = 80) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(board.rendered(width))
    return captured.get()


def board(*items: dict[str, Any]) -> Board:
    board = Board(cast(Api, None), 10)
    board.show(list(items))
    return board


def test_every_state_has_a_colour() -> None:
    assert set(STYLES) == set(State)


def test_events_bring_the_table_up_to_date() -> None:
    found = board(item("pending"))
    found.take(event("progress", status="pending", position=3, eta_s=9.0))
    assert "position 3, about 9 s" in drawn(found)
    found.take(event("status", status="running", cause="started"))
    found.take(event("chunk", text="so far\nso good"))
    assert "so far so good" in drawn(found)
    found.take(event("status", status="failed", error={"code": "timeout", "message": "late"}))
    assert "timeout: late" in drawn(found)


def test_a_page_that_is_older_does_not_undo_what_events_have_reported() -> None:
    found = board(item("pending"))
    found.take(event("status", status="running", cause="started"))
    found.show([item("pending")])
    assert "running" in drawn(found)
    found.show([item("completed", result_preview="the whole answer")])
    assert "the whole answer" in drawn(found)


def test_a_lost_connection_is_written() -> None:
    found = board(item("pending"))
    found.lost("broken")
    assert "connection lost" in drawn(found)


def test_whole_ids_where_there_is_room_else_their_ends() -> None:
    assert ID in drawn(board(item("pending")), 120)
    narrow = drawn(board(item("pending")), 80)
    assert ID not in narrow
    assert ID[-8:] in narrow
    assert all(len(line) <= 80 for line in narrow.splitlines())


def test_a_terminal_shows_it_until_ctrl_c(service: Place) -> None:
    service.run("submit", "in the table", "--model", "fast", "--wait")
    terminal = Terminal(service, 100, "watch")
    terminal.until("in the table")
    terminal.popen.send_signal(signal.SIGINT)
    ended = terminal.ended()
    assert ended.code == 0
    assert "in the table" in ended.out
    assert "Traceback" not in ended.out
