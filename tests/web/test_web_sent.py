"""What a strict provider is sent, over real sockets: roles, null fields, `Accept`, own fields."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.web.serving import Service, expect, serving
from tests.wild.provider import Provider, listening

pytestmark = pytest.mark.asyncio(loop_scope="function")

ANSWER = {
    "head": "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked",
    "body": 'data: {"choices": [{"index": 0, "delta": {"content": "Hello"}, '
    '"finish_reason": "stop"}]}\n\ndata: [DONE]\n\n',
}
VECTOR = b'{"data": [{"embedding": [0.5]}]}'
VECTORS = {
    "head": f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(VECTOR)}",
    "body": VECTOR.decode(),
}
ASK = [{"role": "user", "content": "hi"}]


def refusal(when: dict[str, Any], status: str, body: Any) -> dict[str, Any]:
    content = orjson.dumps(body)
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    return {"when": when, "head": head, "body": content.decode()}


@asynccontextmanager
async def asking(
    folder: Path, *script: dict[str, Any], **model: Any
) -> AsyncIterator[tuple[Service, Provider]]:
    """A service whose one model is a provider that plays this script."""
    async with listening({"script": list(script)}) as provider:
        models = {"m": {"base_url": provider.base_url, "model": "x"} | model}
        async with serving(folder, models=models) as service:
            yield service, provider


async def chat(service: Service, **fields: Any) -> str:
    """The text of a completion."""
    body = {"model": "m", "messages": ASK} | fields
    answer = expect(await service.http.post("/v1/chat/completions", json=body), 200)
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("422 Unprocessable Entity", {"detail": [{"loc": ["body", "stream_options"]}]}),
        ("400 Bad Request", {"error": {"message": "Unrecognized field 'include_usage'"}}),
        ("400 Bad Request", {"error": "unknown field stream_options", "code": 1210}),
    ],
)
async def test_usage_is_asked_for_until_the_provider_refuses_that(
    tmp_path: Path, status: str, error: Any
) -> None:
    strict = refusal({"field": "stream_options"}, status, error)
    async with asking(tmp_path, strict, ANSWER) as (service, provider):
        for _ in range(2):
            assert await chat(service) == "Hello"
        asked = ["stream_options" in request.json for request in provider.requests]
        assert asked == [True, False, False]
        (shown,) = expect(await service.http.get("/models"), 200)["models"]
        assert shown["errors"] == 0


async def test_a_refusal_that_repeats_the_request_forgets_nothing(tmp_path: Path) -> None:
    echo = {"detail": [{"loc": ["body", "messages"], "input": {"stream_options": {}}}]}
    strict = refusal({"body_has": "bad"}, "422 Unprocessable Entity", echo)
    async with asking(tmp_path, strict, ANSWER) as (service, provider):
        body = {"model": "m", "messages": [{"role": "user", "content": "bad"}]}
        answer = await service.http.post("/v1/chat/completions", json=body)
        assert expect(answer, 400)["error"]["code"] == "upstream_rejected"
        assert await chat(service) == "Hello"
        asked = ["stream_options" in request.json for request in provider.requests]
        assert asked == [True, False, True]


@pytest.mark.parametrize(("usage", "asks"), [("none", False), ("stream_options", True)])
async def test_the_setting_usage_wins_over_the_preset(
    tmp_path: Path, usage: str, asks: bool
) -> None:
    async with asking(tmp_path, ANSWER, usage=usage, preset="zhipu") as (service, provider):
        assert await chat(service) == "Hello"
        assert ("stream_options" in provider.requests[0].json) is asks


@pytest.mark.parametrize("preset", [None, "deepseek", "zhipu", "nvidia", "hunyuan", "vllm"])
async def test_a_strict_provider_gets_messages_that_it_knows(
    tmp_path: Path, preset: str | None
) -> None:
    fields = ["refusal", "audio", "function_call", "tool_calls", "annotations", "name", "content"]
    script = (
        refusal({"role": "developer"}, "400 Bad Request", {"error": "unknown role"}),
        refusal({"null_in_messages": fields}, "400 Bad Request", {"error": "null"}),
        refusal({"accept_lacks": ["application/json", "*/*"]}, "406 Not Acceptable", {}),
        ANSWER,
    )
    echo = {"role": "assistant", "content": "Hi", **dict.fromkeys(fields[:-1])}
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "hi", "name": None},
        echo,
        {"role": "tool", "tool_call_id": "c", "content": None},
        *ASK,
    ]
    model = {} if preset is None else {"preset": preset}
    async with asking(tmp_path, *script, **model) as (service, provider):
        assert await chat(service, messages=messages) == "Hello"
        answer = await service.http.post("/tasks", json={"messages": messages, "model": "m"})
        task = await service.done(expect(answer, 202)["task_id"])
        assert (task["result"], task["messages"]) == ("Hello", messages)
        assert len(provider.requests) == 2


async def test_embeddings_of_a_strict_provider(tmp_path: Path) -> None:
    script = (
        refusal({"accept_lacks": ["application/json", "*/*"]}, "406 Not Acceptable", {}),
        refusal({"field": "input_type"}, "400 Bad Request", {"error": "extra field input_type"}),
        VECTORS,
    )
    model = {"type": "embedding", "preset": "nvidia"}
    async with asking(tmp_path, *script, **model) as (service, provider):
        for text in ("a", "b"):
            body = {"model": "m", "input": text}
            answer = expect(await service.http.post("/v1/embeddings", json=body), 200)
            assert answer["data"][0]["embedding"] == [0.5]
        asked = ["input_type" in request.json for request in provider.requests]
        assert asked == [True, False, False]
