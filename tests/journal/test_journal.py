"""The one way to change a task: what is acknowledged is on the disk, what is refused is not."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from pathlib import Path
from unittest.mock import AsyncMock, patch

import pytest

from asyncsvc.errors import IllegalTransition, StorageUnavailable, TaskNotFound
from asyncsvc.journal import journal as journal_module
from asyncsvc.journal.journal import Change, Journal, NewTask, Removal
from asyncsvc.journal.subscriptions import TAIL
from asyncsvc.storage.database import Database
from asyncsvc.storage.entries import Commit
from asyncsvc.storage.protocol import PAGE, Store
from asyncsvc.tasks.state import Cause, Draft, EventType, Request, State, Task, status
from tests.builders import (
    AT,
    Commits,
    begun,
    chunk,
    data_of,
    ended,
    gathered,
    journal_at,
    live_through,
    moved,
    new_task,
    rows,
    store_at,
    streamed,
    ticking,
)
from tests.virtual_time import virtual, wall_ms


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with journal_at(tmp_path / "x.db") as journal:
        yield journal


async def ids_on_disk(store: Store) -> list[int]:
    return [row.id for row, *_ in await store.feed(0)]


# Appending --------------------------------------------------------------------------------


async def test_what_is_acknowledged_is_on_the_disk(journal: Journal) -> None:
    (task,) = await journal.append(new_task("t1", b"body"))
    assert await journal.store.task("t1") == task == journal.live["t1"]
    assert await journal.store.body(task.n) == b"body"


async def test_the_body_of_a_new_task_is_read_from_memory_once(journal: Journal) -> None:
    (task,) = await journal.append(new_task("t1", b"body"))
    with patch.object(journal.store, "body", AsyncMock(return_value=b"stored")):
        assert [await journal.body(task), await journal.body(task)] == [b"body", b"stored"]


async def test_only_the_newest_small_bodies_are_in_memory(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "NEW_BODIES", 2)
    bodies = [b"1", b"2", b"3", b"x" * 5000]
    tasks = [(await journal.append(new_task(f"t{n}", b)))[0] for n, b in enumerate(bodies)]
    with patch.object(journal.store, "body", AsyncMock(return_value=b"stored")):
        found = [await journal.body(task) for task in tasks]
    assert found == [b"stored", b"2", b"3", b"stored"]


async def test_the_tasks_that_ended_last_are_read_from_memory(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "ENDED_TASKS", 2)
    for name in ("old", "deleted", "ended"):
        await live_through(journal, name)
    await journal.append(Removal("deleted"))
    stored = [await journal.store.task(name) for name in ("old", "ended")]
    with patch.object(journal.store, "task", AsyncMock(return_value=None)) as read:
        assert await journal.followed("ended") == stored[1]
        for name in ("old", "deleted"):
            with pytest.raises(TaskNotFound):
                await journal.followed(name)
    assert [call.args for call in read.call_args_list] == [("old",), ("deleted",)]
    assert stored[0] is not None


async def test_a_chore_may_delete_what_has_ended(journal: Journal) -> None:
    await live_through(journal, "t1")
    assert await journal.between(lambda: journal.store.upkeep.purge(10**15)) == 1
    with pytest.raises(TaskNotFound):
        await journal.followed("t1")


async def test_no_client_hears_of_an_event_before_it_is_on_the_disk(journal: Journal) -> None:
    await journal.append(new_task())
    commits = Commits(journal.store)
    commits.free.clear()
    received = asyncio.create_task(gathered(journal.feed.follow(1), 2))
    append = journal.append(begun())
    await commits.began.wait()
    assert not received.done()
    assert not append.done()
    assert journal.live["t1"].state is State.PENDING
    commits.free.set()
    assert [event.id for event in await received] == [2, 3]
    assert append.done()


async def test_a_refusal_does_not_speak_of_what_is_not_on_the_disk_yet(journal: Journal) -> None:
    await journal.append(new_task())
    commits = Commits(journal.store)
    commits.refuse()
    cancelled = journal.append(moved("t1", State.PENDING, Cause.CANCELLED))
    paused = journal.append(moved("t1", State.PENDING, Cause.PAUSED))
    for append in (cancelled, paused):
        with pytest.raises(StorageUnavailable):
            await append
    assert journal.live["t1"].state is State.PENDING


async def test_what_gathers_during_a_commit_goes_into_the_next(journal: Journal) -> None:
    commits = Commits(journal.store)
    commits.free.clear()
    first = journal.append(new_task("first"))
    await commits.began.wait()
    rest = [journal.append(new_task(f"t{number}")) for number in range(50)]
    commits.free.set()
    await asyncio.gather(first, *rest)
    assert [len(batch.created) for batch in commits.batches] == [1, 50]


async def test_who_waited_is_reported_while_the_next_commit_is_under_way(journal: Journal) -> None:
    order: list[str] = []
    began = asyncio.Event()
    commit = journal.store.commit

    def noted(batch: Commit) -> Awaitable[None]:
        order.append("written: " + " ".join(task.id for task, _ in batch.created))
        began.set()
        return commit(batch)

    journal.store.commit = noted  # type: ignore[method-assign]

    def append(name: str) -> "asyncio.Future[list[Task]]":
        return journal.append(new_task(name), then=lambda _: order.append(f"resolved: {name}"))

    first = append("a")
    await began.wait()
    second, third = append("b"), append("c")
    await asyncio.gather(first, second, third)
    assert order == ["written: a", "written: b c", "resolved: a", "resolved: b", "resolved: c"]


async def test_who_waited_is_reported_though_the_next_commit_fails_at_once(
    journal: Journal,
) -> None:
    commit = journal.store.commit
    began = asyncio.Event()

    def failing(batch: Commit) -> Awaitable[None]:
        if began.is_set():
            raise StorageUnavailable("full")
        began.set()
        return commit(batch)

    journal.store.commit = failing  # type: ignore[method-assign]
    first = journal.append(new_task("a"))
    await began.wait()
    second = journal.append(new_task("b"))
    assert [task.id for task in await first] == ["a"]
    with pytest.raises(StorageUnavailable):
        await second


async def test_a_commit_takes_a_bounded_number(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "COMMIT_MOST", 3)
    commits = Commits(journal.store)
    await asyncio.gather(*[journal.append(new_task(f"t{number}")) for number in range(7)])
    assert [len(batch.created) for batch in commits.batches] == [3, 3, 1]


async def test_a_commit_takes_one_append_of_many_tasks_and_all_small_ones(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MANY", 2)
    commits = Commits(journal.store)
    many = [[new_task(f"{name}{number}") for number in range(3)] for name in "abc"]
    appends = [journal.append(*tasks) for tasks in many]
    appends.insert(1, journal.append(new_task("small")))
    stored = await asyncio.gather(*appends)
    assert [len(batch.created) for batch in commits.batches] == [4, 3, 3]
    assert [task.id for task in stored[1]] == ["small"]
    assert [task.n for tasks in stored for task in tasks] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


async def test_changes_of_many_tasks_are_committed_in_their_order(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MANY", 2)
    ids = ["a", "b", "c"]
    await asyncio.gather(*(journal.append(new_task(task_id)) for task_id in ids))
    first = journal.append(*(begun(task_id) for task_id in ids))
    second = journal.append(*(ended(task_id) for task_id in ids))
    third = journal.append(Removal("c"))
    assert {task.state for task in await first} == {State.RUNNING}
    assert {task.state for task in await second} == {State.COMPLETED}
    await third
    assert journal.live == {}


async def test_a_failed_commit_changes_neither_memory_nor_numbers_nor_disk(
    journal: Journal,
) -> None:
    await live_through(journal, "done")
    (task,) = await journal.append(new_task())
    ids = await ids_on_disk(journal.store)
    commits = Commits(journal.store)
    commits.refuse()
    appends = [
        journal.append(begun()),
        journal.append(new_task("t2")),
        journal.append(moved("done", State.COMPLETED, Cause.RERUN)),
    ]
    refused = await asyncio.gather(*appends, return_exceptions=True)
    assert [type(error) for error in refused] == [StorageUnavailable] * 3
    assert journal.live == {"t1": task}
    assert await ids_on_disk(journal.store) == ids
    commits.refusal = None
    (after,) = await journal.append(begun())
    (other,) = await journal.append(new_task("t2"))
    assert (after.seq, other.n) == (3, 3)
    assert await ids_on_disk(journal.store) == list(range(1, len(ids) + 4))


async def test_a_full_disk_is_survived(journal: Journal) -> None:
    await journal.append(new_task())
    assert isinstance(journal.store, Database)
    await journal.store.writer.execute("PRAGMA max_page_count=1")
    with pytest.raises(StorageUnavailable, match="full"):
        await journal.append(new_task("t2", b"x" * 200_000))
    await journal.store.writer.execute("PRAGMA max_page_count=1000000")
    await journal.append(new_task("t2", b"x" * 200_000))
    assert await ids_on_disk(journal.store) == [1, 2]


async def test_an_append_is_applied_wholly_or_not_at_all(journal: Journal) -> None:
    await journal.append(new_task())
    with pytest.raises(IllegalTransition):
        await journal.append(new_task("t2"), begun("t2"), ended("t1"))
    assert list(journal.live) == ["t1"]
    tasks = await journal.append(new_task("t2"), begun("t1"))
    assert [task.id for task in tasks] == ["t2", "t1"]
    assert await ids_on_disk(journal.store) == [1, 2, 3, 4]


SURROGATE = Change("t1", [chunk("\ud800")])
HUGE = Change("t1", [Draft(EventType.RETRY, {"why": 2**70})])
NONSENSE = Change("t1", [Draft(EventType.STATUS, {"cause": "exploded"})])


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (ended("missing"), TaskNotFound),
        (ended("\ud800"), TaskNotFound),
        (moved("t1", State.PENDING, Cause.STARTED), IllegalTransition),
        (Change("t1", [], source=State.PAUSED), IllegalTransition),
        (Removal("t1"), IllegalTransition),
        (SURROGATE, StorageUnavailable),
        (HUGE, StorageUnavailable),
        (NONSENSE, StorageUnavailable),
    ],
)
async def test_a_refused_append_does_no_harm_to_its_neighbours(
    journal: Journal, bad: Change | Removal, error: type[Exception]
) -> None:
    await journal.append(new_task(), begun())
    commits = Commits(journal.store)
    good, refused, other = (
        journal.append(streamed("t1", "a")),
        journal.append(bad),
        journal.append(streamed("t1", "b")),
    )
    with pytest.raises(error):
        await refused
    assert [(await good)[0].seq, (await other)[0].seq] == [4, 5]
    assert len(commits.batches) == 1


async def test_where_all_are_refused_nothing_is_written(journal: Journal) -> None:
    commits = Commits(journal.store)
    with pytest.raises(TaskNotFound):
        await journal.append(ended("missing"))
    assert commits.batches == []


async def test_two_closings_of_one_task_end_it_once(journal: Journal) -> None:
    await journal.append(new_task(), begun())
    cancel = moved("t1", State.RUNNING, Cause.CANCELLED)
    first, second = journal.append(ended("t1", "text")), journal.append(cancel)
    assert (await first)[0].state is State.COMPLETED
    with pytest.raises(IllegalTransition):
        await second
    events = await gathered(journal.follow("t1"))
    assert [data_of(event).get("status") for event in events] == [
        "pending",
        "running",
        None,
        "completed",
    ]


async def test_a_row_that_changed_behind_its_back_is_not_overwritten(journal: Journal) -> None:
    await journal.append(new_task(), begun())
    rows(journal.store, "UPDATE tasks SET version = 9, state = 'failed'")
    with pytest.raises(StorageUnavailable, match="behind the journal's back"):
        await journal.append(ended())
    stored = await journal.store.task("t1")
    assert stored is not None
    assert stored.state is State.FAILED


async def test_an_abandoned_append_stands(journal: Journal) -> None:
    append = journal.append(new_task())
    append.cancel()
    await journal.append(new_task("t2"))
    assert list(journal.live) == ["t1", "t2"]


async def test_an_unknown_fault_refuses_and_the_journal_lives_on(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    commits = Commits(journal.store)
    commits.refusal = RuntimeError("odd")
    with pytest.raises(StorageUnavailable, match="internal: odd"):
        await journal.append(new_task())
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    commits.refusal = None
    await journal.append(new_task())


async def test_an_idempotency_key_is_stored_with_its_task(journal: Journal) -> None:
    await journal.append(NewTask(Request("t1"), b"{}", ("key", "print", '{"a":1}')))
    assert await journal.store.first_answer("key") == ("print", '{"a":1}')


@virtual
async def test_calls_are_counted_and_the_oldest_forgotten(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "x.db", wall_ms) as journal:
        await journal.append(new_task(), begun())
        for _ in range(4):
            await asyncio.sleep(61)
            await journal.append(Change("t1", [], call="gate"))
        await journal.append(new_task("t2"))  # after this the forgetting has been done
        kept = [("gate", AT + second * 1000, 0) for second in (183, 244)]
        assert await journal.store.calls_since(0) == kept


# Opening and closing ----------------------------------------------------------------------


async def test_the_unfinished_are_live_again_after_a_restart(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "x.db") as journal:
        await live_through(journal, "done", "text")
        await journal.append(new_task("open"), begun("open"), streamed("open", "a", "b"))
        before = dict(journal.live)
    async with journal_at(tmp_path / "x.db") as journal:
        assert journal.live == before
        assert list(journal.live) == ["open"]
        assert (await journal.task("done")).finished
        assert [task.seq for task in await journal.append(streamed("open", "c"))] == [6]


async def test_ids_are_never_used_again(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "x.db") as journal:
        await live_through(journal, "t1")
        await journal.append(Removal("t1"))
    async with journal_at(tmp_path / "x.db") as journal:
        assert journal.feed.last_id == 4
        await journal.append(new_task("t2"))
        assert await ids_on_disk(journal.store) == [5]


async def test_closing_writes_what_was_appended_and_refuses_the_rest(tmp_path: Path) -> None:
    async with store_at(tmp_path / "x.db") as store:
        async with Journal(store, ticking()) as journal:
            last = journal.append(new_task())
        assert (await last)[0].id == "t1"
        assert await store.task("t1") is not None
        with pytest.raises(StorageUnavailable, match="stopping"):
            await journal.append(new_task("t2"))


async def test_a_journal_that_was_never_opened_can_be_closed(tmp_path: Path) -> None:
    async with store_at(tmp_path / "x.db") as store:
        await Journal(store, ticking()).__aexit__()


# Following --------------------------------------------------------------------------------


async def test_a_follower_gets_the_suffix_after_its_cursor(journal: Journal) -> None:
    await live_through(journal, "t1", "a", "b")
    for after in range(-1, 8):
        found = [event.seq for event in await gathered(journal.follow("t1", after))]
        assert found == list(range(max(after, 0) + 1, 7))


async def test_memory_and_disk_tell_the_same(journal: Journal) -> None:
    live = asyncio.create_task(gathered(journal.feed.follow(0), 5))
    await live_through(journal, "t1", "\u2028 好")
    from_disk = [row.event(task_id).wire for row, task_id, _ in await journal.store.feed(0)]
    followed = [event.wire for event in await gathered(journal.follow("t1"))]
    assert [event.wire for event in await live] == from_disk == followed


async def test_a_follower_of_no_client_is_answered(journal: Journal) -> None:
    with pytest.raises(TaskNotFound):
        await gathered(journal.follow("missing"))
    with pytest.raises(TaskNotFound):
        await journal.task("missing")


async def test_a_follower_ends_with_its_task(journal: Journal) -> None:
    await journal.append(new_task())
    follower = asyncio.create_task(gathered(journal.follow("t1")))
    await journal.append(begun())
    await journal.append(streamed("t1", "a"))
    await journal.append(ended())
    assert [event.seq for event in await follower] == [1, 2, 3, 4, 5]


async def waiting_at_the_end(journal: Journal, task_id: str) -> "asyncio.Task[list[int]]":
    """A follower that has seen everything there is and waits for more."""
    last = (await journal.task(task_id)).seq
    caught_up = asyncio.Event()

    async def follow() -> list[int]:
        found: list[int] = []
        async for page in journal.follow(task_id):
            found += [event.seq for event in page]
            if found[-1] == last:
                caught_up.set()
        return found

    follower = asyncio.create_task(follow())
    await caught_up.wait()
    return follower


async def test_a_follower_ends_with_the_release(journal: Journal) -> None:
    await journal.append(new_task())
    follower = await waiting_at_the_end(journal, "t1")
    journal.release()
    assert await follower == [1]
    assert await gathered(journal.follow("t1")) == []


async def test_a_follower_ends_when_its_task_is_deleted(journal: Journal) -> None:
    await journal.append(new_task())
    follower = await waiting_at_the_end(journal, "t1")
    gone = journal.append(moved("t1", State.PENDING, Cause.CANCELLED), Removal("t1"))
    assert (await gone)[-1].finished
    assert await follower == [1, 2]
    assert await journal.store.task("t1") is None
    with pytest.raises(TaskNotFound):
        await journal.task("t1")


async def test_a_follower_whose_task_is_deleted_midway_is_answered(journal: Journal) -> None:
    await journal.append(new_task(), begun())
    await asyncio.gather(*(journal.append(streamed("t1", "a")) for _ in range(PAGE + TAIL)))
    await journal.append(ended())
    async with aclosing(journal.follow("t1")) as pages:
        assert len(await anext(pages)) == PAGE
        await journal.append(Removal("t1"))
        with pytest.raises(TaskNotFound):
            [page async for page in pages]


async def test_a_follower_whose_task_is_deleted_gets_what_memory_has(journal: Journal) -> None:
    await journal.append(new_task())
    async with aclosing(journal.follow("t1")) as pages:
        assert [event.seq for event in await anext(pages)] == [1]
        await journal.append(begun())
        await journal.append(ended())
        await journal.append(Removal("t1"))
        rest = [event.seq async for page in pages for event in page]
    assert rest == [2, 3, 4]


async def test_a_follower_stays_over_a_rerun_in_the_same_commit(journal: Journal) -> None:
    await journal.append(new_task(), begun())
    follower = await waiting_at_the_end(journal, "t1")
    rerun = Change("t1", [status(Cause.RERUN, State.COMPLETED)])
    await asyncio.gather(journal.append(ended()), journal.append(rerun))
    await journal.append(begun())
    await journal.append(ended())
    assert await follower == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_a_rerun_can_be_followed_from_where_the_first_run_ended(journal: Journal) -> None:
    await live_through(journal, "t1", "a")
    assert await journal.store.result(1) == "a"
    await journal.append(moved("t1", State.COMPLETED, Cause.RERUN))
    assert await journal.store.result(1) is None
    assert [event.seq for event in await gathered(journal.follow("t1", 5), 1)] == [6]
    follower = asyncio.create_task(gathered(journal.follow("t1", 5)))
    await journal.append(begun())
    await journal.append(ended())
    assert [event.seq for event in await follower] == [6, 7, 8, 9]


async def test_a_slow_follower_loses_nothing_and_holds_no_client_up(journal: Journal) -> None:
    await journal.append(new_task(), begun())
    slow = journal.follow("t1")
    first = await anext(slow)
    for number in range(300):
        await journal.append(streamed("t1", str(number)))
    await journal.append(ended())
    rest = await gathered(slow)
    assert [event.seq for event in [*first, *rest]] == list(range(1, 305))


async def test_the_feed_goes_on_over_deleted_tasks(journal: Journal, tmp_path: Path) -> None:
    await live_through(journal, "t1")
    await live_through(journal, "t2")
    await journal.append(Removal("t1"))
    assert await ids_on_disk(journal.store) == [5, 6, 7, 8]
    found = await gathered(journal.feed.follow(2), 6)
    assert [event.id for event in found] == [3, 4, 5, 6, 7, 8]


async def test_the_feed_passes_over_deleted_tasks_after_a_restart(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "x.db") as journal:
        for task_id in ("t1", "t2", "t3"):
            await live_through(journal, task_id)
        await journal.append(Removal("t1"), Removal("t3"))
    async with journal_at(tmp_path / "x.db") as journal:
        received = asyncio.create_task(gathered(journal.feed.follow(0), 5))
        late = asyncio.create_task(gathered(journal.feed.follow(9), 1))
        await journal.append(new_task("t4"))
        assert [event.id for event in await received] == [5, 6, 7, 8, 13]
        assert [event.id for event in await late] == [13]


async def test_what_follows_on_an_append_is_done_without_the_caller(journal: Journal) -> None:
    received: list[object] = []
    append = journal.append(new_task("t1"), then=received.append)
    append.cancel()
    refused = journal.append(Removal("missing"), then=received.append)
    with pytest.raises(TaskNotFound):
        await refused
    await journal.append(new_task("t2"))
    assert received[0] == [await journal.task("t1")]
    assert isinstance(received[1], TaskNotFound)


async def test_a_follow_up_that_fails_harms_no_append(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(outcome: object) -> None:
        raise RuntimeError("ours")

    assert [task.id for task in await journal.append(new_task("t1"), then=fails)] == ["t1"]
    assert [task.id for task in await journal.append(new_task("t2"))] == ["t2"]
    assert "has failed" in caplog.text


async def test_each_append_is_settled_once_whatever_refuses_it(journal: Journal) -> None:
    """One that JSON cannot hold, in a batch that the disk refuses as well."""
    await journal.append(new_task("t1"), begun("t1"))
    commits, settled = Commits(journal.store), list[str]()
    commits.refuse()
    odd = Change("t1", [Draft(EventType.CHUNK, {"text": object()})])
    appends = [
        journal.append(odd, then=lambda _: settled.append("odd")),
        journal.append(new_task("t2"), then=lambda _: settled.append("t2")),
    ]
    for append in appends:
        with pytest.raises(StorageUnavailable):
            await append
    commits.refusal = None
    await journal.append(new_task("t3"))
    assert settled == ["odd", "t2"]
