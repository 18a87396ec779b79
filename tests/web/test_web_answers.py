"""What a provider sends beside text: kept, streamed, stored and sent back, at every endpoint."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.web.serving import Service, expect, model, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
SIGNED = {"extra_content": {"google": {"thought_signature": "SIG=="}}}
DETAILS: dict[str, Any] = {
    "reasoning_details": [{"type": "reasoning.encrypted", "data": "OPAQUE", "index": 0}]
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


class Provider:
    """Answers each call with the next list of frames, the last again; keeps what it was sent."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self._answers = answers

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.partition("content-length:")[2].split()[0])
        self.bodies.append(orjson.loads(await reader.readexactly(size)))
        frames = self._answers[min(len(self.bodies), len(self._answers)) - 1]
        data = b"".join(b"data: " + orjson.dumps(frame) + b"\n\n" for frame in frames)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        writer.write(b"Connection: close\r\n\r\n" + data + b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def called(**more: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": "{}"}
    return delta(
        tool_calls=[{"index": 0, "id": "a", "type": "function", "function": function, **more}]
    )


CALLING = [delta(content="so", **DETAILS), called(**SIGNED), delta("tool_calls")]


@asynccontextmanager
async def provided(
    folder: Path, *answers: list[dict[str, Any]], **settings: Any
) -> AsyncIterator[tuple[Service, Provider, AsyncOpenAI]]:
    """A service with one model, the provider behind it, and the SDK before it."""
    provider = Provider(*answers)
    server = await asyncio.start_server(provider.answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    models = {"m": model(url, **settings)}
    async with (
        server,
        serving(folder, models=models) as service,
        AsyncOpenAI(base_url=f"{service.url}/v1", api_key="x", max_retries=0) as sdk,
    ):
        yield service, provider, sdk


async def test_a_task_shows_what_the_next_turn_needs(tmp_path: Path) -> None:
    async with provided(tmp_path, CALLING) as (service, _, _sdk):
        task = await service.done(task_id := await service.submit("x"))
        assert task["result"] == "so"
        assert task["message"] == DETAILS
        (call,) = task["tool_calls"]
        assert call == {"id": "a", "type": "function", "function": call["function"], **SIGNED}
        assert call["function"] == {"name": "f", "arguments": "{}"}
        assert task["metadata"]["finish_reason"] == "tool_calls"
        kinds = [event["type"] for event in await service.events(task_id)]
        assert kinds[-3:] == ["tool_call", "message", "status"]
        (listed,) = expect(await service.http.get("/tasks"), 200)["tasks"]
        assert "message" not in listed
        assert "tool_calls" not in listed


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_gives_it_back_and_sends_it_on(tmp_path: Path, stream: bool) -> None:
    async with provided(tmp_path, CALLING, [delta("stop", content="42")]) as (_, provider, sdk):
        asked: list[Any] = [{"role": "user", "content": "x"}]
        tools: list[Any] = [TOOL]
        if stream:
            frames = [
                frame
                async for frame in await sdk.chat.completions.create(
                    model="m", messages=asked, tools=tools, stream=True
                )
            ]
            deltas = [frame.choices[0].delta.to_dict() for frame in frames if frame.choices]
            message: dict[str, Any] = {"role": "assistant", "content": "so"}
            for each in deltas:
                message |= {k: v for k, v in each.items() if k not in ("role", "content") and v}
            (call,) = message["tool_calls"]
            assert call.pop("index") == 0
        else:
            made = await sdk.chat.completions.create(model="m", messages=asked, tools=tools)
            message = made.choices[0].message.to_dict()
        assert message["tool_calls"][0]["extra_content"] == SIGNED["extra_content"]
        assert message["reasoning_details"] == DETAILS["reasoning_details"]
        result = {"role": "tool", "tool_call_id": "a", "content": "42"}
        again: list[Any] = [*asked, message, result]
        await sdk.chat.completions.create(model="m", messages=again, tools=tools)
        sent = provider.bodies[-1]["messages"][1]
        assert sent["tool_calls"][0] == message["tool_calls"][0]
        assert sent["reasoning_details"] == DETAILS["reasoning_details"]


@pytest.mark.parametrize("stored", [False, True])
async def test_a_response_gives_it_back_and_sends_it_on(tmp_path: Path, stored: bool) -> None:
    async with provided(tmp_path, CALLING, [delta("stop", content="42")]) as (_, provider, sdk):
        tool: Any = {
            "type": "function",
            "name": "f",
            "parameters": {"type": "object"},
            "strict": None,
        }
        first = await sdk.responses.create(model="m", input="x", tools=[tool])
        output = [item.to_dict() for item in first.output]
        assert [item["type"] for item in output] == ["message", "function_call", "reasoning"]
        assert output[1]["extra_content"] == SIGNED["extra_content"]
        result: Any = {"type": "function_call_output", "call_id": "a", "output": "42"}
        if stored:
            await sdk.responses.create(
                model="m", input=[result], tools=[tool], previous_response_id=first.id
            )
        else:
            before: list[Any] = [{"role": "user", "content": "x"}, *output, result]
            await sdk.responses.create(model="m", input=before, tools=[tool])
        user, answer, back = provider.bodies[-1]["messages"]
        assert (user["role"], back["role"], back["tool_call_id"]) == ("user", "tool", "a")
        assert answer["tool_calls"][0]["extra_content"] == SIGNED["extra_content"]
        assert answer["reasoning_details"] == DETAILS["reasoning_details"]


class City(BaseModel):
    name: str


async def test_a_refusal_is_one_to_clients_that_parse(tmp_path: Path) -> None:
    refusing = [delta(refusal="I cannot"), delta(refusal=" do that"), delta("stop")]
    asked: list[Any] = [{"role": "user", "content": "x"}]
    async with provided(tmp_path, refusing) as (service, _, sdk):
        made = await sdk.chat.completions.parse(model="m", messages=asked, response_format=City)
        assert made.choices[0].message.refusal == "I cannot do that"
        assert made.choices[0].message.parsed is None
        async with sdk.chat.completions.stream(
            model="m", messages=asked, response_format=City
        ) as stream:
            final = await stream.get_final_completion()
        assert final.choices[0].message.refusal == "I cannot do that"
        response = await sdk.responses.parse(model="m", input="x", text_format=City)
        assert response.output_parsed is None
        (item,) = [each.to_dict() for each in response.output]
        assert item["content"] == [{"type": "refusal", "refusal": "I cannot do that"}]
        task = await service.done(await service.submit("x"))
        assert task["result"] == "I cannot do that"


async def test_an_id_that_comes_late_is_stored_and_changes_no_stream(tmp_path: Path) -> None:
    late = {"index": 0, "id": "real", "function": {"arguments": ":1}"}}
    function = {"name": "f", "arguments": '{"x"'}
    frames = [
        delta(tool_calls=[{"index": 0, "function": function}]),
        delta(tool_calls=[late]),
        delta("tool_calls"),
    ]
    async with provided(tmp_path, frames) as (service, _, sdk):
        task = await service.done(await service.submit("x"))
        assert task["tool_calls"][0]["id"] == "real"
        asked: list[Any] = [{"role": "user", "content": "x"}]
        made = await sdk.chat.completions.create(model="m", messages=asked)
        assert made.choices[0].message.tool_calls[0].id == "real"  # type: ignore[index]
        stream = await sdk.chat.completions.create(model="m", messages=asked, stream=True)
        pieces = [c for f in [f async for f in stream] for c in f.choices[0].delta.tool_calls or []]
        assert [piece.id is None for piece in pieces] == [False, True]
        assert "".join(p.function.arguments or "" for p in pieces if p.function) == '{"x":1}'
        assert not any("late_id" in piece.to_dict() for piece in pieces)
        response = await sdk.responses.create(model="m", input="x")
        assert response.output[0].call_id == "real"  # type: ignore[union-attr]


async def test_the_words_for_an_end_are_openais_and_the_own_one_is_kept(tmp_path: Path) -> None:
    frames = [delta(content="Hello"), delta("MAX_TOKENS")]
    async with provided(tmp_path, frames) as (service, _, _sdk):
        task = await service.done(task_id := await service.submit("x"))
        assert task["metadata"]["finish_reason"] == "length"
        assert task["metadata"]["finish_reason_raw"] == "MAX_TOKENS"
        last = (await service.events(task_id))[-1]["data"]
        assert (last["finish_reason"], last["finish_reason_raw"]) == ("length", "MAX_TOKENS")
        await service.steer(task_id, "retry")
        assert (await service.done(task_id))["metadata"]["finish_reason_raw"] == "MAX_TOKENS"


async def test_an_empty_answer_is_one_call_and_leaves_the_model_open(tmp_path: Path) -> None:
    frames = [delta(reasoning_content="hm"), delta("length")]
    async with provided(tmp_path, frames) as (service, provider, sdk):
        made = await sdk.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}]
        )
        choice = made.choices[0]
        assert (choice.message.content, choice.finish_reason) == ("", "length")
        assert len(provider.bodies) == 1
        for _ in range(6):
            task = await service.done(await service.submit("x", params={"temperature": 0}))
            assert (task["status"], task["result"], task["metadata"]["cached"]) == (
                *("completed", None, False),
            )
        (found,) = expect(await service.http.get("/models"), 200)["models"]
        assert (found["breaker"], found["errors"]) == ("closed", 0)


async def test_an_answer_that_is_none_closes_no_model(tmp_path: Path) -> None:
    async with provided(tmp_path, [delta("stop")]) as (service, _, _sdk):
        for _ in range(6):
            task = await service.done(await service.submit("x", max_retries=0))
            assert task["error"]["code"] == "empty_answer"
        (found,) = expect(await service.http.get("/models"), 200)["models"]
        assert found["breaker"] == "closed"


async def test_an_export_has_it_all(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with provided(tmp_path / "one", CALLING) as (service, _, _sdk):
        before = await service.done(task_id := await service.submit("x"))
        lines = (await service.http.get("/admin/export")).content
    async with provided(tmp_path / "two", CALLING) as (service, _, _sdk):
        expect(await service.http.post("/admin/import", content=lines), 200)
        after = await service.task(task_id)
        for name in ("message", "tool_calls", "result", "metadata"):
            assert after[name] == before[name]


async def test_a_cached_answer_has_it_as_well(tmp_path: Path) -> None:
    frames = [delta(content="so", **DETAILS), delta("STOP")]
    async with provided(tmp_path, frames) as (service, provider, sdk):
        asked = {"params": {"temperature": 0}}
        first = await service.done(await service.submit("x", **asked))
        again = await service.done(await service.submit("x", **asked))
        assert again["metadata"]["cached"]
        assert len(provider.bodies) == 1
        assert again["message"] == first["message"] == DETAILS
        assert again["metadata"]["finish_reason_raw"] == "STOP"
        made = await sdk.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], temperature=0
        )
        assert (
            made.choices[0].message.to_dict()["reasoning_details"] == DETAILS["reasoning_details"]
        )


async def test_fields_that_are_too_large_fail_the_task(tmp_path: Path) -> None:
    frames = [delta(images=[{"n": n, "url": "x" * (1 << 20)}]) for n in range(6)]
    async with provided(tmp_path, [*frames, delta("stop")]) as (service, provider, _sdk):
        task = await service.done(await service.submit("x"))
        assert task["error"]["code"] == "upstream_too_large"
        assert len(provider.bodies) == 1


async def test_an_image_is_handed_on(tmp_path: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 3_000_000}}
    frames = [delta(content=""), delta(content="", images=[image]), delta("stop")]
    async with provided(tmp_path, frames) as (service, _, sdk):
        made = await sdk.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}]
        )
        assert made.choices[0].message.to_dict()["images"] == [image]
        task_id = str(made.id).removeprefix("chatcmpl-")
        async with service.ws(f"/ws/tasks/{task_id}") as socket:
            events = [orjson.loads(text) async for text in socket]
        (found,) = [event for event in events if event["type"] == "message"]
        assert found["data"] == {"images": [image]}


async def test_thinking_without_an_opening_tag_where_the_model_thinks(tmp_path: Path) -> None:
    frames = [delta(content=text) for text in ("hm", "\n</thi", "nk>\n\n", "so")]
    async with provided(tmp_path, [*frames, delta("stop")], preset="vllm") as (service, _, _sdk):
        task = await service.done(await service.submit("x", params={"thinking": "on"}))
        assert task["result"] == "so"
        plain = await service.done(await service.submit("x"))
        assert plain["result"] == "hm\n</think>\n\nso"
