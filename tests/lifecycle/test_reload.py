import asyncio
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.config.environment import Environment
from asyncsvc.config.settings import Settings
from asyncsvc.errors import ModelGone, QuotaExhausted, SettingsError, UpstreamAuth
from asyncsvc.limits.account import AccountLimiter
from asyncsvc.tasks.state import State
from tests.engine_services import MOMENT, EngineServices, model, since
from tests.scripted import Script, ScriptedClient
from tests.virtual_time import virtual

SLOW: Script = [10.0, "ok"]


def gate(services: EngineServices, name: str = "a") -> AccountLimiter:
    return next(g for g in services.services.catalogue.gates if g.name == name)


def starts(services: EngineServices, name: str = "a") -> list[float]:
    return [round(call.started, 1) for call in services.client.calls if call.name == name]


@virtual
async def test_more_concurrency_serves_more_at_once_and_less_drains(tmp_path: Path) -> None:
    client = ScriptedClient(SLOW)
    async with EngineServices(tmp_path, {"a": model(concurrency=2)}, client) as services:
        pool = services.services.pool
        ids = await services.submit_many([str(n) for n in range(20)])
        await asyncio.sleep(5)
        assert len(client.running) == pool.working() == 2
        await services.reload({"a": model(concurrency=8)})
        await asyncio.sleep(MOMENT)
        assert len(client.running) == pool.working() == 8
        await services.reload({"a": model(concurrency=2)})
        await asyncio.sleep(MOMENT)
        assert len(client.running) == 8
        await asyncio.sleep(5)  # the first two have ended, and six are still too many
        assert len(client.running) == pool.working() == 6
        await asyncio.sleep(6)
        assert len(client.running) == pool.working() == 2
        for task_id in ids:
            assert (await services.finished(task_id)).state is State.COMPLETED
        await asyncio.sleep(MOMENT)
        assert pool.figures()["clerks"] == 1
        assert pool.working() == 0


@virtual
async def test_the_pool_follows_a_learned_limit(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(concurrency="auto")}) as services:
        client = services.client
        client.default = [1.0, "ok"]
        await services.submit_many([str(n) for n in range(200)])
        await asyncio.sleep(0.5)
        assert services.services.pool.working() == gate(services).concurrency == 2
        await asyncio.sleep(4)
        assert (
            len(client.running)
            == services.services.pool.working()
            == gate(services).concurrency
            > 4
        )


@virtual
async def test_past_calls_count_under_the_new_rate(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(concurrency=9, rpm=5)}) as services:
        await services.submit_many([str(n) for n in range(12)])
        await asyncio.sleep(10)
        assert len(starts(services)) == 5
        await services.reload({"a": model(concurrency=9, rpm=7)})
        await asyncio.sleep(10)
        assert len(starts(services)) == 7
        await services.reload({"a": model(concurrency=9, rpm=3)})
        await asyncio.sleep(41)  # the five of the beginning are out, those two are not
        assert len(starts(services)) == 8
        await services.reload({"a": model(concurrency=9)})
        await asyncio.sleep(1)
        assert len(starts(services)) == 12


@virtual
async def test_calls_from_before_there_was_a_limit_count(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(concurrency=9)}) as services:
        for task_id in await services.submit_many(["1", "2", "3"]):
            await services.finished(task_id)
        await services.reload({"a": model(concurrency=9, rpm=4)})
        await services.submit_many(["4", "5"])
        await asyncio.sleep(10)
        assert len(starts(services)) == 4
        await asyncio.sleep(60)
        assert len(starts(services)) == 5


@virtual
async def test_a_model_that_comes_back_knows_its_calls(tmp_path: Path) -> None:
    limited = {"a": model(rpm=2), "b": model()}
    async with EngineServices(tmp_path, limited) as services:
        for n in range(2):
            await services.finished(await services.submit(str(n), model="a"))
        found = await services.reload({"b": model()})
        assert found.removed == ["a"]
        await asyncio.sleep(5)
        assert (await services.reload(limited)).added == ["a"]
        await services.finished(await services.submit("x", model="a"))
        assert starts(services)[2] >= 60


@virtual
async def test_a_model_that_was_there_in_an_earlier_process_knows_its_calls(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path, {"a": model(rpm=2), "b": model()}) as services:
        for n in range(2):
            await services.finished(await services.submit(str(n), model="a"))
        await services.reload({"b": model()})
        await services.restart()
        await services.reload({"a": model(rpm=2), "b": model()})
        await services.finished(await services.submit("x", model="a"))
        assert starts(services)[2] > 60


@virtual
async def test_calls_of_a_removed_model_go_on_and_its_waiting_tasks_move(tmp_path: Path) -> None:
    client = ScriptedClient(SLOW)
    async with EngineServices(tmp_path, {"a": model()}, client) as services:
        running = await services.submit("runs")
        waiting = await services.submit("waits")
        await asyncio.sleep(1)
        old = gate(services)
        await services.reload({"b": model()})
        assert [(await services.finished(i)).name for i in (running, waiting)] == ["a", "b"]
        assert (old.busy, since()) == (0, 11)
        assert [call.started for call in client.calls] == [0, pytest.approx(1, abs=MOMENT)]


@virtual
async def test_a_removed_model_that_comes_back_still_counts_its_running_call(
    tmp_path: Path,
) -> None:
    client = ScriptedClient(SLOW)
    async with EngineServices(tmp_path, {"a": model(), "b": model()}, client) as services:
        await services.submit("1", model="a")
        last = await services.submit("2", model="a")
        await asyncio.sleep(1)
        await services.reload({"b": model()})
        await asyncio.sleep(1)
        await services.reload({"a": model(), "b": model()})
        await services.finished(last)
        assert starts(services) == [0, 10]


@virtual
async def test_a_task_whose_model_is_gone_waits_and_says_why(tmp_path: Path) -> None:
    client = ScriptedClient(SLOW)
    queue = {"ttl_s": 100.0}
    async with EngineServices(tmp_path, {"a": model()}, client, queue=queue) as services:
        ids = await services.submit_many(["1", "2", "3"], model="a")
        await asyncio.sleep(1)
        await services.reload({"b": model()}, queue=queue)
        forecast = services.services.eta_estimator.of(await services.task(ids[1]))
        assert (forecast.eta_s, forecast.reason) == (None, "model a is not in the settings")
        await services.reload({"a": model(enabled=False), "b": model()}, queue=queue)
        reason = services.services.eta_estimator.of(await services.task(ids[1])).reason
        assert reason == "model a is disabled: enabled = false in the settings"
        await asyncio.sleep(50)
        await services.reload({"a": model(), "b": model()}, queue=queue)
        assert (await services.finished(ids[1])).state is State.COMPLETED


@virtual
async def test_the_queues_patience_bounds_the_wait_for_a_model_that_is_gone(
    tmp_path: Path,
) -> None:
    client = ScriptedClient(SLOW)
    async with EngineServices(tmp_path, {"a": model()}, client) as services:
        await services.submit("1", model="a")
        waiting = await services.submit("2", model="a")
        await asyncio.sleep(1)
        await services.reload({"b": model()}, queue={"ttl_s": 30.0})
        assert await services.code(waiting) == "expired"
        assert since() == 30


@virtual
async def test_no_model_for_a_class_is_a_reason_too(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model()}, ScriptedClient(SLOW)) as services:
        await services.submit("1")
        waiting = await services.submit("2")
        await services.reload({})
        forecast = services.services.eta_estimator.of(await services.task(waiting))
        assert forecast.reason == "no model that is enabled serves such tasks"


@pytest.mark.parametrize("fault", [UpstreamAuth("bad key"), QuotaExhausted("no balance")])
def test_what_a_provider_has_refused_is_tried_again(tmp_path: Path, fault: Exception) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            services.client.of_model["a"] = [fault]
            await services.finished(await services.submit("1"))
            assert gate(services).wait() > 60
            services.client.of_model["a"] = ["ok"]
            assert str(await services.reload()) == "model a can be used"
            assert services.services.catalogue.lacking() == {}
            assert (await services.finished(await services.submit("2"))).state is State.COMPLETED

    check()


@virtual
async def test_a_model_id_that_was_gone_is_tried_again(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(model=["one", "two"])}) as services:
        services.client.on("1", [ModelGone("end of life")], ["ok"])
        await services.finished(await services.submit("1"))
        await services.reload({"a": model(model=["one", "two"])})
        await services.finished(await services.submit("2"))
        assert [call.model_id for call in services.client.calls] == ["one", "two", "one"]


@virtual
async def test_the_next_call_uses_what_was_changed_and_the_running_one_does_not(
    tmp_path: Path,
) -> None:
    client = ScriptedClient(SLOW)
    async with EngineServices(tmp_path, {"a": model(model="old")}, client) as services:
        first, second = await services.submit("1"), await services.submit("2")
        await asyncio.sleep(1)
        await services.reload({"a": model(model="new")}, timeouts={"short_s": 5.0, "idle_s": 7.0})
        assert (await services.finished(first)).state is State.COMPLETED
        assert await services.code(second) == "timeout"
        assert [call.model_id for call in client.calls] == ["old", "new"]
        assert client.timeouts is not None
        assert client.timeouts.idle_s == 7


@virtual
async def test_faults_change_nothing_and_are_all_reported(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model()}) as services:
        before = services.services.settings.model_copy()
        bad = {"a": model(rpm=7), "b": model(preset="no"), "c": model(base_url=None)}
        with pytest.raises(SettingsError) as refused:
            await services.reload(bad)
        assert [line.split(":")[0] for line in refused.value.lines] == [
            "models.b.preset",
            "models.c.base_url",
        ]
        assert services.services.settings == before
        assert gate(services).window.limit == 0
        assert (await services.finished(await services.submit("x"))).state is State.COMPLETED


@virtual
async def test_routing_follows(tmp_path: Path) -> None:
    two = {"a": model(), "b": model()}
    async with EngineServices(tmp_path, two, routes={"general": ["a"]}) as services:
        text = "tell me something about lakes in the north of Europe and their fish"
        for wanted in ("a", "b"):
            await services.reload(two, routes={c: [wanted] for c in ("general", "simple")})
            assert (await services.finished(await services.submit(text))).name == wanted


@virtual
async def test_answers_made_with_other_settings_are_not_repeated(tmp_path: Path) -> None:
    client = ScriptedClient(SLOW)
    async with EngineServices(tmp_path, {"a": model(model="old")}, client) as services:
        first = await services.submit("x", cache=True)
        await asyncio.sleep(1)
        beside = await services.submit("x", cache=True)
        await services.reload({"a": model(model="new")})
        late = await services.submit("x", cache=True)
        for task_id in (first, beside, late):
            assert (await services.finished(task_id)).state is State.COMPLETED
        assert [call.model_id for call in client.calls] == ["old", "new"]
        await services.finished(await services.submit("x", cache=True))
        assert services.services.cache.hits == 1


@virtual
async def test_those_who_wait_for_one_call_stay_together(tmp_path: Path) -> None:
    client = ScriptedClient(SLOW)
    async with EngineServices(tmp_path, {"a": model(model="old")}, client) as services:
        await services.submit("first")
        ids = [await services.submit("x", cache=True) for _ in range(3)]
        await asyncio.sleep(1)
        await services.reload({"a": model(model="new")}, cache={"enabled": False})
        for task_id in ids:
            assert (await services.finished(task_id)).state is State.COMPLETED
        assert client.prompts == ["first", "x"]
        assert len(services.services.scheduler) == 0


@virtual
async def test_the_cache_forgets_what_has_no_room_and_can_be_switched_on(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await services.finished(await services.submit("x", cache=True))
        assert len(services.services.cache) == 1
        await services.reload(cache={"max_bytes": 0})
        assert len(services.services.cache) == 0
        await services.reload(cache={"enabled": False})
        await services.restart()
        await services.reload(cache={"enabled": True})
        await services.finished(await services.submit("x", cache=True))
        assert len(services.services.cache) == 1


@virtual
async def test_limits_of_the_queue_follow(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, client=ScriptedClient(SLOW)) as services:
        await services.submit_many(["1", "2"])
        await services.reload(queue={"max_length": 2})
        with pytest.raises(Exception, match="2 of 2"):
            await services.submit("3")


@virtual
async def test_a_model_with_several_keys_keeps_the_gates_of_the_keys_that_stay(
    tmp_path: Path,
) -> None:
    services = EngineServices(tmp_path, {"a": model(api_key_envs=["K1", "K2"])})
    services.environ = {"K1": "one", "K2": "two", "K3": "three"}
    async with services:
        first, second = services.services.catalogue.gates
        await services.reload({"a": model(api_key_envs=["K1", "K3"])})
        kept, fresh = services.services.catalogue.gates
        assert kept is first
        assert fresh is not second
        assert (kept.name, fresh.name) == ("a#1", "a#2")


@virtual
async def test_a_limit_that_is_to_be_learned_begins_with_what_is_known(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(concurrency="auto")}) as services:
        services.client.default = [1.0, "ok"]
        await services.submit_many([str(n) for n in range(60)])
        await asyncio.sleep(6)
        learned = gate(services).concurrency
        assert learned > 2
        await services.reload({"a": model(concurrency="auto", rpm="auto")})
        assert (gate(services).concurrency, gate(services).window.limit) == (learned, 30)
        await services.reload({"a": model(concurrency=3)})
        assert (gate(services).concurrency, gate(services).window.limit) == (3, 0)


@virtual
async def test_two_reloads_at_once_come_one_after_the_other(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        wanted = [{"a": model(rpm=1)}, {"a": model(rpm=1), "b": model()}]
        found = await asyncio.gather(*(services.reload(models) for models in wanted))
        assert [f.added for f in found] in ([[], ["b"]], [["b"], []])


@virtual
async def test_without_a_file_a_reload_only_tries_again(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        reloader = services.services.reloader
        object.__setattr__(reloader, "read", None)
        gate(services).disable(UpstreamAuth("bad key"))
        found = await reloader.reload()
        assert str(found) == "model a can be used"
        assert gate(services).fault is None


@virtual
async def test_the_tokens_of_a_minute_count_on(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(concurrency=9)}) as services:
        services.client.usage = {"total_tokens": 800}
        await services.finished(await services.submit("1"))
        await services.reload({"a": model(concurrency=9, tpm=1000)})
        await services.finished(await services.submit("2", params={"max_tokens": 800}))
        assert since() >= 60


def test_settings_in_force_are_one_object(tmp_path: Path) -> None:
    @virtual
    async def check() -> None:
        async with EngineServices(tmp_path) as services:
            parts: list[Any] = [
                services.services,
                services.services.catalogue,
                services.services.reloader,
            ]
            assert {id(part.settings) for part in parts} == {id(services.settings)}
            assert isinstance(services.settings, Settings)

    check()


@virtual
async def test_a_name_that_no_tool_has_is_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with EngineServices(tmp_path) as services:
        await services.reload(tools={"approve": ["git", "gti"]})
        assert (
            "tools.approve names 'gti', which no tool is called: did you mean git?" in caplog.text
        )
        caplog.clear()
        await services.reload(tools={"approve": ["git", "gti"]})
        assert "gti" not in caplog.text


@virtual
async def test_a_key_that_came_into_the_env_file_brings_its_model_back(tmp_path: Path) -> None:
    variables = tmp_path / ".env"
    variables.write_text("A_KEY=\nOTHER=1\n")
    environ = Environment({}, variables)
    models = {"a": model(api_key_env="A_KEY"), "b": model(api_key_env="B_KEY")}
    services = EngineServices(tmp_path, models)
    services.environ = environ
    async with services:
        variables.write_text("A_KEY=a-secret-of-ten\nOTHER=1\n")
        found = await services.reload(models)
        assert found.variables == ["A_KEY"]
        assert (found.enabled, found.disabled) == (["a"], {})
        assert "a-secret" not in str(found)
        assert [upstream.key for upstream in services.services.catalogue.upstreams] == [
            "a-secret-of-ten"
        ]
        variables.write_text("B_KEY=b-secret-of-ten\nA_KEY=\n")
        found = await services.reload(models)
        assert (found.enabled, found.disabled) == (["b"], {"a": "A_KEY is not set"})


@virtual
async def test_a_fault_in_the_settings_leaves_the_variables_as_they_were(tmp_path: Path) -> None:
    variables = tmp_path / ".env"
    variables.write_text("A_KEY=first\n")
    environ = Environment({}, variables)
    services = EngineServices(tmp_path, {"a": model(api_key_env="A_KEY")})
    services.environ = environ
    async with services:
        variables.write_text("A_KEY=second\n")
        with pytest.raises(SettingsError):
            await services.reload({"a": model(preset="unknown")})
        assert environ["A_KEY"] == "first"


@virtual
async def test_a_token_of_the_env_file_needs_a_restart(tmp_path: Path) -> None:
    variables = tmp_path / ".env"
    services = EngineServices(tmp_path)
    services.environ = Environment({}, variables)
    async with services:
        variables.write_text("ASYNCSVC_TOKENS=a-token-of-eighteen\n")
        assert (await services.reload({})).needs_restart == ["ASYNCSVC_TOKENS"]
