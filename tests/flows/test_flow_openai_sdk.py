"""The official SDK against the service, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai.types.chat import ChatCompletionToolParam

from tests.web.serving import PATIENCE_S, Service, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        },
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    folder: Path = tmp_path_factory.mktemp("sdk")
    async with serving(folder, concurrency=50, breaker={"failures": 1000}) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def sdk(service: Service) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client(service) as opened:
        yield opened


def client(service: Service, **more: Any) -> openai.AsyncOpenAI:
    options: dict[str, Any] = {"api_key": "unused", "timeout": PATIENCE_S, "max_retries": 0}
    return openai.AsyncOpenAI(base_url=f"{service.url}/v1", **(options | more))


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def test_a_chat(service: Service, sdk: openai.AsyncOpenAI) -> None:
    raw = await sdk.chat.completions.with_raw_response.create(
        model="auto:reasoning",
        messages=user("What is HTTP?"),
        user="alice",
        metadata={"project": "x"},
        extra_headers={"x-lane": "long", "x-priority": "8", "x-session-id": "s1"},
    )
    answer = raw.parse()
    task = await service.task(raw.headers["x-task-id"])
    assert answer.choices[0].message.content == task["result"]
    assert answer.choices[0].finish_reason == task["metadata"]["finish_reason"] == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == task["metadata"]["usage"]["completion_tokens"] == 12
    assert answer.model == "fast"
    assert (task["lane"], task["priority"], task["session_id"]) == ("long", 8, "s1")
    assert task["user_metadata"] == {"project": "x"}
    assert task["metadata"]["route"]["class"] == "reasoning"
    assert raw.request_id == task["task_id"]


async def test_a_stream_is_the_result(service: Service, sdk: openai.AsyncOpenAI) -> None:
    raw = await sdk.chat.completions.with_raw_response.create(
        model="fast",
        messages=user("stream [[sim:reasoning=3]]"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in raw.parse()]
    task = await service.task(raw.headers["x-task-id"])
    texts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(texts) == task["result"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 15
    thoughts = [getattr(c.choices[0].delta, "reasoning_content", "") for c in chunks[:-1]]
    assert any(thoughts)


async def test_the_length_limit_is_the_finish_reason(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="fast", messages=user("x"), max_tokens=3)
    assert answer.choices[0].finish_reason == "length"


async def test_a_stop_sequence_reaches_the_provider(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="fast", messages=user("x"), stop="answer")
    assert "answer" not in (answer.choices[0].message.content or "answer")


async def test_an_answer_of_a_given_shape(sdk: openai.AsyncOpenAI) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
    answer = await sdk.chat.completions.create(
        model="fast",
        messages=user("where?"),
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    assert answer.choices[0].message.content == '{"city":"simulated"}'


async def test_tool_calls_there_and_back(service: Service, sdk: openai.AsyncOpenAI) -> None:
    asked = user("how is the weather? [[sim:calls=2]]")
    raw = await sdk.chat.completions.with_raw_response.create(
        model="fast", messages=asked, tools=[WEATHER], parallel_tool_calls=True
    )
    choice = raw.parse().choices[0]
    calls = choice.message.tool_calls or []
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert len({call.id for call in calls}) == 2
    assert calls[0].type == "function"
    assert calls[0].function.name == "weather"
    assert calls[0].function.arguments == '{"city":"simulated","days":1}'
    task = await service.task(raw.headers["x-task-id"])
    assert task["tool_calls"] == [call.model_dump() for call in calls]
    results = [{"role": "tool", "tool_call_id": c.id, "content": "fine"} for c in calls]
    dumped = choice.message.model_dump(exclude_none=True)
    asked += [dumped, *results]
    again = await sdk.chat.completions.create(model="fast", messages=asked, tools=[WEATHER])
    assert again.choices[0].finish_reason == "stop"
    assert again.choices[0].message.content


async def test_tool_calls_of_a_stream(sdk: openai.AsyncOpenAI) -> None:
    found: dict[int, list[str]] = {}
    stream = await sdk.chat.completions.create(
        model="fast", messages=user("[[sim:calls=2]] go"), tools=[WEATHER], stream=True
    )
    last = None
    async for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            found.setdefault(call.index, []).append(call.function.arguments or "")
        last = chunk.choices[0].finish_reason
    whole = '{"city":"simulated","days":1}'
    assert ["".join(found[index]) for index in sorted(found)] == [whole, whole]
    assert last == "tool_calls"


async def test_embeddings_in_both_encodings(sdk: openai.AsyncOpenAI) -> None:
    texts = ["one", "two"]
    packed = await sdk.embeddings.create(model="auto", input=texts, dimensions=8)
    plain = await sdk.embeddings.create(
        model="embed", input="two", dimensions=8, encoding_format="float"
    )
    assert [row.index for row in packed.data] == [0, 1]
    assert packed.data[1].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert len(plain.data[0].embedding) == 8
    assert packed.usage.prompt_tokens > 0


async def test_models(sdk: openai.AsyncOpenAI) -> None:
    names = [model.id async for model in sdk.models.list()]
    assert names[:3] == ["fast", "embed", "auto"]
    assert "auto:reasoning" in names
    assert (await sdk.models.retrieve("auto:simple")).id == "auto:simple"
    with pytest.raises(openai.NotFoundError):
        await sdk.models.retrieve("none")


FAULTS: list[tuple[str, type[openai.APIStatusError], int, str, str | None]] = [
    ("[[sim:400]]", openai.BadRequestError, 400, "upstream_rejected", "false"),
    ("[[sim:empty]]", openai.InternalServerError, 502, "empty_answer", "false"),
    ("[[sim:cut]]", openai.InternalServerError, 502, "upstream_disconnected", "false"),
    ("[[sim:503]]", openai.InternalServerError, 503, "overloaded", None),
    ("[[sim:401]]", openai.InternalServerError, 502, "upstream_auth", "false"),
    ("[[sim:410]]", openai.NotFoundError, 404, "model_not_found", "false"),
    ("[[sim:hang]]", openai.InternalServerError, 504, "timeout", "false"),
    ("[[sim:429-after=9]]", openai.RateLimitError, 429, "rate_limit_exceeded", None),
]


@pytest.mark.parametrize(("tag", "kind", "status", "code", "again"), FAULTS)
async def test_failures_are_the_sdks_own_exceptions(
    tmp_path: Path,
    tag: str,
    kind: type[openai.APIStatusError],
    status: int,
    code: str,
    again: str | None,
) -> None:
    async with serving(tmp_path) as own, client(own) as sdk:
        with pytest.raises(kind) as raised:
            await sdk.chat.completions.create(
                model="fast",
                messages=user(tag),
                extra_body={"timeout_s": 0.4 if status in (504, 429) else 20},
            )
        error, headers = raised.value, raised.value.response.headers
        assert (error.status_code, error.code) == (status, code)
        assert headers.get("x-should-retry") == again
        assert ("retry-after" in headers) == (again is None)
        task = await own.task(headers["x-task-id"])
        assert task["status"] == "failed"
        assert isinstance(error.body, dict)
        assert task["error"]["message"] == error.body["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cancelled_task_is_a_conflict(
    service: Service, sdk: openai.AsyncOpenAI, stream: bool
) -> None:
    session = f"cancelled-{stream}"
    asking = asyncio.ensure_future(
        sdk.chat.completions.create(
            model="fast",
            messages=user("[[sim:hang]]"),
            stream=stream,
            extra_headers={"x-session-id": session},
        )
    )
    await service.steer(await running(service, session), "cancel")
    with pytest.raises(openai.ConflictError) as raised:
        await asking
    assert raised.value.code == "cancelled"
    assert raised.value.response.headers["x-should-retry"] == "false"


async def running(service: Service, session: str) -> str:
    """The id of the session's task, once it runs."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await service.http.get("/tasks", params={"session_id": session})
            tasks = found.json()["tasks"]
            if tasks and tasks[0]["status"] == "running":
                return str(tasks[0]["task_id"])


@pytest.mark.parametrize("stream", [False, True])
async def test_hanging_up_cancels_the_task_and_its_call(
    service: Service, sdk: openai.AsyncOpenAI, stream: bool
) -> None:
    session = f"left-{stream}"
    prompt = f"[[id:{session}]] [[sim:hang-stream at=2]]"
    asking = asyncio.ensure_future(
        sdk.chat.completions.create(
            model="fast",
            messages=user(prompt),
            stream=stream,
            extra_headers={"x-session-id": session},
        )
    )
    task_id = await running(service, session)
    if stream:
        opened = await asking
        assert isinstance(opened, openai.AsyncStream)
        await opened.close()
    else:
        asking.cancel()
    task = await service.done(task_id)
    assert task["status"] == "cancelled"
    async with asyncio.timeout(PATIENCE_S):
        while True:
            calls = (await service.http.get(f"{service.sim.url}/_sim/calls")).json()["calls"]
            ours = [call for call in calls if call["marker"] == session]
            if ours and ours[0]["outcome"] is not None:
                break
    assert len(ours) == 1


async def test_an_error_in_mid_stream_is_an_event(
    service: Service, sdk: openai.AsyncOpenAI
) -> None:
    raw = await sdk.chat.completions.with_raw_response.create(
        model="fast", messages=user("[[sim:reset at=3 x1]] on"), stream=True
    )
    received = ""

    async def read() -> None:
        nonlocal received
        async for chunk in raw.parse():
            received += chunk.choices[0].delta.content or ""

    with pytest.raises(openai.APIError) as raised:
        await read()
    assert raised.value.code == "upstream_disconnected"
    assert received
    task = await service.done(raw.headers["x-task-id"])
    assert task["status"] == "cancelled"


async def test_a_failed_attempt_shows_in_no_whole_answer(
    service: Service, sdk: openai.AsyncOpenAI
) -> None:
    raw = await sdk.chat.completions.with_raw_response.create(
        model="fast", messages=user("[[sim:reset at=3 x1]] once more")
    )
    task = await service.task(raw.headers["x-task-id"])
    assert task["attempts"] == 2
    assert raw.parse().choices[0].message.content == task["result"]


async def test_a_request_that_is_wrong_is_not_tried_again(service: Service) -> None:
    async with client(service, max_retries=2) as sdk:
        with pytest.raises(openai.BadRequestError) as raised:
            await sdk.chat.completions.create(model="fast", messages=user("x"), n=2)
        assert raised.value.param == "n"
        with pytest.raises(openai.NotFoundError):
            await sdk.chat.completions.create(model="unknown", messages=user("x"))


async def test_the_same_key_finds_the_same_answer(
    service: Service, sdk: openai.AsyncOpenAI
) -> None:
    async def ask(text: str) -> Any:
        return await sdk.chat.completions.create(
            model="fast", messages=user(text), extra_headers={"Idempotency-Key": "once"}
        )

    first, second = await ask("one"), await ask("one")
    assert first.id == second.id
    assert first.choices == second.choices
    with pytest.raises(openai.ConflictError) as raised:
        await ask("two")
    assert raised.value.code == "idempotency_conflict"


async def test_the_sdk_waits_as_long_as_a_full_queue_says(tmp_path: Path) -> None:
    async with serving(tmp_path, queue={"max_length": 1}, concurrency=1) as small:
        blocking = await small.running()
        async with client(small, max_retries=1) as sdk:
            asking = asyncio.ensure_future(
                sdk.chat.completions.with_raw_response.create(model="fast", messages=user("x"))
            )
            async with client(small) as hasty:
                with pytest.raises(openai.RateLimitError) as raised:
                    await hasty.chat.completions.create(model="fast", messages=user("x"))
            assert int(raised.value.response.headers["retry-after"]) > 0
            assert raised.value.code == "queue_full"
            await small.steer(blocking, "cancel")
            raw = await asking
            assert raw.parse().choices[0].message.content


async def test_the_sync_client(service: Service) -> None:
    def ask() -> tuple[str, str]:
        with openai.OpenAI(base_url=f"{service.url}/v1", api_key="x", max_retries=0) as sdk:
            answer = sdk.chat.completions.create(model="fast", messages=user("x"))
            stream = sdk.chat.completions.create(model="fast", messages=user("x"), stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            with pytest.raises(openai.NotFoundError):
                sdk.models.retrieve("nothing")
            return answer.choices[0].message.content or "", text

    whole, streamed = await asyncio.to_thread(ask)
    assert whole
    assert streamed
