"""A call that is made again without a field which the provider does not know."""

from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from asyncsvc.errors import FieldRefused, ProviderError, UpstreamOverloaded, UpstreamRejected
from asyncsvc.providers.dialects import Preset
from asyncsvc.tasks.state import State
from tests.engine_services import EngineServices, model
from tests.upstreams import ASK, Sheet, client, unheard, upstream
from tests.virtual_time import loop, virtual

REFUSED = FieldRefused("no stream_options", frozenset({"stream_options"}))
FORBIDDEN = {
    "detail": [
        {
            "type": "extra_forbidden",
            "loc": ["body", "stream_options"],
            "msg": "Extra inputs are not permitted",
        }
    ]
}


async def refusal(status: int, body: Any, **account: Any) -> ProviderError:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    async with client(transport) as made:
        with pytest.raises(ProviderError) as found:
            await made.chat(upstream(**account), ASK, {}, Sheet())
    return found.value


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (422, FORBIDDEN),
        (400, {"error": {"message": "Unknown parameter: 'stream_options'.", "param": None}}),
        (400, {"error": {"message": "bad", "param": "stream_options.include_usage"}}),
        (400, b"include_usage: unknown field"),
        (400, {"message": "Unrecognized request argument supplied: Stream_Options"}),
    ],
)
async def test_a_refusal_that_names_a_field_of_the_service(status: int, body: Any) -> None:
    error = await refusal(status, body)
    assert isinstance(error, FieldRefused)
    assert error.fields == {"stream_options"}


@pytest.mark.parametrize(
    ("status", "body"), [(400, {"error": {"message": "temperature"}}), (500, FORBIDDEN)]
)
async def test_other_refusals_name_none(status: int, body: Any) -> None:
    assert not isinstance(await refusal(status, body), FieldRefused)


@pytest.mark.parametrize(
    "account",
    [
        {"usage": "stream_options"},
        {"usage": "none"},
        {"extra_body": {"stream_options": {"include_usage": True}}},
    ],
)
async def test_what_the_settings_ask_for_is_never_left_out(account: dict[str, Any]) -> None:
    assert not isinstance(await refusal(422, FORBIDDEN, **account), FieldRefused)


async def test_an_embedding_call_has_such_fields_too() -> None:
    account = upstream(preset=Preset(embed_params={"input_type": "passage"}))
    body = {"error": {"message": "Extra inputs are not permitted: input_type"}}
    transport = httpx.MockTransport(lambda _: httpx.Response(400, json=body))
    async with client(transport) as made:
        with pytest.raises(FieldRefused) as found:
            await made.embed(account, "a", {}, unheard)
        assert found.value.fields == {"input_type"}
        with pytest.raises(UpstreamRejected) as asked:
            await made.embed(account, "a", {"input_type": "query"}, unheard)
    assert not isinstance(asked.value, FieldRefused)


@virtual
async def test_the_call_is_made_again_at_once_and_costs_no_attempt(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", [REFUSED], ["fine"])
        task = await services.finished(task_id)
        assert (task.state, task.attempts) == (State.COMPLETED, 1)
        assert await services.result(task_id) == "fine"
        assert await services.kinds(task_id) == [
            "submitted", "started", "attempt", "chunk", "completed"
        ]  # fmt: skip
        first, second = services.client.calls
        assert second.started - first.started < 0.1
        (account,) = services.services.catalogue.upstreams
        assert account.refused == {"stream_options"}
        assert account.gate.busy == account.gate.under_way == 0


@virtual
async def test_a_call_is_made_again_once_and_what_was_not_the_reason_is_forgotten(
    tmp_path: Path,
) -> None:
    async with EngineServices(tmp_path) as services:
        task_id = await services.submit_script("x", [REFUSED])
        assert await services.code(task_id) == "upstream_rejected"
        assert len(services.client.calls) == 2
        assert services.services.catalogue.upstreams[0].refused == set()


@virtual
async def test_the_second_call_may_fail_in_another_way(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, retry={"max_retries": 1, "base_s": 1}) as services:
        script = [REFUSED], [UpstreamOverloaded("busy")], [REFUSED], ["fine"]
        task_id = await services.submit_script("x", *script)
        task = await services.finished(task_id)
        assert (task.state, task.attempts) == (State.COMPLETED, 2)
        assert services.services.catalogue.upstreams[0].refused == {"stream_options"}


@virtual
async def test_both_calls_count_for_the_rate(tmp_path: Path) -> None:
    async with EngineServices(tmp_path, {"a": model(rpm=2, rpm_window_s=60)}) as services:
        await services.finished(await services.submit_script("x", [REFUSED], ["fine"]))
        await services.finished(await services.submit("y"))
        assert loop().time() == pytest.approx(60, abs=3)


@virtual
async def test_the_batches_of_an_embedding_task_are_repeated_too(tmp_path: Path) -> None:
    models = {"e": model(type="embedding", preset="siliconflow")}
    async with EngineServices(tmp_path, models) as services:
        refused = FieldRefused("no", frozenset({"input_type"}))
        services.client.on("a", [refused], [])
        task_id = await services.submit_fields(type="embedding", input=["a", "bb"])
        assert (await services.finished(task_id)).state is State.COMPLETED
        assert await services.result(task_id) == "[[1.0],[2.0]]"


@virtual
async def test_a_reload_lets_the_field_be_tried_again(tmp_path: Path) -> None:
    async with EngineServices(tmp_path) as services:
        await services.finished(await services.submit_script("x", [REFUSED], ["fine"]))
        await services.reload()
        assert services.services.catalogue.upstreams[0].refused == set()
