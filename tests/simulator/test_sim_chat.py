"""Chat completions over a real socket: order, usage, pace, bad requests, clients that leave."""

import asyncio
from random import Random

import aiohttp
import pytest

from asyncsvc.simulator import Profile, Running, running
from asyncsvc.simulator.chat import Pace

from .rawhttp import fetch, in_flight, opened, request_bytes, until, user


async def test_a_stream_has_openais_order(server: Running) -> None:
    raw = await fetch(
        server.port, user("你好", stream=True, stream_options={"include_usage": True})
    )
    assert raw.status == 200
    assert raw.terminated
    assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert raw.events()[-1] == "[DONE]"
    role, *content, finish, usage = raw.chunks()
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert len(content) == 12
    assert all(list(c["choices"][0]["delta"]) == ["content"] for c in content)
    assert all(c["choices"][0]["finish_reason"] is None for c in content)
    assert finish["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 12
    assert {c["id"] for c in raw.chunks()} == {"chatcmpl-sim-1"}
    assert all(c["object"] == "chat.completion.chunk" and c["model"] == "m" for c in raw.chunks())


async def test_usage_comes_only_when_asked_for(server: Running) -> None:
    raw = await fetch(server.port, user("hi", stream=True))
    assert all("usage" not in chunk for chunk in raw.chunks())
    assert all(chunk["choices"] for chunk in raw.chunks())


async def test_reasoning_comes_before_content(server: Running) -> None:
    raw = await fetch(server.port, user("hi [[sim:reasoning=4]]", stream=True))
    names = [name for c in raw.chunks()[1:-1] for name in c["choices"][0]["delta"]]
    assert names == ["reasoning_content"] * 4 + ["content"] * 12
    whole = (await fetch(server.port, user("hi [[sim:reasoning=4]]"))).json()
    assert whole["choices"][0]["message"]["reasoning_content"]
    assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": 4}


async def test_the_log_has_what_was_sent(server: Running) -> None:
    raw = await fetch(server.port, user("讲个故事 [[id:t-1]] [[sim:tokens=200]]", stream=True))
    call = server.simulator.calls()[0]
    assert call["text"] == raw.text()
    assert call["tokens"] == 200
    assert "[[" not in raw.text()
    assert "讲个故事" in raw.text()
    assert (call["marker"], call["status"], call["outcome"]) == ("t-1", 200, "completed")
    assert call["prompt"].startswith("讲个故事 [[id:t-1]]")
    assert call["arrived_at"] <= call["finished_at"]


async def test_a_whole_answer(server: Running) -> None:
    answer = (await fetch(server.port, user("hello"))).json()
    assert answer["object"] == "chat.completion"
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == server.simulator.calls()[0]["text"]
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + 12


async def test_most_tokens_are_heeded(server: Running) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        answer = (await fetch(server.port, user("hello", **{name: 5}))).json()
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == 5


async def test_answers_differ_unless_temperature_is_zero(server: Running) -> None:
    async def text(**more: object) -> str:
        return (await fetch(server.port, user("hello", stream=True, **more))).text()

    assert await text() != await text()
    assert await text(temperature=0) == await text(temperature=0)
    assert await text(temperature=0) != await text(temperature=0, seed=5)


async def test_an_answer_ends_before_a_stop_sequence_and_has_the_shape_asked_for(
    server: Running,
) -> None:
    async def content(**more: object) -> str:
        answer = (await fetch(server.port, user("hello", **more))).json()
        return str(answer["choices"][0]["message"]["content"])

    assert "[simulated" not in await content(stop="[simulated")
    assert await content(response_format={"type": "json_object"}) == '{"answer":"simulated"}'
    schema = {"type": "json_schema", "json_schema": {"schema": {"enum": [7]}}}
    assert await content(response_format=schema) == "7"


async def test_tools_are_called_where_a_tag_asks_for_it(server: Running) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
    asked = user("x [[sim:calls=2]]", tools=tools)
    choice = (await fetch(server.port, asked)).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["f", "g"]
    raw = await fetch(server.port, asked | {"stream": True})
    pieces = [c["choices"][0]["delta"].get("tool_calls", []) for c in raw.chunks()]
    assert [p[0]["function"]["name"] for p in pieces if p and "id" in p[0]] == ["f", "g"]
    assert (await fetch(server.port, asked | {"tool_choice": "none"})).json()["choices"][0][
        "finish_reason"
    ] == "stop"


async def test_parts_of_a_message_and_other_roles(server: Running) -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {}}]
    messages = [
        {"role": "system", "content": "short"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": parts},
        {"role": "tool", "content": "result"},
    ]
    await fetch(server.port, {"model": "m", "messages": messages})
    assert server.simulator.calls()[0]["prompt"] == "look"


@pytest.mark.parametrize(
    ("payload", "param"),
    [
        (b"{", None),
        (b"[]", None),
        ({"messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m", "messages": ["x"]}, "messages[0].role"),
        ({"model": "m", "messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        (user("x", max_tokens=0), "max_tokens"),
        (user("x", max_tokens="5"), "max_tokens"),
        (user("x", stop=[3]), "stop"),
        (user("x", tools=[{}]), "tools"),
        (user("x", tools=[], tool_choice={"function": {"name": "f"}}), "tool_choice"),
        (user("x", response_format="yaml"), "response_format"),
        (user("[[sim:nonsense]]"), "messages"),
    ],
)
async def test_what_cannot_be_used_is_a_400(
    server: Running, payload: object, param: str | None
) -> None:
    raw = await fetch(server.port, payload)
    assert raw.status == 400
    assert raw.json()["error"]["type"] == "invalid_request_error"
    assert raw.json()["error"]["param"] == param
    assert server.simulator.stats()["refused"] == {"invalid": 1}
    assert server.simulator.calls()[0]["outcome"] == "rejected"


async def test_the_head_is_sent_at_once_or_with_the_first_token(server: Running) -> None:
    endless = request_bytes(user("[[sim:first=1000]]", stream=True))
    reader, writer = await opened(server.port, endless)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"text/event-stream" in head
    writer.close()
    await until(lambda: server.simulator.calls()[0]["outcome"] == "disconnected")
    assert server.simulator.calls()[0]["status"] == 200

    server.simulator.configure({"default": {"head": "first_token"}})
    reader, writer = await opened(server.port, endless)
    await until(lambda: in_flight(server) == 1)
    writer.close()
    await until(lambda: server.simulator.calls()[1]["outcome"] == "disconnected")
    assert server.simulator.calls()[1]["status"] is None
    raw = await fetch(server.port, user("hi", stream=True))
    assert raw.status == 200
    assert len(raw.chunks()) == 14


async def test_tokens_keep_their_pace() -> None:
    """The schedule is what counts: no token leaves before it is due."""
    settings = {"answer_tokens": 20, "tokens_per_s": 200, "first_token_s": 0.05}
    async with running(Profile.parse({"default": settings})) as server:
        loop = asyncio.get_running_loop()
        start = loop.time()
        raw = await fetch(server.port, user("hi", stream=True))
        assert loop.time() - start >= 0.05 + 19 / 200
        assert len(raw.reads) > 5
        start = loop.time()
        await fetch(server.port, user("hi"))
        assert loop.time() - start >= 0.05 + 19 / 200


def test_jitter_varies_with_the_seed_only() -> None:
    pace = Pace(0.1, 0.01, 0.5, Random(3))
    varied = [pace.varied(1.0) for _ in range(200)]
    assert min(varied) >= 0.5
    assert max(varied) <= 1.5
    assert max(varied) - min(varied) > 0.8
    again = Pace(0.1, 0.01, 0.5, Random(3))
    assert [again.varied(1.0) for _ in range(200)] == varied


@pytest.mark.parametrize("tag", ["[[sim:first=1000]]", "[[sim:rate=0.001]]"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_its_place(
    server: Running, tag: str, stream: bool
) -> None:
    server.simulator.configure({"models": {"m": {"concurrency": 1}}})
    reader, writer = await opened(server.port, request_bytes(user(f"x {tag}", stream=stream)))
    await until(lambda: in_flight(server) == 1)
    if stream and "rate" in tag:
        await reader.readuntil(b"#1")
    writer.close()
    await until(lambda: in_flight(server) == 0)
    await until(lambda: server.simulator.calls()[0]["outcome"] is not None)
    call = server.simulator.calls()[0]
    assert (call["outcome"], call["client_left"]) == ("disconnected", True)
    assert call["tokens"] == (1 if stream and "rate" in tag else 0)
    assert call["text"] == ("#1" if stream and "rate" in tag else "")
    assert server.simulator.stats()["models"]["m"]["disconnected"] == 1
    assert (await fetch(server.port, user("next"))).status == 200


async def test_leaving_a_stream_without_pauses_is_noticed_too(server: Running) -> None:
    tag = "[[sim:tokens=300000]]"
    reader, writer = await opened(server.port, request_bytes(user(tag, stream=True)))
    await reader.read(1000)
    writer.close()
    await until(lambda: server.simulator.calls()[0]["outcome"] == "disconnected")
    assert 0 < server.simulator.calls()[0]["tokens"] < 300000


async def test_connections_are_kept_for_the_next_call(server: Running) -> None:
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        for stream in (True, False, True):
            url = f"{server.base_url}/chat/completions"
            async with session.post(url, json=user("hi [[sim:rate=500]]", stream=stream)) as got:
                assert got.status == 200
                await got.read()
    assert [c["outcome"] for c in server.simulator.calls()] == ["completed"] * 3
