import asyncio
import sqlite3
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import pytest

from asyncsvc.errors import (
    ModelGone,
    ProviderError,
    RateLimited,
    UpstreamAuth,
    UpstreamDisconnected,
    UpstreamOverloaded,
    UpstreamRejected,
)
from asyncsvc.limits.account import Permit
from asyncsvc.providers.answers.delta import Delta
from asyncsvc.tasks.state import Cause, State
from tests.engine_services import MOMENT, EngineServices, model, since
from tests.scripted import HANG, HEAD, Call, Script, ScriptedClient
from tests.virtual_time import virtual

AGENT = {"a": model(preset="openclaw")}
DOWN = UpstreamOverloaded("down")


@virtual
async def test_the_start_is_on_the_disk_before_the_call(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int, int]] = []

    def look(_: Call) -> None:
        with sqlite3.connect(tmp_path / "tasks.db") as other:
            seen.append(
                other.execute(
                    "SELECT state, attempts, starts, (SELECT COUNT(*) FROM calls) FROM tasks"
                ).fetchone()
            )
        other.close()

    async with EngineServices(tmp_path, {"a": model(rpm=10)}) as services:
        services.client.before = look
        await services.finished(await services.submit_script("x", [DOWN], ["ok"]))
        assert seen == [("running", 1, 1, 1), ("running", 2, 2, 2)]


@virtual
async def test_the_events_of_a_good_run(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        script: Script = [1.0, Delta("hm", True), 1.0, "he", 1.0, "llo", 1.0]
        task_id = await services.submit_script("x", script)
        task = await services.finished(task_id)
        kinds = ["submitted", "started", "attempt", "reasoning", "chunk", "chunk", "completed"]
        assert await services.kinds(task_id) == kinds
        assert await services.result(task_id) == await services.streamed(task_id) == "hello"
        assert (task.name, task.model, task.attempts, task.latency) == ("a", "id", 1, 4.0)
        assert task.usage is not None
        assert task.usage["estimated"]


@virtual
async def test_the_providers_usage_is_stored(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        services.client.usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        assert (await services.finished(await services.submit("x"))).usage == services.client.usage


@virtual
async def test_tool_calls_are_events_before_the_end(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", [call])
        await services.finished(task_id)
        assert (await services.events(task_id))[-2] == ("tool_call", {"index": 0} | call)


@virtual
async def test_the_attempt_says_why_it_went_there(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        for named, why in [("a", "named by the task"), (None, "the model for simple tasks")]:
            task_id = await services.submit("hello", model=named)
            task = await services.finished(task_id)
            events = dict(await services.events(task_id))
            assert events["attempt"]["why"] == why
            assert (events["attempt"]["number"], events["attempt"]["name"]) == (1, "a")
            assert task.route is not None
            assert (task.route["chosen"], task.route["why"]) == ("a", why)


@virtual
async def test_what_is_not_done_as_asked_is_a_warning_and_no_error(tmp_path: Path) -> None:
    async with EngineServices(
        tmp_path, {"z": model(preset="zhipu", model="glm-4-flash")}
    ) as services:
        task_id = await services.submit("x", params={"thinking": "on", "presence_penalty": 1})
        task = await services.finished(task_id)
        warnings = [
            "glm-4-flash at z has no switch for thinking, so thinking 'on' was left out",
            "glm-4-flash at z does not take presence_penalty as given; left out",
        ]
        assert (task.state, task.error) == (State.COMPLETED, None)
        assert task.route is not None
        assert task.route["warnings"] == warnings
        assert dict(await services.events(task_id))["attempt"]["warnings"] == warnings


@virtual
async def test_messages_and_params_reach_the_client(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
        await services.finished(
            await services.submit_fields(messages=messages, params={"top_p": 1})
        )
        assert [(call.prompt, call.params) for call in services.client.calls] == [
            ("u", {"top_p": 1})
        ]


@virtual
async def test_a_flood_of_pieces_becomes_few_events(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        pieces = [f"{n} " for n in range(5000)]
        task_id = await services.submit_script("x", pieces)
        await services.finished(task_id)
        chunks = [kind for kind in await services.kinds(task_id) if kind == "chunk"]
        assert 1 <= len(chunks) < 50
        assert await services.streamed(task_id) == "".join(pieces) == await services.result(task_id)


@virtual
async def test_more_text_than_the_buffer_holds_is_waited_for(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", ["y" * 400_000] * 6)
        await services.finished(task_id)
        assert await services.streamed(task_id) == await services.result(task_id) == "y" * 2_400_000


# Retries ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("allowed", "calls"), [(None, 4), (0, 1), (1, 2)])
def test_attempts_are_used_up(tmp_path: Path, allowed: int | None, calls: int) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            task_id = await services.submit_script("x", ["par", DOWN], max_retries=allowed)
            task = await services.finished(task_id)
            assert (task.state, task.attempts) == (State.FAILED, calls)
            assert task.error == {"code": "overloaded", "message": "down", "retryable": True}
            assert len(services.client.calls) == calls
            assert await services.result(task_id) == "par"

    check()


@virtual
async def test_delays_between_tries_grow(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, retry={"base_s": 4, "max_s": 10}) as services:
        await services.finished(await services.submit_script("x", [DOWN], [DOWN], [DOWN], ["ok"]))
        starts = [call.started for call in services.client.calls]
        gaps = [after - before for before, after in pairwise(starts)]
        for gap, ceiling in zip(gaps, [4, 8, 10], strict=True):
            assert 0.1 * ceiling - 0.01 <= gap <= ceiling + 0.01


@virtual
async def test_a_retry_is_an_event_and_scheduled(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        later = UpstreamOverloaded("later", retry_after=30)
        task_id = await services.submit_script("x", ["lost", later], ["kept"])
        await asyncio.sleep(MOMENT)
        task = await services.task(task_id)
        assert (task.state, task.next_run_at) == (State.SCHEDULED, services.now() + 29_999)
        (retry,) = [data for kind, data in await services.events(task_id) if kind == "retry"]
        assert (retry["delay_s"], retry["attempt"], retry["why"]["code"]) == (30, 1, "overloaded")
        assert (await services.finished(task_id)).error is None
        assert since() == 30
        assert await services.result(task_id) == await services.streamed(task_id) == "kept"


@virtual
async def test_what_a_call_was_reading_is_freed_before_the_retry(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        later = UpstreamOverloaded("later", retry_after=30)
        task_id = await services.submit_script("x", [later], ["ok"])
        await asyncio.sleep(MOMENT)
        assert (await services.state(task_id), later.__traceback__) == (State.SCHEDULED, None)
        await services.finished(task_id)


@pytest.mark.parametrize("kind", [UpstreamRejected, UpstreamAuth])
def test_a_refusal_is_final(tmp_path: Path, kind: type[ProviderError]) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            assert await services.code(await services.submit_script("x", [kind("no")])) == kind.code
            assert len(services.client.calls) == 1

    check()


@virtual
async def test_slow_down_costs_no_attempt(tmp_path: Path) -> None:
    slow = [RateLimited("slow", retry_after=20)]
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", *[slow] * 6, ["ok"], max_retries=0)
        task = await services.finished(task_id)
        assert (task.state, task.attempts, task.starts) == (State.COMPLETED, 1, 7)
        assert [round(call.started) for call in services.client.calls] == list(range(0, 121, 20))
        assert "deferred" in await services.kinds(task_id)


@virtual
async def test_slow_down_ends_with_the_tasks_time(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        slow = RateLimited("slow", retry_after=25)
        task_id = await services.submit_script("x", [slow], timeout_s=90)
        assert await services.code(task_id) == "rate_limited"
        assert (since(), (await services.task(task_id)).attempts) == (90, 0)


@virtual
async def test_the_next_id_serves_when_a_model_is_gone(tmp_path: Path) -> None:
    gone = [ModelGone("no such model")]
    async with EngineServices(tmp_path, {"a": model(model=["old", "new"])}) as services:
        task = await services.finished(await services.submit_script("x", gone, ["ok"]))
        assert (task.model, task.attempts) == ("new", 1)
        assert [call.model_id for call in services.client.calls] == ["old", "new"]
        assert await services.code(await services.submit_script("y", gone)) == "model_gone"


@virtual
async def test_calls_that_find_a_model_gone_together_drop_it_once(tmp_path: Path) -> None:
    models = {"a": model(model=["old", "new", "newest"], concurrency=3)}
    async with EngineServices(tmp_path, models) as services:
        ids = [
            await services.submit_script(p, [1.0, ModelGone("no such model")], ["ok"])
            for p in "xyz"
        ]
        assert {(await services.finished(task_id)).model for task_id in ids} == {"new"}


@virtual
async def test_a_fault_of_ours_is_internal_and_tried_again(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        assert (
            await services.code(await services.submit_script("x", [KeyError("k")], ["ok"])) is None
        )
        task_id = await services.submit_script("y", [KeyError("sk-secret")])
        task = await services.finished(task_id)
        assert task.error is not None
        assert task.error["code"] == "internal"
        assert "secret" not in task.error["message"]
        assert task.attempts == 4


@virtual
async def test_a_fault_before_the_start_is_tried_again_and_ends(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        journal = services.services.journal
        with patch.object(journal, "body", side_effect=RuntimeError("a fault of ours")):
            assert await services.code(await services.submit("x")) == "internal"
        assert services.client.calls == []


# Deadlines --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lane", "asked", "seconds"),
    [("short", None, 30), ("priority", None, 30), ("long", None, 500), ("long", 7, 7)],
)
def test_a_task_has_its_time(tmp_path: Path, lane: str, asked: float | None, seconds: int) -> None:
    @virtual
    async def check() -> None:
        limits = {"short_s": 30, "long_s": 500}
        async with EngineServices(tmp_path, timeouts=limits) as services:
            script: Script = ["some", HANG]
            task_id = await services.submit_script("x", script, lane=lane, timeout_s=asked)
            task = await services.finished(task_id)
            assert task.error is not None
            assert task.error["code"] == "timeout"
            assert f"longer than {seconds} s" in task.error["message"]
            assert since() == seconds
            assert services.client.calls[0].cancelled
            assert await services.result(task_id) == "some"

    check()


@virtual
async def test_the_time_is_that_of_all_attempts(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        down = UpstreamOverloaded("down", retry_after=20)
        task_id = await services.submit_script("x", [10.0, down], [HANG], timeout_s=50)
        task = await services.finished(task_id)
        assert (task.error or {})["message"] == "the task took longer than 50 s"
        assert (since(), task.attempts) == (50, 2)


@virtual
async def test_a_retry_beyond_the_time_is_not_waited_for(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        down = UpstreamOverloaded("down", retry_after=60)
        assert (
            await services.code(await services.submit_script("x", [down], timeout_s=50))
            == "overloaded"
        )
        assert since() == 0


@virtual
async def test_waiting_in_line_is_not_part_of_the_time(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient([40.0, "ok"])) as services:
        ids = await services.submit_many(list("abc"), timeout_s=50)
        assert [await services.code(task_id) for task_id in ids] == [None, None, None]


# What may have acted ------------------------------------------------------------------------


@pytest.mark.parametrize("script", [[HEAD, UpstreamDisconnected("cut")], [HEAD, HANG], ["a", DOWN]])
def test_an_agent_cut_in_mid_run_is_not_called_again(tmp_path: Path, script: Script) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path, AGENT) as services:
            task_id = await services.submit_script("x", script, ["ok"])
            assert await services.code(task_id) == "interrupted_unknown"
            assert len(services.client.calls) == 1

    check()


@virtual
async def test_an_agent_is_called_again_where_the_task_allows_it(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, AGENT) as services:
        cut: Script = [HEAD, UpstreamDisconnected("cut")]
        assert (
            await services.code(await services.submit_script("x", cut, ["ok"], retry_unsafe=True))
            is None
        )
        unheard = [UpstreamDisconnected("refused")]
        assert await services.code(await services.submit_script("y", unheard, ["ok"])) is None


# Entering -----------------------------------------------------------------------------------


@virtual
async def test_a_task_that_moved_on_is_not_run(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit("x", delay_s=60)
        upstream = services.services.catalogue.upstreams[0]
        for unknown in (task_id, "unknown"):
            await services.services.executor.run(
                unknown, upstream, Permit(upstream.gate, False), {}
            )
        assert services.client.calls == []
        assert not await services.services.executor.stop("unknown", Cause.CANCELLED)
