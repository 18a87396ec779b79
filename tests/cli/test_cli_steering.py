"""Many tasks steered by filters or by several ids, and long lists, on a real service."""

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from asyncsvc.cli.client import Api
from asyncsvc.cli.parser import run
from tests.web.serving import HANG, Service, expect, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
PAGED = 510
"""More tasks than a page of the service holds."""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@dataclass
class Shell:
    """The command line in this process, beside a service in it."""

    service: Service
    captured: pytest.CaptureFixture[str]

    async def __call__(self, *argv: str) -> Ended:
        self.captured.readouterr()
        code = await asyncio.to_thread(run, [*argv])
        out, err = self.captured.readouterr()
        return Ended(code, out, err)

    async def many(self, count: int, **fields: object) -> list[str]:
        tasks = [{"content": f"task {n}", "delay_s": 3600} | fields for n in range(count)]
        answer = expect(await self.service.http.post("/tasks/batch", json={"tasks": tasks}), 202)
        return [task["task_id"] for task in answer["tasks"]]

    async def states(self) -> dict[str, int]:
        counts = expect(await self.service.http.get("/tasks/stats"), 200)
        return {name: count for name, count in counts.items() if count and isinstance(count, int)}


@pytest_asyncio.fixture(loop_scope="module")
async def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Shell]:
    async with serving(tmp_path) as service:
        monkeypatch.setenv("ASYNCSVC_URL", service.url)
        monkeypatch.delenv("ASYNCSVC_TOKEN", raising=False)
        yield Shell(service, capsys)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def typed(monkeypatch: pytest.MonkeyPatch, keys: str) -> Terminal:
    """A terminal at which these keys are typed; what is written to it."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(keys))
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


async def test_a_filter_reaches_each_task_over_all_pages(shell: Shell) -> None:
    wanted, other = await shell.many(PAGED, session_id="s"), await shell.many(3)
    ended = await shell("cancel", "--session", "s", "--status", "scheduled", "--yes")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"cancelled {PAGED} of {PAGED} tasks\n"
    assert await shell.states() == {"total": PAGED + 3, "scheduled": 3, "cancelled": PAGED}
    ended = await shell("tasks", "--all", "--json")
    listed = json.loads(ended.out)
    assert [task["task_id"] for task in listed["tasks"]] == [*reversed(other), *reversed(wanted)]
    assert listed["next_cursor"] is None
    ended = await shell("tasks", "--limit", "505", "--session", "s")
    assert [line.split()[0] for line in ended.out.splitlines()[1:]] == wanted[: PAGED - 506 : -1]


async def test_a_list_goes_on_from_a_cursor(shell: Shell) -> None:
    ids = await shell.many(5)
    first = json.loads((await shell("tasks", "--limit", "3", "--json")).out)
    cursor = first["next_cursor"]
    rest = json.loads((await shell("tasks", "--cursor", cursor, "--all", "--json")).out)
    assert [task["task_id"] for task in first["tasks"] + rest["tasks"]] == ids[::-1]
    page = expect(await shell.service.http.get("/tasks", params={"limit": 3}), 200)
    without = {"spans"}  # they grow from one answer to the next
    for ours, its in zip(first["tasks"], page["tasks"], strict=True):
        assert {k: ours[k] for k in ours.keys() - without} == {
            k: its[k] for k in its.keys() - without
        }
    empty = await shell("tasks", "--status", "failed", "--json")
    assert json.loads(empty.out) == {"tasks": [], "next_cursor": None}


async def test_what_runs_is_cancelled_after_what_waits(shell: Shell) -> None:
    running = [await shell.service.running(HANG, model="fast") for _ in range(5)]
    waiting = [await shell.service.submit(HANG, model="fast") for _ in range(12)]
    ended = await shell("cancel", "--model", "fast", "--yes", "--json")
    assert ended.code == 0
    done = [task["task_id"] for task in json.loads(ended.out)["tasks"]]
    assert done == [*waiting[::-1], *running[::-1]]
    for task_id in waiting:
        assert (await shell.service.task(task_id))["started_at"] is None


async def test_filters_take_the_states_of_their_command(shell: Shell) -> None:
    ids = await shell.many(4)
    assert (await shell("pause", "--type", "chat", "--yes")).out == "paused 4 of 4 tasks\n"
    assert (await shell("resume", "--lane", "short", "-q", "task 1", "--yes")).out == (
        "resumed 1 of 1 task\n"
    )
    assert await shell.states() == {"total": 4, "scheduled": 1, "paused": 3}
    assert (await shell("cancel", "--search", "task", "--yes")).out == "cancelled 4 of 4 tasks\n"
    assert (await shell("retry", "--status", "completed", "--yes")).out == (
        "no task is let through by the filters\n"
    )
    assert (await shell("retry", ids[0], ids[1][-12:], "--json")).code == 0
    assert (await shell("retry", "--search", "task", "--yes")).out == "retried 2 of 2 tasks\n"


async def test_several_ids_are_steered_and_the_refused_ones_named(shell: Shell) -> None:
    one, two = await shell.many(2)
    ended = await shell("cancel", one, two[-10:])
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{one}  cancelled\n{two}  cancelled\n"
    three = (await shell.many(1))[0]
    ended = await shell("cancel", one, three, "absent")
    assert ended.code == 1
    assert ended.out == f"{three}  cancelled\n"
    first, last = ended.err.splitlines()
    assert first.startswith(f"asyncsvc: {one}: ")
    assert last.startswith("asyncsvc: absent: there is no task")
    refused = json.loads((await shell("cancel", one, two, "--json")).out)
    assert [task["task_id"] for task in refused["refused"]] == [one, two]
    assert refused["tasks"] == []


async def test_a_refused_one_of_many_is_exit_code_1(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await shell.many(3, session_id="s")
    listed = Api.listed

    def one_has_ended(api: Api, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        found = list(listed(api, query))
        if ids[1] in [task["task_id"] for task in found]:
            api.command(ids[1], "cancel")
        return iter(found)

    monkeypatch.setattr(Api, "listed", one_has_ended)
    ended = await shell("cancel", "--session", "s", "--yes")
    assert ended.code == 1
    assert ended.out == "cancelled 2 of 3 tasks\n"
    assert ids[1] in ended.err


async def test_a_terminal_is_asked_with_the_number(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shell.many(2)
    screen = typed(monkeypatch, "\n")
    assert (await shell("cancel", "--type", "chat")).code == 1
    assert screen.getvalue() == ("cancel 2 tasks (2 scheduled)? [y/N] nothing was changed\n")
    assert await shell.states() == {"total": 2, "scheduled": 2}
    typed(monkeypatch, "yes\n")
    assert (await shell("cancel", "--type", "chat")).code == 0
    assert await shell.states() == {"total": 2, "cancelled": 2}


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["cancel", "--status", "pending"], "add --yes"),
        (["cancel"], "give ids, or filters"),
        (["cancel", "--yes"], "give ids, or filters"),
        (["pause", "x", "--status", "pending", "--yes"], "do not go together"),
        (["resume", "--status", "running", "--yes"], "resume is not for running tasks"),
        (["cancel", "--status", "completed", "--yes"], "cancel is not for completed tasks"),
        (["tasks", "--all", "--limit", "3"], "do not go together"),
        (["tasks", "--limit", "0"], "--limit"),
    ],
)
async def test_what_cannot_be_meant_is_exit_code_2_and_asks_nothing(
    shell: Shell, argv: list[str], reason: str
) -> None:
    ended = await shell(*argv)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert reason in ended.err


async def test_a_pipe_gets_a_line_a_task_in_plain_columns(shell: Shell) -> None:
    long = "a text\n\twith  spaces " * 20
    task_id = await shell.service.submit(long, delay_s=3600, model="fast")
    head, line = (await shell("tasks")).out.splitlines()
    assert head.split() == ["id", "status", "model", "created", "time", "text"]
    cells = [cell.strip() for cell in line.split("  ") if cell]
    assert cells[:3] == [task_id, "scheduled", "fast"]
    assert cells[4:] == ["–", " ".join(long[:200].split())]
    assert len(cells[3]) == len("2026-11-29 23:14:07")


async def test_an_old_id_is_found_by_its_end(shell: Shell) -> None:
    old = (await shell.many(1))[0]
    await shell.many(PAGED)
    ended = await shell("show", old[-8:], "--json")
    assert json.loads(ended.out)["task_id"] == old
