"""Requests as programs have sent them, replayed over real sockets.

A file below `recorded/` is a conversation: each request (long texts cut short), what the provider
answers to it, and what the program must get. `ids` are the ids that the items of the answer had
when it was recorded: later requests name them, so each is replaced by the id that is given now.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients import strict
from tests.clients.asking import frames
from tests.clients.scripted_provider import ScriptedProvider
from tests.web.serving import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

RECORDED: dict[str, list[dict[str, Any]]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))["exchanges"]
    for path in sorted((Path(__file__).parent / "recorded").glob("*.json"))
}
CHAT_FIELDS = frozenset(
    {
        "model", "messages", "stream", "stream_options", "tools", "tool_choice",
        "parallel_tool_calls", "reasoning_effort", "verbosity", "max_tokens", "temperature",
        "top_p", "frequency_penalty", "presence_penalty", "stop", "response_format", "seed",
        "max_completion_tokens",
    }
)  # fmt: skip
"""What a strict provider takes."""
Object = dict[str, Any]


@pytest.mark.parametrize("program", RECORDED)
async def test_a_recorded_conversation(
    service: Service, provider: ScriptedProvider, program: str
) -> None:
    ids: dict[str, str] = {}
    for exchange in RECORDED[program]:
        provider.plan(exchange["provider"])
        body = json.dumps(exchange["body"])
        for before, now in ids.items():
            body = body.replace(before, now)
        sent = json.loads(body) | {"model": "fast"}
        answer = await service.http.post(exchange["path"], json=sent)
        assert answer.status_code == 200, answer.text
        check_call(provider.asked[0])
        if exchange["path"].endswith("/responses"):
            output = items(answer, bool(sent.get("stream")))
            assert [shown(one) for one in output] == [
                shown(one) for one in exchange["expect"]["items"]
            ]
            ids |= zip(exchange["ids"], (one["id"] for one in output), strict=True)
        else:
            assert text(answer, bool(sent.get("stream"))) == exchange["expect"]["text"]


def items(answer: Any, streamed: bool) -> list[Object]:
    """The output of a response, by all types of the `openai` package."""
    if streamed:
        events = [strict.event(one) for one in frames(answer)]
        found: list[Object] = events[-1]["response"]["output"]
        done = [one["item"] for one in events if one["type"] == "response.output_item.done"]
        assert done == found
        return found
    return list(strict.response(answer.json())["output"])


def shown(item: Object) -> Object:
    kept = ("type", "name", "namespace", "input", "arguments")
    return {name: item[name] for name in kept if name in item}


def text(answer: Any, streamed: bool) -> str:
    parts = frames(answer) if streamed else [answer.json()]
    choices = [choice for part in parts for choice in part["choices"]]
    found = []
    for choice in choices:
        inner = choice.get("delta") or choice.get("message") or {}
        found.append(choice.get("text") or inner.get("content") or "")
    return "".join(found)


def check_call(asked: Object) -> None:
    """What the provider was sent is a chat call that a strict one takes."""
    assert asked.keys() <= CHAT_FIELDS
    assert {tool["type"] for tool in asked.get("tools", [])} <= {"function"}
    open_calls: set[str] = set()
    for message in asked["messages"]:
        if message["role"] == "tool":
            assert message["tool_call_id"] in open_calls
            assert isinstance(message["content"], str)
            open_calls.discard(message["tool_call_id"])
        else:
            assert not open_calls, "an output does not stand behind its call"
            open_calls = {call["id"] for call in message.get("tool_calls", [])}
            for call in message.get("tool_calls", []):
                assert isinstance(json.loads(call["function"]["arguments"]), dict)
    assert not open_calls
