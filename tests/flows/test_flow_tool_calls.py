"""A kill -9 of the service in the middle of a streamed tool call: no half call is ever whole."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.flows.process import Provider, Remote, service, settings
from tests.flows.test_flow_responses import follow, sdk

NAMES = [f"field_{number}" for number in range(20)]
SCHEMA = {"type": "object", "properties": {name: {"type": "string"} for name in NAMES}}
FUNCTION: Any = {"name": "fill", "parameters": SCHEMA}
WHOLE = dict.fromkeys(NAMES, "simulated")
ASKED = "[[sim:calls=2 rate=60]][[sim:hang-stream at=120 x1]] go"
"""Two calls of some 75 pieces each, 60 pieces a second; the first try never comes to its end."""


async def chatted(client: AsyncOpenAI, remote: Remote | None, key: str) -> list[Any]:
    """The choices of a stream; with a process, it is killed in the second call."""
    stream: Any = await client.chat.completions.create(
        model="fast",
        messages=[{"role": "user", "content": ASKED}],
        tools=[{"type": "function", "function": FUNCTION}],
        stream=True,
        extra_headers={"Idempotency-Key": key},
    )
    found: list[Any] = []
    try:
        async for chunk in stream:
            found += chunk.choices
            if remote is not None and calls_of(found).get(1):
                await remote.process.kill()
    except openai.APIError:
        assert remote is not None
    except Exception as error:
        if remote is None or "incomplete chunked read" not in str(error):
            raise
    return found


def calls_of(choices: list[Any]) -> dict[int, str]:
    """The arguments of each call, as a client puts them together."""
    found: dict[int, str] = {}
    for choice in choices:
        for call in choice.delta.tool_calls or []:
            found[call.index] = found.get(call.index, "") + (call.function.arguments or "")
    return found


async def test_a_chat_that_is_cut_in_a_call_never_says_that_it_is_whole(
    tmp_path: Path, sim: Provider
) -> None:
    path = settings(tmp_path, sim.url)
    async with service(path) as first, sdk(first) as client:
        cut = await chatted(client, first, "k")
    assert all(choice.finish_reason is None for choice in cut)
    calls = calls_of(cut)
    assert json.loads(calls[0]) == WHOLE
    with pytest.raises(json.JSONDecodeError):
        json.loads(calls[1])
    async with service(path) as second, sdk(second) as client:
        whole = await chatted(client, None, "k")
        (task,) = (await second.http.get("/tasks")).json()["tasks"]
        kept = await second.task(task["task_id"])
    assert [json.loads(text) for text in calls_of(whole).values()] == [WHOLE, WHOLE]
    assert whole[-1].finish_reason == "tool_calls"
    assert [json.loads(call["function"]["arguments"]) for call in kept["tool_calls"]] == [WHOLE] * 2
    assert len({call["id"] for call in kept["tool_calls"]}) == 2


def in_second_call(event: dict[str, Any]) -> bool:
    return "delta" in event and event["output_index"] == 1


async def test_a_background_response_gives_each_call_once_over_a_kill(
    tmp_path: Path, sim: Provider
) -> None:
    path = settings(tmp_path, sim.url)
    async with service(path) as first, sdk(first) as client:
        made = await client.responses.create(
            model="fast",
            input=ASKED,
            tools=[FUNCTION | {"type": "function", "strict": None}],
            background=True,
        )
        early = await follow(client, made.id, -1, in_second_call)
        await first.process.kill()
    async with service(path) as second, sdk(second) as client:
        late = await follow(client, made.id, early[-1]["sequence_number"])
        again = await follow(client, made.id, -1)
        done = await client.responses.retrieve(made.id)
    events = early + late
    assert events == again
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    arguments = [e for e in events if e["type"] == "response.function_call_arguments.done"]
    assert [json.loads(event["arguments"]) for event in arguments] == [WHOLE, WHOLE]
    items = {e["item"]["id"]: e["item"] for e in events if e["type"] == "response.output_item.done"}
    whole = [item for item in items.values() if item["status"] == "completed"]
    assert [json.loads(item["arguments"]) for item in whole] == [WHOLE, WHOLE]
    assert [item["status"] for item in items.values()].count("incomplete") == 2
    assert [item["id"] for item in whole] == [event["item_id"] for event in arguments]
    assert done.status == "completed"
    assert done.to_dict()["output"] == whole
    for item in whole:
        pieces = [e["delta"] for e in events if e.get("item_id") == item["id"] and "delta" in e]
        assert "".join(pieces) == item["arguments"]
