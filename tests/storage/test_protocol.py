"""The contract of a store: the tests that a second one must pass, through the protocol alone."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import asyncsvc
from asyncsvc.errors import StaleLease, StorageUnavailable
from asyncsvc.storage.entries import Commit
from asyncsvc.storage.protocol import Store
from asyncsvc.tasks.state import LEASE_MS, State, Task
from tests.builders import AT, store_at
from tests.storage.stored import event, listed, stored, task

STORES = {"sqlite": store_at}
"""How each store is opened on a path."""


@pytest.fixture(params=STORES)
async def store(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    async with STORES[request.param](tmp_path / "x.db") as store:
        yield store


def leased(epoch: int, until: int = AT + LEASE_MS) -> Task:
    """A task under way."""
    return replace(task(1, State.RUNNING), node="here", epoch=epoch, lease_until=until)


async def test_a_commit_numbers_its_events_and_a_refused_one_leaves_no_gap(store: Store) -> None:
    await stored(store, task(1))
    first, lost, last = ([event(1, seq)] for seq in (1, 1, 2))
    await store.commit(Commit(events=first))
    with pytest.raises(StorageUnavailable):  # that seq is taken
        await store.commit(Commit(events=lost))
    await store.commit(Commit(events=last))
    assert (first[0].id, last[0].id) == (1, 2)
    assert [row.id for row in await store.events(1, 0)] == [1, 2]


async def test_the_node_of_a_store_is_the_same_after_a_restart(tmp_path: Path) -> None:
    nodes = []
    for _ in range(2):
        async with store_at(tmp_path / "x.db") as store:
            nodes.append(store.node)
    assert nodes[0] == nodes[1] != ""


async def test_a_lease_is_stored_with_its_task(store: Store) -> None:
    await stored(store, task(1))
    await store.commit(Commit(changed=[(task(1), leased(1))]))
    assert await store.task("t1") == leased(1)
    await store.commit(Commit(renewed=[leased(1, AT + 5)]))
    assert await store.task("t1") == leased(1, AT + 5)


async def test_an_earlier_run_can_neither_end_a_task_nor_renew_its_lease(store: Store) -> None:
    await stored(store, task(1))
    await store.commit(Commit(changed=[(task(1), leased(2))]))
    ended = replace(leased(1), state=State.COMPLETED, version=2)
    with pytest.raises(StaleLease):
        await store.commit(Commit(changed=[(leased(1), ended)], events=[event(1, 1)]))
    with pytest.raises(StaleLease):
        await store.commit(Commit(renewed=[leased(1, AT + 5)], events=[event(1, 1)]))
    assert await store.task("t1") == leased(2)
    assert await store.counters() == (1, 0)


async def test_a_batch_is_written_whole(store: Store) -> None:
    await stored(store, task(1))
    after = replace(task(1, State.RUNNING), version=2)
    batch = Commit(
        changed=[(task(1), after)],
        events=[event(1, 1), event(1, 2)],
        results={1: "text"},
        calls=[("gate", AT, 7)],
        keys=[("key", "print", 1, 1, "{}")],
    )
    await store.commit(batch)
    assert await store.task("t1") == replace(after, seq=2)
    assert await store.body(1) == b"body of 1"
    assert await store.result(1) == "text"
    assert await store.calls_since(AT) == [("gate", AT, 7)]
    assert await store.first_answer("key") == ("print", "{}")
    assert await store.counters() == (1, 2)


async def test_what_is_deleted_takes_everything_with_it(store: Store) -> None:
    await stored(store, task(1))
    keys = [("key", "print", 1, 1, "{}")]
    await store.commit(Commit(events=[event(1, 1)], results={1: "text"}, keys=keys))
    await store.commit(Commit(deleted=[1]))
    assert await store.task("t1") is None
    assert await store.body(1) == b"{}"
    assert await store.result(1) is None
    assert await store.events(1, 0) == []
    assert await store.first_answer("key") is None


async def test_a_result_can_be_taken_back(store: Store) -> None:
    await stored(store, task(1))
    await store.commit(Commit(results={1: "text"}))
    await store.commit(Commit(results={1: None}))
    assert await store.result(1) is None
    assert await store.page({}, None, None, None, 1) == [(task(1), None)]


async def test_a_task_changes_only_from_the_version_that_was_seen(store: Store) -> None:
    await stored(store, task(1), task(2))
    closing_twice = [
        (replace(task(n), version=n), replace(task(n, State.COMPLETED), version=2)) for n in (1, 2)
    ]
    with pytest.raises(StorageUnavailable, match="behind the journal's back"):
        await store.commit(Commit(changed=closing_twice))
    assert [found.state for found in await store.unfinished()] == [State.PENDING] * 2


@pytest.mark.parametrize(
    "batch",
    [
        Commit(created=[(task(2), b""), (task(3, session_id="\ud800"), b"")]),
        Commit(created=[(task(2), b""), (task(3, priority=2**70), b"")]),
        Commit(created=[(task(2), b""), (task(3, owner={"no": "text"}), b"")]),
        Commit(created=[(task(2), b""), (task(1), b"")]),
        Commit(created=[(task(2), b"")], results={2: "\ud800"}),
        Commit(created=[(task(2), b"")], events=[event(2, 1), event(2, 1)]),
        Commit(created=[(task(2), b"")], calls=[("gate", 2**70, 7)]),
        Commit(created=[(task(2), b"")], keys=[("key", "\ud800", 2, 2, "{}")]),
    ],
)
async def test_a_batch_with_one_bad_value_is_not_written_at_all(
    store: Store, batch: Commit
) -> None:
    await stored(store, task(1))
    with pytest.raises(StorageUnavailable, match="refused a write"):
        await store.commit(batch)
    assert await listed(store) == [1]
    await stored(store, task(2))
    assert await listed(store) == [2, 1]


async def test_a_nul_in_a_text_comes_back(store: Store) -> None:
    odd = task(1, preview="a\0b", session_id="\0")
    await stored(store, odd)
    assert await store.task("t1") == odd
    assert await listed(store, where={"session_id": "\0"}) == [1]


async def test_old_calls_are_forgotten(store: Store) -> None:
    await store.commit(Commit(calls=[("a", 3, 7), ("b", 2, 8), ("a", 1, 9)]))
    await store.upkeep.forget_calls(before=2)
    assert await store.calls_since(0) == [("b", 2, 8), ("a", 3, 7)]
    assert await store.calls_since(3) == [("a", 3, 7)]


@pytest.mark.parametrize("bad", ["\ud800", 2**70])
async def test_what_no_row_can_hold_is_in_no_row(store: Store, bad: Any) -> None:
    await stored(store, task(1))
    assert await store.task(bad) is None
    assert await store.body(bad) == b"{}"
    assert await store.result(bad) is None
    assert await store.first_answer(bad) is None
    assert await store.events(bad, 0) == []
    assert await store.since_attempt(bad) == []
    assert await store.feed(bad) == []
    assert await listed(store, where={"session_id": bad}) == []


@pytest.mark.parametrize("asked", [{"text": "\ud800"}, {"model": "\ud800"}, {"before": 2**70}])
async def test_nor_is_it_on_any_page(store: Store, asked: dict[str, Any]) -> None:
    await stored(store, task(1))
    assert await listed(store, **asked) == []


async def test_the_unfinished_in_order_of_arrival(store: Store) -> None:
    await stored(store, *(task(n, state) for n, state in enumerate(State, 1)))
    await store.commit(Commit(events=[event(2, seq) for seq in (1, 2, 3)]))
    found = await store.unfinished()
    assert [one.state.value for one in found] == ["scheduled", "pending", "running", "paused"]
    assert [one.seq for one in found] == [0, 3, 0, 0]


async def test_the_text_since_the_attempt_is_that_of_the_last_one(store: Store) -> None:
    await stored(store, task(1), task(2))
    kinds = ["chunk", "attempt", "chunk", "attempt", "reasoning", "chunk", "tool_call", "chunk"]
    rows = [event(1, seq, kind, f'"{seq}"') for seq, kind in enumerate(kinds, 1)]
    await store.commit(Commit(events=[*rows, event(2, 1, data='"other"')]))
    assert await store.since_attempt(1) == ['"6"', '"8"']
    assert await store.since_attempt(2) == ['"other"']


async def test_events_of_some_types_come_in_order(store: Store) -> None:
    await stored(store, task(1), task(2))
    kinds = ["step", "chunk", "message", "step", "chunk"]
    rows = [event(1, seq, kind, f'"{seq}"') for seq, kind in enumerate(kinds, 1)]
    await store.commit(Commit(events=[*rows, event(2, 1, "step")]))
    found = await store.texts.events_of(1, ("step", "message"))
    assert [(row.seq, row.type, row.data) for row in found] == [
        (1, "step", '"1"'),
        (3, "message", '"3"'),
        (4, "step", '"4"'),
    ]
    assert [row.seq for row in await store.texts.events_of(1, ("step",), after=1)] == [4]


async def test_events_and_feed_come_in_order_and_in_portions(store: Store) -> None:
    await stored(store, task(1), task(2))
    await store.commit(Commit(events=[event(n, seq) for n in (1, 2) for seq in (1, 2, 3)]))
    assert [row.seq for row in await store.events(1, 1)] == [2, 3]
    assert [row.seq for row in await store.events(1, 0, limit=2)] == [1, 2]
    assert [row.id for row, *_ in await store.feed(0)] == [1, 2, 3, 4, 5, 6]
    assert [(row.id, task_id) for row, task_id, _ in await store.feed(2, 2)] == [
        (3, "t1"),
        (4, "t2"),
    ]


async def test_pages_are_newest_first_and_go_on_after_the_last_one_seen(store: Store) -> None:
    await stored(store, *(task(n) for n in range(1, 6)))
    assert await listed(store, limit=2) == [5, 4]
    assert await listed(store, limit=2, before=4) == [3, 2]
    assert await listed(store, limit=2, before=2) == [1]
    assert await listed(store, before=1) == []


async def test_a_page_can_be_narrowed(store: Store) -> None:
    await stored(
        store,
        task(1, State.FAILED, "a", lane="long"),
        task(2, State.FAILED, "b", lane="short"),
        task(3, State.PENDING, lane="long", session_id="s"),
    )
    assert await listed(store, where={"state": "failed"}) == [2, 1]
    assert await listed(store, where={"state": "failed", "lane": "long"}) == [1]
    assert await listed(store, where={"session_id": "s"}, before=3) == []


async def test_a_model_is_the_one_that_serves_or_is_wanted(store: Store) -> None:
    serving = replace(task(2, State.RUNNING, "a", model="b"), model="a-1")
    await stored(store, task(1, model="a"), serving, task(3, model="b"), task(4))
    assert await listed(store, model="a") == [2, 1]
    assert await listed(store, model="a-1") == [2]
    assert await listed(store, model="b") == [3]


@pytest.mark.parametrize(
    ("text", "found"),
    [("apples", [1]), ("APPLES", [1]), ("Äpfel", [2]), ("äpfel", []), ("100%", [3]), ("_", [])],
)
async def test_text_is_looked_for_as_it_is(store: Store, text: str, found: list[int]) -> None:
    previews = ["Red Apples", "Äpfel", "100% sure"]
    await stored(store, *(task(n, preview=text) for n, text in enumerate(previews, 1)))
    assert await listed(store, text=text) == found


async def test_text_is_looked_for_in_results_too(store: Store) -> None:
    await stored(store, task(1), task(2))
    await store.commit(Commit(results={1: "Long Answer"}))
    assert await listed(store, text="answer") == [1]
    assert await store.page({}, None, "answer", None, 9) == [(task(1), "Long Answer")]


async def test_counts_by_model_and_state(store: Store) -> None:
    states = [State.FAILED, State.FAILED, State.PENDING]
    await stored(store, *(task(n, state, "a") for n, state in enumerate(states, 1)), task(4))
    assert sorted(await store.counts(None), key=str) == [
        ("a", "failed", 2),
        ("a", "pending", 1),
        (None, "pending", 1),
    ]


async def test_an_empty_database_begins_at_nought(store: Store) -> None:
    assert await store.counters() == (0, 0)
    assert await store.counts(None) == []
    assert await listed(store) == []


async def test_a_persisted_value_stays_until_it_is_deleted(store: Store) -> None:
    await store.commit(Commit(2, values={("a", "x"): "1", ("b", "x"): "3"}))
    await store.commit(Commit(1, values={("a", "y"): "2"}))
    assert await store.persisted_values("a") == [("y", 1, "2"), ("x", 2, "1")]
    await store.commit(Commit(9, values={("a", "x"): "4", ("a", "y"): None, ("a", "z"): None}))
    assert await store.persisted_values("a") == [("x", 9, "4")]
    assert await store.persisted_values("b") == [("x", 2, "3")]
    assert await store.persisted_value("b", "x") == "3"
    assert await store.persisted_value("b", "y") is None


PACKAGE = Path(asyncsvc.__file__).parent
SQL = re.compile(r"\b(SELECT |INSERT |UPDATE |DELETE FROM|PRAGMA)|import (sqlite3|aiosqlite)\b")


@pytest.mark.parametrize(
    "path",
    [p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).parts[0] != "storage"],
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_no_other_package_knows_sql(path: Path) -> None:
    assert not SQL.search(path.read_text(encoding="utf-8"))
