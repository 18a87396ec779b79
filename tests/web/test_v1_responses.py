"""/v1/responses as the official SDK uses it, over a real socket."""

import asyncio
from contextlib import suppress
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.web.serving import PATIENCE_S, Service, ask, expect, message, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")
HANG = "[[sim:hang-stream at=3]]"


def task_of(response: Any) -> str:
    return str(response.id).removeprefix("resp_")


async def status(service: Service, response: Any) -> str:
    return str((await service.task(task_of(response)))["status"])


async def begun(sdk: AsyncOpenAI, response: Any) -> None:
    """Wait until it says something."""
    async with await sdk.responses.retrieve(response.id, stream=True) as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                return


async def events(stream: Any) -> list[Any]:
    return [event async for event in stream]


def text_of(item: Any) -> str:
    return str(item.content[0].text)


def numbers(found: list[Any]) -> list[int]:
    return [event.sequence_number for event in found]


async def test_a_response_is_a_task(service: Service, sdk: AsyncOpenAI) -> None:
    raw = await sdk.responses.with_raw_response.create(
        model="fast", input="What is HTTP?", metadata={"a": "b"}, max_output_tokens=99
    )
    made = raw.parse()
    task = await service.task(task_of(made))
    assert raw.headers["x-task-id"] == task["task_id"] == task_of(made)
    assert made.status == "completed"
    assert made.output_text == task["result"]
    assert made.model == "fast"
    assert made.metadata == {"a": "b"}
    assert made.usage is not None
    assert made.usage.total_tokens == task["metadata"]["usage"]["total_tokens"]
    assert task["params"] == {"max_tokens": 99}
    assert task["user_metadata"] == {"a": "b"}
    assert made.completed_at is not None
    assert made.completed_at >= made.created_at


async def test_an_answer_that_reached_its_limit_is_incomplete(sdk: AsyncOpenAI) -> None:
    made = await sdk.responses.create(model="fast", input="x", max_output_tokens=3)
    assert made.status == "incomplete"
    assert made.incomplete_details is not None
    assert made.incomplete_details.reason == "max_output_tokens"
    assert made.output_text


async def test_tools_are_passed_through_and_their_results_come_back(
    service: Service, sdk: AsyncOpenAI
) -> None:
    tool: Any = {
        "type": "function",
        "name": "weather",
        "parameters": {"type": "object"},
        "strict": True,
    }
    made = await sdk.responses.create(
        model="fast",
        input="[[sim:calls=1]] x",
        tools=[tool],
        tool_choice="required",
    )
    [call] = made.output
    assert call.type == "function_call"
    assert call.name == "weather"
    answer: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    after = await sdk.responses.create(
        model="fast",
        previous_response_id=made.id,
        input=[answer],
    )
    function = {"name": "weather", "arguments": call.arguments}
    assert (await service.task(task_of(after)))["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": call.call_id, "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": call.call_id, "content": "rain"},
    ]


async def test_the_stream_is_what_the_sdk_puts_together(sdk: AsyncOpenAI) -> None:
    async with sdk.responses.stream(model="auto", input="stream it") as stream:
        found = await events(stream)
        whole = await stream.get_final_response()
    text = "".join(e.delta for e in found if e.type == "response.output_text.delta")
    assert text == whole.output_text != ""
    assert numbers(found) == list(range(len(found)))
    kinds = [event.type for event in found]
    assert kinds[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    again = await sdk.responses.retrieve(whole.id)
    assert (again.output_text, again.usage) == (whole.output_text, whole.usage)


async def test_input_items_and_instructions_become_messages(
    service: Service, sdk: AsyncOpenAI
) -> None:
    made = await sdk.responses.create(
        model="fast",
        instructions="Be short.",
        input=[
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": [{"type": "input_text", "text": "three"}]},
        ],
    )
    assert (await service.task(task_of(made)))["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    items = await sdk.responses.input_items.list(made.id, limit=2, order="asc")
    assert [text_of(item) for item in items.data] == ["one", "two"]
    rest = [item async for item in items]  # the SDK asks for the next page by itself
    assert len({item.id for item in rest}) == 3
    newest = await sdk.responses.input_items.list(made.id, limit=1)
    assert text_of(newest.data[0]) == "three"
    with pytest.raises(openai.BadRequestError, match="no such id"):
        await sdk.responses.input_items.list(made.id, after="none")


async def test_a_conversation_goes_on_by_id(service: Service, sdk: AsyncOpenAI) -> None:
    first = await sdk.responses.create(model="fast", instructions="Once.", input="one")
    second = await sdk.responses.create(
        model="fast", instructions="Twice.", input="two", previous_response_id=first.id
    )
    assert (await service.task(task_of(second)))["messages"] == [
        {"role": "system", "content": "Twice."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "two"},
    ]
    assert second.previous_response_id == first.id
    with pytest.raises(openai.BadRequestError, match="there is no response"):
        await sdk.responses.create(model="fast", input="x", previous_response_id="resp_none")


async def test_in_the_background_followed_left_and_taken_up_again(
    service: Service, sdk: AsyncOpenAI
) -> None:
    made = await sdk.responses.create(
        model="fast", input="[[sim:tokens=30]][[sim:rate=60]] x", background=True
    )
    assert made.status in ("queued", "in_progress")
    seen = []
    async with await sdk.responses.retrieve(made.id, stream=True) as stream:
        async for event in stream:
            seen.append(event)
            if len(seen) == 9:
                break
    rest = await events(
        await sdk.responses.retrieve(made.id, stream=True, starting_after=seen[-1].sequence_number)
    )
    whole = await events(await sdk.responses.retrieve(made.id, stream=True))
    assert [e.to_dict() for e in seen + rest] == [e.to_dict() for e in whole]
    assert numbers(whole) == list(range(len(whole)))
    done = await sdk.responses.retrieve(made.id)
    assert done.status == "completed"
    assert done.background is True
    assert done.to_dict() == whole[-1].response.to_dict()
    later = await sdk.responses.retrieve(made.id, stream=True, starting_after=len(whole) - 1)
    assert await events(later) == []
    for wrong in (len(whole), len(whole) + 3, 1 << 63):
        with pytest.raises(openai.BadRequestError, match="not one of our cursors") as refusal:
            await sdk.responses.retrieve(made.id, stream=True, starting_after=wrong)
        assert refusal.value.param == "starting_after"


async def test_cancel_ends_the_task_and_can_be_repeated(service: Service, sdk: AsyncOpenAI) -> None:
    made = await sdk.responses.create(model="fast", input=HANG, background=True)
    await begun(sdk, made)
    for _ in range(2):
        assert (await sdk.responses.cancel(made.id)).status == "cancelled"
    last = (await events(await sdk.responses.retrieve(made.id, stream=True)))[-1]
    assert (last.type, last.response.status) == ("response.incomplete", "cancelled")
    done = await sdk.responses.create(model="fast", input="x")
    with pytest.raises(openai.ConflictError):
        await sdk.responses.cancel(done.id)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_takes_its_task_along(
    service: Service, sdk: AsyncOpenAI, stream: bool
) -> None:
    async with service.ws() as socket:
        await ask(socket, op="subscribe", all=True)
        wanted = {"model": "fast", "input": HANG, "stream": stream}
        asked = asyncio.ensure_future(service.http.post("/v1/responses", json=wanted))
        while (event := await message(socket))["type"] != "chunk":
            pass
    asked.cancel()
    with suppress(asyncio.CancelledError):
        await asked
    async with asyncio.timeout(PATIENCE_S):
        assert (await service.done(event["task_id"]))["status"] == "cancelled"


async def test_a_background_stream_may_be_left(service: Service, sdk: AsyncOpenAI) -> None:
    stream = await sdk.responses.create(
        model="fast", input="[[sim:tokens=20]][[sim:rate=100]] y", background=True, stream=True
    )
    first = await anext(aiter(stream))
    assert first.type == "response.created"
    await stream.close()
    assert (await service.done(task_of(first.response)))["status"] == "completed"


async def test_delete_removes_the_task(service: Service, sdk: AsyncOpenAI) -> None:
    done = await sdk.responses.create(model="fast", input="x")
    await sdk.responses.delete(done.id)
    refused(await service.http.get(f"/tasks/{task_of(done)}"), 404, "task_not_found")
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(done.id)
    running = await sdk.responses.create(model="fast", input=HANG, background=True)
    gone = expect(await service.http.delete(f"/v1/responses/{running.id}"), 200)
    assert gone == {"id": running.id, "object": "response", "deleted": True}


async def test_what_is_not_stored_cannot_be_read(service: Service, sdk: AsyncOpenAI) -> None:
    made = await sdk.responses.create(model="fast", input="x", store=False)
    assert made.store is False  # type: ignore[attr-defined]
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(made.id)
    assert await status(service, made) == "completed"
    with pytest.raises(openai.BadRequestError, match="store"):
        await sdk.responses.create(model="fast", input="x", store=False, background=True)


async def test_a_task_of_another_api_is_no_response(service: Service, sdk: AsyncOpenAI) -> None:
    task_id = await service.submit("x")
    for wanted in (f"resp_{task_id}", task_id, "resp_", "resp_é"):
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(wanted)


async def test_failures_are_the_sdks_exceptions(sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        await sdk.responses.create(model="fast", input="[[sim:400 x1]]")
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.create(model="none", input="x")
    last = (
        await events(await sdk.responses.create(model="fast", input="[[sim:400]]", stream=True))
    )[-1]
    assert last.type == "response.failed"
    assert last.response.status == "failed"
    assert last.response.error is not None
    assert last.response.error.message


async def test_headers_say_where_it_queues(service: Service, sdk: AsyncOpenAI) -> None:
    headers = {"x-lane": "long", "x-priority": "9", "x-session-id": "s", "Idempotency-Key": "r1"}
    made = [
        await sdk.responses.create(model="fast", input="x", extra_headers=headers) for _ in range(2)
    ]
    assert made[0].to_dict() == made[1].to_dict()
    task = await service.task(task_of(made[0]))
    assert (task["lane"], task["priority"], task["session_id"]) == ("long", 9, "s")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"role": "king", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "letter"}]}, "input[0].type"),
        ({"input": [{"type": "web_search_call"}]}, "input"),
        ({"input": ""}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        ({"tools": [{"name": "f"}]}, "tools[0]"),
        ({"tool_choice": {}}, "tool_choice"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"n": 2}, "n"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"conversation": "c"}, "conversation"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"model": None}, "model"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(
    service: Service, more: dict[str, Any], param: str
) -> None:
    asked = {"model": "fast", "input": "x"} | more
    error = refused(await service.http.post("/v1/responses", json=asked), 400, "invalid_request")
    assert error["param"] == param


def sync_life(url: str) -> None:
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        whole = client.responses.create(model="fast", input="sync")
        assert client.responses.retrieve(whole.id).output_text == whole.output_text
        background = client.responses.create(model="fast", input=HANG, background=True)
        assert client.responses.cancel(background.id).status == "cancelled"
        streamed = list(client.responses.create(model="fast", input="sync", stream=True))
        assert streamed[-1].type == "response.completed"
        client.responses.delete(whole.id)


async def test_the_sync_client_does_the_same(service: Service) -> None:
    await asyncio.to_thread(sync_life, service.url)
