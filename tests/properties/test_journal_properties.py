"""The journal under anything that may happen: any order, any reader, any restart, any cut."""

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from sqlite3 import connect
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncsvc.errors import IllegalTransition, TaskNotFound
from asyncsvc.journal import long_texts
from asyncsvc.journal.journal import Change, Journal, Removal
from asyncsvc.tasks.state import Cause, Draft, EventType, Task, apply, create
from tests.builders import (
    attempt,
    begun,
    chunk,
    ended,
    gathered,
    journal_at,
    new_task,
    rows,
    streamed,
    ticking,
)
from tests.memory import folder as in_memory

pytestmark = pytest.mark.slow

SLOWLY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
IDS = ["a", "b", "c"]


def run(work: Coroutine[Any, Any, None]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(guarded())


@dataclass
class Reader:
    """A client that keeps its cursor over restarts, and takes its time after each page."""

    task_id: str
    after: int
    pause: int
    seen: list[int] = field(default_factory=list)
    running: "asyncio.Task[None] | None" = None

    def start(self, journal: Journal) -> None:
        self.running = asyncio.create_task(self.read(journal))

    async def read(self, journal: Journal) -> None:
        try:
            async for page in journal.follow(self.task_id, max([self.after, *self.seen])):
                self.seen += [event.seq for event in page]
                for _ in range(self.pause):
                    await asyncio.sleep(0)
        except TaskNotFound:
            return


@dataclass
class World:
    """A journal that is opened again and again, and what it has acknowledged."""

    path: Path
    readers: list[Reader] = field(default_factory=list)
    waiting: list[tuple[list[tuple[str, Draft | None]], "asyncio.Future[list[Task]]"]] = field(
        default_factory=list
    )
    appended: list[tuple[str, int]] = field(default_factory=list)
    """(task, seq) of all events, in order; that is their ids."""
    last: dict[str, int] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    async def __aenter__(self) -> "World":
        self._now = ticking()
        self._stack = AsyncExitStack()
        self.journal = await self._stack.enter_async_context(journal_at(self.path, self._now))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        for reader in self.readers:
            if reader.running is not None:
                await reader.running

    async def reopen(self) -> None:
        await self.settle()
        await self.__aexit__()
        async with AsyncExitStack() as stack:
            self.journal = await stack.enter_async_context(journal_at(self.path, self._now))
            self._stack = stack.pop_all()
        for reader in self.readers:
            reader.start(self.journal)

    def append(self, entry: Any, *drafts: Draft | None) -> None:
        task_id = getattr(entry, "task_id", None) or entry.request.id
        expected = [(task_id, draft) for draft in drafts]
        self.waiting.append((expected, self.journal.append(entry)))

    async def settle(self) -> None:
        """Wait for all appends, and note what has been acknowledged."""
        for expected, future in self.waiting:
            try:
                await future
            except (IllegalTransition, TaskNotFound):
                continue
            for task_id, draft in expected:
                if draft is None:
                    self.deleted.add(task_id)
                else:
                    self.last[task_id] = self.last.get(task_id, 0) + 1
                    self.appended.append((task_id, self.last[task_id]))
        self.waiting.clear()

    def kept(self) -> list[tuple[int, str, int]]:
        """(id, task, seq) of the events that are still to be read."""
        numbered = [(number, *event) for number, event in enumerate(self.appended, 1)]
        return [event for event in numbered if event[1] not in self.deleted]


CREATED = Draft(EventType.STATUS, {})
STEPS = st.one_of(
    st.tuples(st.just("birth"), st.just(0)),
    st.tuples(st.just("cause"), st.sampled_from([*Cause, Cause.STARTED, Cause.STARTED])),
    st.tuples(st.just("text"), st.integers(1, 3)),
    st.tuples(st.just("text"), st.integers(1, 3)),
    st.tuples(st.just("attempt"), st.just(0)),
    st.tuples(st.just("run"), st.integers(0, 3)),
    st.tuples(st.just("finish"), st.just(0)),
    st.tuples(st.just("read"), st.tuples(st.integers(0, 9), st.integers(0, 5))),
    st.tuples(st.just("let go"), st.integers(1, 8)),
    st.tuples(st.just("delete"), st.just(0)),
    st.tuples(st.just("reopen"), st.just(0)),
)
STORIES = st.lists(st.tuples(st.sampled_from(IDS), STEPS), min_size=1, max_size=40)


DRAFTS: dict[str, Callable[[Any], list[Draft]]] = {
    "cause": lambda value: [Draft(EventType.STATUS, {"cause": value.value})],
    "text": lambda value: [chunk(str(number)) for number in range(value)],
    "run": lambda value: [*begun("").drafts, *streamed("", *"text"[:value]).drafts],
    "finish": lambda value: [*ended("").drafts],
    "attempt": lambda value: [attempt()],
}
"""The events of the steps that append some."""


async def lived(world: World, story: list[tuple[str, tuple[str, Any]]]) -> None:
    created: set[str] = set()
    for task_id, (step, value) in story:
        if task_id not in created:
            world.append(new_task(task_id), CREATED)
            created.add(task_id)
        if step in DRAFTS:
            drafts = DRAFTS[step](value)
            world.append(Change(task_id, drafts), *drafts)
        elif step == "delete":
            await world.settle()  # created and deleted in one commit: no client can ask for that
            world.append(Removal(task_id), None)
        elif step == "read":
            reader = Reader(task_id, *value)
            world.readers.append(reader)
            reader.start(world.journal)
        elif step == "let go":
            for _ in range(value):
                await asyncio.sleep(0)
        elif step == "reopen":
            await world.reopen()
    await world.settle()


async def check_reading(world: World) -> None:
    """From every cursor exactly what comes after it, for each task and for the whole feed."""
    journal, kept = world.journal, world.kept()
    for task_id in {owner for _, owner, _ in kept}:
        seqs = list(range(1, world.last[task_id] + 1))
        for after in range(world.last[task_id] + 1):
            found = await gathered(journal.follow(task_id, after), len(seqs) - after)
            assert [event.seq for event in found] == seqs[after:]
    ids = [number for number, _, _ in kept]
    for after in [0, *ids]:
        rest = [number for number in ids if number > after]
        feed = await received(journal, after, rest[-1] if rest else after)
        assert feed == sorted(set(feed))
        # What was deleted may still be in memory: it is sent in its place, or not at all.
        assert [number for number in feed if number in ids] == rest


async def received(journal: Journal, after: int, last: int) -> list[int]:
    """The ids that the feed tells from `after` to `last`."""
    found: list[int] = []
    pages = journal.feed.follow(after)
    while max([after, *found]) < last:
        found += [event.id for event in await anext(pages)]
    await pages.aclose()
    return [number for number in found if number <= last]


def _unmarked(task: Task) -> Task:
    return replace(task, marks=())


async def check_rows(journal: Journal) -> None:
    """The events on the disk, applied to the newborn task, give the row."""
    found = rows(journal.store, "SELECT id FROM tasks")
    for (task_id,) in found:
        stored = await journal.store.task(task_id)
        assert stored is not None
        events = await journal.store.events(stored.n, 0)
        task, _ = create(stored.request, events[0].ts, stored.n)
        for row in events[1:]:
            draft = Draft(EventType(row.type), orjson.loads(row.data))
            task = apply(task, draft, row.ts, journal.store.node)
        # Where text has begun is noted in the row with the next change of state.
        live = await journal.task(task_id)
        assert _unmarked(task) == _unmarked(stored) == _unmarked(live)
        assert (task_id in journal.live) is not stored.finished


@SLOWLY
@given(STORIES)
def test_any_story_can_be_read_from_any_cursor(story: list[tuple[str, tuple[str, Any]]]) -> None:
    async def whole() -> None:
        with in_memory() as folder:
            async with World(Path(folder) / "x.db") as world:
                await lived(world, story)
                await check_rows(world.journal)
                await check_reading(world)
                await world.reopen()
                await check_rows(world.journal)
                ids = [row.id for row, *_ in await world.journal.store.feed(0)]
                assert ids == [number for number, _, _ in world.kept()]
                assert world.journal.feed.last_id == len(world.appended)
                await check_reading(world)
            for reader in world.readers:
                last = world.last[reader.task_id]
                expected = list(range(reader.after + 1, last + 1))
                assert reader.seen == expected[: len(reader.seen)]

    run(whole())


@SLOWLY
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), min_size=1, max_size=6),
    st.lists(st.integers(0, 6), min_size=1, max_size=12),
)
def test_readers_at_any_pace_hear_all_of_a_task_once(
    readers: list[tuple[int, int]], pauses: list[int]
) -> None:
    async def whole() -> None:
        with in_memory() as folder:
            async with journal_at(Path(folder) / "x.db") as journal:
                await journal.append(new_task("a"), begun("a"))
                following = [Reader("a", after, pause) for after, pause in readers]
                for number, pause in enumerate(pauses):
                    if number < len(following):
                        following[number].start(journal)
                    for _ in range(pause):
                        await asyncio.sleep(0)
                    journal.append(streamed("a", str(number)))
                await journal.append(ended("a"))
                last = len(pauses) + 4
                for reader in following:
                    if reader.running is None:
                        reader.start(journal)
                    assert reader.running is not None
                    await reader.running
                    assert reader.seen == list(range(reader.after + 1, last + 1))

    run(whole())


# Power cuts and kills ---------------------------------------------------------------------


async def check_prefix(path: Path) -> int:
    """A database after a cut: sound, dense, rows and events agreeing. Answers the last seq."""
    with closing(connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    async with journal_at(path) as journal:
        rows = await journal.store.feed(0)
        assert [row.id for row, *_ in rows] == list(range(1, len(rows) + 1))
        for task_id in {task for _, task, _ in rows}:
            seqs = [row.seq for row, task, _ in rows if task == task_id]
            assert seqs == list(range(1, len(seqs) + 1))
        await check_rows(journal)
        for task_id in {task for _, task, _ in rows}:
            task = await journal.task(task_id)
            if task.finished:
                assert await journal.store.result(task.n) in ("done", LONG), "a part is missing"
        return len(rows)


LONG = "text " * 300


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A database and its log in the middle of work, as they lie on the disk."""
    path = tmp_path_factory.mktemp("cut") / "x.db"

    async def work() -> tuple[bytes, bytes]:
        async with journal_at(path) as journal:
            for number in range(6):
                task_id = f"t{number}"
                await journal.append(new_task(task_id, b"x" * 3000), begun(task_id))
                await journal.append(streamed(task_id, LONG))
                await journal.append(ended(task_id, LONG))
            return path.read_bytes(), path.with_name("x.db-wal").read_bytes()

    with patch.multiple(long_texts, PART_CHARS=400, PART_BYTES=400):
        return asyncio.run(work())


@settings(SLOWLY, max_examples=40)
@given(share=st.floats(0, 1), torn=st.binary(max_size=40))
def test_a_log_cut_off_anywhere_leaves_a_prefix(
    cut: tuple[bytes, bytes], share: float, torn: bytes
) -> None:
    database, log = cut

    async def whole() -> None:
        with in_memory() as folder:
            path = Path(folder) / "x.db"
            path.write_bytes(database)
            path.with_name("x.db-wal").write_bytes(log[: round(len(log) * share)] + torn)
            found = await check_prefix(path)
            assert found <= 30
            assert share < 1 or found == 30

    run(whole())


WRITER = """
import asyncio, sys
from pathlib import Path
from asyncsvc.journal import long_texts
from tests.builders import begun, ended, journal_at, new_task, streamed

long_texts.PART_CHARS = long_texts.PART_BYTES = 1

async def work():
    async with journal_at(Path(sys.argv[1])) as journal:
        count = 0
        for number in range(10**6):
            task = f"t{number}"
            texts = [streamed(task, "a"), streamed(task, "b")]
            steps = [new_task(task), begun(task), *texts, ended(task)]
            for step in steps:
                count += 2 if step is steps[1] else 1
                await journal.append(step)
                print(count, flush=True)

asyncio.run(work())
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_leaves_all_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "x.db"
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as writer:
        assert writer.stdout is not None
        for _ in range(random.Random(seed).randrange(5, 120)):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        lines = writer.stdout.read().split(b"\n")
    appended = max((int(line) for line in lines[:-1]), default=0)
    assert writer.returncode == -signal.SIGKILL
    assert asyncio.run(check_prefix(path)) >= appended
