import asyncio
from pathlib import Path

from asyncsvc.errors import UpstreamOverloaded, UpstreamRejected
from asyncsvc.scheduling.groups import Sessions
from asyncsvc.tasks.state import State
from tests.engine_services import MOMENT, EngineServices, model
from tests.virtual_time import virtual

SESSION = (None, "s")
WIDE = {"a": model(concurrency=4)}


def test_the_first_is_the_head() -> None:
    sessions = Sessions()
    assert sessions.enter(SESSION, "1")
    assert not sessions.enter(SESSION, "2")
    assert sessions.enter((None, "other"), "3")


def test_entering_again_changes_nothing() -> None:
    sessions = Sessions()
    sessions.enter(SESSION, "1")
    sessions.enter(SESSION, "2")
    assert sessions.enter(SESSION, "1")
    assert sessions.leave(SESSION, "1") == "2"
    assert sessions.leave(SESSION, "2") is None


def test_only_the_head_leaves_to_an_heir() -> None:
    sessions = Sessions()
    for task_id in "123":
        sessions.enter(SESSION, task_id)
    assert sessions.leave(SESSION, "2") is None
    assert sessions.leave(SESSION, "1") == "3"


def test_a_stranger_leaves_nothing() -> None:
    sessions = Sessions()
    assert sessions.leave(SESSION, "1") is None
    sessions.enter(SESSION, "1")
    assert sessions.leave(SESSION, "2") is None


def test_another_owners_session_of_the_same_name_is_another() -> None:
    sessions = Sessions()
    assert sessions.enter(("alice", "s"), "1")
    assert sessions.enter(("bob", "s"), "2")
    assert sessions.before(("bob", "s")) == "2"
    assert sessions.leave(("bob", "s"), "1") is None


@virtual
async def test_tasks_of_a_session_run_one_after_another(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.default = [1.0, "ok"]
        ids = await services.submit_many(list("abcd"), session_id="s")
        for task_id in ids:
            await services.finished(task_id)
        starts = [round(call.started) for call in services.client.calls]
        assert (services.client.prompts, starts) == (list("abcd"), [0, 1, 2, 3])


@virtual
async def test_a_session_overtakes_itself_not_even_by_priority(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.default = [1.0, "ok"]
        await services.submit("first", session_id="s", priority=0)
        await services.finished(await services.submit("second", session_id="s", lane="priority"))
        assert services.client.prompts == ["first", "second"]


@virtual
async def test_sessions_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.default = [1.0, "ok"]
        ids = [await services.submit(name, session_id=name) for name in "abcd"]
        for task_id in ids:
            await services.finished(task_id)
        assert {round(call.started) for call in services.client.calls} == {0}


@virtual
async def test_the_order_survives_a_crash(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.default = [1.0, "ok"]
        ids = await services.submit_many(list("abcd"), session_id="s")
        await asyncio.sleep(1.5)
        await services.restart()
        for task_id in ids:
            await services.finished(task_id)
        assert services.client.prompts == list("abbcd")


async def _two(services: EngineServices) -> tuple[str, str]:
    """A head that waits for its time, and one behind it."""
    head = await services.submit("head", session_id="s", delay_s=3600)
    return head, await services.submit("next", session_id="s")


@virtual
async def test_a_head_that_is_scheduled_holds_back_the_next(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        _, following = await _two(services)
        await asyncio.sleep(3599)
        assert await services.state(following) is State.PENDING
        await services.finished(following)
        assert services.client.prompts == ["head", "next"]


@virtual
async def test_cancelling_the_head_lets_the_next_go(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        head, following = await _two(services)
        await services.services.control.cancel(head)
        await services.finished(following)
        assert services.client.prompts == ["next"]


@virtual
async def test_cancelling_a_running_head_lets_the_next_go(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.on("head", [50.0, "ok"])
        head = await services.submit("head", session_id="s")
        following = await services.submit("next", session_id="s")
        await asyncio.sleep(1)
        await services.services.control.cancel(head)
        assert (await services.finished(following)).state is State.COMPLETED


@virtual
async def test_a_head_that_is_paused_holds_back_the_next(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        head, following = await _two(services)
        await services.services.control.pause(head)
        await asyncio.sleep(86_400)
        assert await services.state(following) is State.PENDING
        await services.services.control.resume(head)
        await services.finished(following)
        assert services.client.prompts == ["head", "next"]


@virtual
async def test_a_head_that_fails_lets_the_next_go(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        head = await services.submit_script("head", [UpstreamRejected("no")], session_id="s")
        following = await services.submit("next", session_id="s")
        assert (await services.finished(following)).state is State.COMPLETED
        assert await services.state(head) is State.FAILED


@virtual
async def test_a_head_that_is_tried_again_holds_back_the_next(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        overloaded = UpstreamOverloaded("later", retry_after=30)
        await services.submit_script("head", [overloaded], ["ok"], session_id="s")
        following = await services.submit("next", session_id="s")
        await asyncio.sleep(20)
        assert services.client.prompts == ["head"]
        await services.finished(following)
        assert services.client.prompts == ["head", "head", "next"]


@virtual
async def test_a_retried_task_goes_to_the_end_of_its_session(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.default = [1.0, "ok"]
        ids = await services.submit_many(list("abc"), session_id="s")
        await services.finished(ids[0])
        await services.services.control.retry(ids[0])
        await services.finished(ids[0])
        assert services.client.prompts == list("abca")


@virtual
async def test_a_middle_one_that_is_cancelled_is_stepped_over(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, WIDE) as services:
        services.client.default = [1.0, "ok"]
        ids = await services.submit_many(list("abc"), session_id="s")
        await asyncio.sleep(MOMENT)
        await services.services.control.cancel(ids[1])
        await services.finished(ids[2])
        assert services.client.prompts == ["a", "c"]
