"""Answers that are repeated, and those that are not."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from asyncsvc.errors import StorageUnavailable, UpstreamRejected
from asyncsvc.journal.journal import PersistedValue
from asyncsvc.providers.answers.delta import Delta
from asyncsvc.scheduling.cache import ENTRY_BYTES, KIND, PURGED_AT_ONCE, request_key
from asyncsvc.storage.entries import Commit
from asyncsvc.tasks.state import State
from asyncsvc.tasks.submission import Submission
from tests.builders import journal_at
from tests.engine_services import MOMENT, EngineServices, model
from tests.scripted import HANG, Script
from tests.virtual_time import virtual

COLD: dict[str, Any] = {"params": {"temperature": 0}}
WITH_EMBEDDING = {"a": model(), "e": model(type="embedding", model="embed")}


async def _ask(services: EngineServices, content: str = "x", **fields: Any) -> bool:
    """Ask and wait; whether the answer came from the cache."""
    task_id = await services.submit(content, **(COLD | fields))
    return (await services.finished(task_id)).cached


def _rows(folder: Path) -> int:
    with sqlite3.connect(folder / "tasks.db") as other:
        found: int = other.execute("SELECT COUNT(*) FROM kept WHERE kind = 'answer'").fetchone()[0]
    other.close()
    return found


@virtual
async def test_an_answer_is_repeated_without_a_call(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(rpm=1, rpm_window_s=1000)}) as services:
        services.client.usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        script: Script = [Delta("hm", True), 1.0, "he", 1.0, "llo"]
        first = await services.submit_script("x", script, **COLD)
        original = await services.finished(first)
        calls = services.services.catalogue.upstreams[0].gate.statistics.calls
        again = await services.submit("x", **COLD)
        task = await services.finished(again)
        assert (task.state, task.cached, original.cached) == (State.COMPLETED, True, False)
        assert (task.model, task.name, task.usage) == ("id", "a", original.usage)
        assert (task.attempts, task.latency) == (1, 0.0)
        assert task.route is not None
        assert (task.route["reason"], task.route["model"]) == ("cached", "a")
        assert await services.result(again) == await services.streamed(again) == "hello"
        events = await services.events(again)
        kinds = ["submitted", "started", "attempt", "reasoning", "chunk", "completed"]
        assert await services.kinds(again) == kinds
        assert (events[2][1]["why"], events[2][1]["number"]) == ("cached", 1)
        assert (events[2][1]["model"], events[2][1]["name"]) == ("id", "a")
        assert events[-1][1]["cached"] is True
        assert len(services.client.calls) == calls == 1
        assert services.services.cache.figures() | {"bytes": 0} == {
            "entries": 1, "bytes": 0, "hits": 1, "misses": 1, "shared": 0,
        }  # fmt: skip


@virtual
async def test_an_answer_needs_neither_a_free_slot_nor_a_sound_gate(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await _ask(services)
        await services.submit_script("busy", [HANG])
        await asyncio.sleep(MOMENT)
        assert await _ask(services)


@virtual
async def test_embeddings_are_repeated_by_default(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WITH_EMBEDDING) as services:
        found = []
        for _ in range(2):
            task_id = await services.submit_fields(type="embedding", input=["a", "bb"])
            found.append(
                ((await services.finished(task_id)).cached, await services.result(task_id))
            )
            kinds = ["submitted", "started", "attempt", "completed"]
            assert await services.kinds(task_id) == kinds
        assert found == [(False, "[[1.0],[2.0]]"), (True, "[[1.0],[2.0]]")]


@pytest.mark.parametrize(
    ("cache", "params", "repeated"),
    [
        (None, {"temperature": 0}, True),
        (None, {"temperature": 0.0, "top_p": 1}, True),
        (None, {}, False),
        (None, {"temperature": 0.1}, False),
        (None, {"temperature": None}, False),
        (True, {}, True),
        (True, {"temperature": 1}, True),
        (False, {"temperature": 0}, False),
    ],
)
def test_which_tasks_are_cached(
    tmp_path: Path, cache: bool | None, params: dict[str, Any], repeated: bool
) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            fields: dict[str, Any] = {"cache": cache, "params": params}
            assert not await _ask(services, **fields)
            assert await _ask(services, **fields) is repeated
            assert _rows(tmp_path) == int(repeated)

    check()


@virtual
async def test_a_task_that_wants_no_cache_neither_reads_nor_writes_it(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        assert not await _ask(services, cache=False)
        assert not await _ask(services)
        assert not await _ask(services, cache=False)
        assert len(services.client.calls) == 3


@virtual
async def test_nothing_is_cached_or_shared_where_it_is_switched_off(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, cache={"enabled": False}) as services:
        ids = await services.submit_many(["x", "x"], cache=True)
        for task_id in ids:
            assert not (await services.finished(task_id)).cached
        assert (len(services.client.calls), _rows(tmp_path)) == (2, 0)


# What makes two requests the same ---------------------------------------------------------------

SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"params": {"temperature": 0, "seed": 1}}, {"params": {"seed": 1, "temperature": 0}}),
    (
        {"params": {"temperature": 0, "response_format": {"type": "t", "a": 1}}},
        {"params": {"response_format": {"a": 1, "type": "t"}, "temperature": 0}},
    ),
    ({}, {"content": None, "messages": [{"role": "user", "content": "x"}]}),
    ({}, {"content": None, "messages": [{"content": "x", "role": "user"}]}),
    ({}, {"lane": "long", "priority": 9, "session_id": "s", "metadata": {"a": 1}}),
    ({}, {"timeout_s": 5, "max_retries": 0, "cache": True}),
]
OTHER: list[dict[str, Any]] = [
    {"content": "y"},
    {"content": "x "},
    {"params": {"temperature": 0, "seed": 1}},
    {"params": {"temperature": 1}, "cache": True},
    {"model": "a"},
    {"content": None, "messages": [{"role": "system", "content": "x"}]},
    {"content": None, "messages": [{"role": "user", "content": "x"}] * 2},
]


def _key(**fields: Any) -> str | None:
    given = {"content": "x", **COLD} | fields
    return request_key(Submission.model_validate(given))


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_does_not_matter(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert _key(**one) == _key(**other) is not None


@pytest.mark.parametrize("other", OTHER)
def test_what_matters(other: dict[str, Any]) -> None:
    assert None not in (_key(), _key(**other))
    assert _key() != _key(**other)


def test_the_class_matters_where_no_model_is_named() -> None:
    routed = Submission.model_validate({"content": "x", "cache": True})
    named = Submission.model_validate({"content": "x", "cache": True, "model": "a"})
    assert request_key(routed, "simple") != request_key(routed, "batch")
    assert request_key(named, "simple") == request_key(named, "batch")


def test_embeddings_of_different_texts_differ() -> None:
    keys = {
        request_key(Submission.model_validate({"type": "embedding", "input": texts}))
        for texts in ("a", ["a"], ["a", "b"], ["b", "a"])
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("change", "repeated"),
    [
        ({"model": "new"}, False),
        ({"model": ["id", "new"]}, False),
        ({"base_url": "http://127.0.0.1:10/v1"}, False),
        ({"extra_body": {"thinking": False}}, False),
        ({"extra_headers": {"x-agent": "b"}}, False),
        ({"preset": "zhipu"}, False),
        ({"concurrency": 7, "rpm": 5}, True),
    ],
)
def test_other_settings_of_the_model_make_another_answer(
    tmp_path: Path, change: dict[str, Any], repeated: bool
) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            await _ask(services)
        async with EngineServices(tmp_path, {"a": model(**change)}) as services:
            assert await _ask(services) is repeated

    check()


# What is never repeated -------------------------------------------------------------------------


@virtual
async def test_answers_with_tool_calls_are_not_kept(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    async with EngineServices(tmp_path) as services:
        services.client.on("x", ["some", call])
        assert not await _ask(services)
        assert not await _ask(services)
        assert _rows(tmp_path) == 0


@virtual
async def test_partial_and_failed_answers_are_not_kept(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on("x", ["par", UpstreamRejected("no")], ["par", HANG], ["whole"])
        assert not await _ask(services)
        cut = await services.submit("x", **COLD)
        await asyncio.sleep(1)
        await services.services.control.cancel(cut)
        assert (_rows(tmp_path), len(services.services.cache)) == (0, 0)
        assert not await _ask(services)
        assert await _ask(services)


@virtual
async def test_what_an_agent_has_done_is_done_again(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(preset="openclaw")}) as services:
        for named in ("a", None):
            assert not await _ask(services, model=named)
            assert not await _ask(services, model=named)
        assert not await _ask(services, model="a", cache=True)
        assert await _ask(services, model="a", cache=True)


@virtual
async def test_a_retry_by_hand_asks_anew_and_its_answer_is_kept(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.on("x", ["old"], ["new"])
        await _ask(services)
        task_id = await services.submit("x", **COLD)
        assert (await services.finished(task_id)).cached
        await services.services.control.retry(task_id)
        task = await services.finished(task_id)
        assert (task.cached, await services.result(task_id)) == (False, "new")
        again = await services.submit("x", **COLD)
        assert ((await services.finished(again)).cached, await services.result(again)) == (
            True,
            "new",
        )


# Time, room, restarts ---------------------------------------------------------------------------


@virtual
async def test_an_answer_grows_stale(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, cache={"ttl_s": 100}) as services:
        await _ask(services)
        await asyncio.sleep(99)
        assert await _ask(services)
        await asyncio.sleep(1)
        assert not await _ask(services)
        assert await _ask(services)
        assert len(services.client.calls) == 2


@virtual
async def test_a_clock_that_is_set_back_keeps_no_answer_for_ever(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, cache={"ttl_s": 100}) as services:
        await _ask(services)
        services.shift_ms = -200_000
        assert not await _ask(services)


@virtual
async def test_a_restart_keeps_the_fresh_and_purges_the_stale(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, cache={"ttl_s": 100}) as services:
        for number in range(PURGED_AT_ONCE + 2):
            await _ask(services, f"old {number}")
        await asyncio.sleep(90)
        await _ask(services, "fresh")
        await services.restart()
        assert await _ask(services, "fresh")
        assert await _ask(services, "old 0")
        await asyncio.sleep(20)
        await services.restart()
        assert await _ask(services, "fresh")
        assert len(services.services.cache) == 1
        before = _rows(tmp_path)
        await _ask(services, "new")
        assert _rows(tmp_path) == before + 1 - PURGED_AT_ONCE
        await _ask(services, "newer")
        assert _rows(tmp_path) == len(services.services.cache) == 3


def _room_for(answers: int) -> dict[str, int]:
    return {"max_bytes": answers * (ENTRY_BYTES + 128 + 1200)}


@virtual
async def test_the_least_recently_used_makes_room(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, cache=_room_for(3)) as services:
        services.client.default = ["y" * 1000]
        for prompt in "abc":
            await _ask(services, prompt)
        assert await _ask(services, "a")
        await _ask(services, "d")
        cache = services.services.cache
        assert (len(cache), cache.bytes <= _room_for(3)["max_bytes"]) == (3, True)
        assert [await _ask(services, prompt) for prompt in "acd"] == [True, True, True]
        assert not await _ask(services, "b")
        await _ask(services, "e")
        assert _rows(tmp_path) <= 4


@virtual
async def test_what_is_too_large_for_the_cache_is_not_kept(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, cache=_room_for(2)) as services:
        services.client.on("large", ["y" * 5000])
        await _ask(services)
        assert not await _ask(services, "large")
        assert not await _ask(services, "large")
        assert await _ask(services)


@virtual
async def test_no_room_means_no_cache(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, cache={"max_bytes": 0}) as services:
        assert not await _ask(services)
        assert not await _ask(services)
        assert _rows(tmp_path) == 0


@virtual
async def test_an_answer_is_kept_in_the_commit_that_ends_the_task(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        batches: list[Commit] = []
        store = services.services.journal.store
        plain = store.commit

        async def commit(batch: Commit) -> None:
            batches.append(batch)
            await plain(batch)

        with patch.object(store, "commit", commit):
            await _ask(services)
        answers = [b for b in batches if any(row[0] == KIND for row in b.values)]
        (keeping,) = answers
        assert [task.state for _, task in keeping.changed] == [State.COMPLETED]


@virtual
async def test_a_full_disk_delays_a_cached_answer(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await _ask(services)
        task_id = await services.submit("x", delay_s=10, **COLD)
        store = services.services.journal.store
        with patch.object(store, "commit", side_effect=StorageUnavailable("full")):
            await asyncio.sleep(60)
        task = await services.finished(task_id)
        assert (task.state, task.cached, task.attempts) == (State.COMPLETED, True, 1)


@virtual
async def test_one_cancelled_before_its_answer_is_written_stays_so(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await _ask(services)
        store = services.services.journal.store
        plain = store.commit

        async def no_results(batch: Commit) -> None:
            if batch.results:
                raise StorageUnavailable("full")
            await plain(batch)

        with patch.object(store, "commit", no_results):
            task_id = await services.submit("x", **COLD)
            await asyncio.sleep(0.5)
        await services.services.control.cancel(task_id)
        await asyncio.sleep(10)
        assert await services.kinds(task_id) == ["submitted", "cancelled"]
        assert (len(services.client.calls), services.services.cache.hits) == (1, 0)


async def test_what_is_kept_needs_no_task(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "x.db") as journal:
        assert await journal.append(PersistedValue("limit", "a", "7")) == []
        assert [value for _, _, value in await journal.store.persisted_values("limit")] == ["7"]
        await journal.append(PersistedValue("limit", "a", None))
        assert await journal.store.persisted_values("limit") == []
