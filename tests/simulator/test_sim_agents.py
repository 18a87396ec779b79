"""Agents that the simulated provider plays by a script, in both protocols of calling tools."""

import json
from typing import Any

import pytest

from asyncsvc.simulator import Running

from .rawhttp import fetch, user

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("read_file", "git")]
DESCRIBED = {
    "role": "system",
    "content": "Tools: read_file, git. Call one by a block:\n```tool_call\n{...}\n```",
}
SCRIPT = "Do this. #agent " + json.dumps(
    [
        {"text": "I look.", "calls": [{"name": "read_file", "arguments": {"path": "文件.txt"}}]},
        {"reasoning": "Both now.", "calls": [{"name": "git"}, {"name": "none", "arguments": "{"}]},
        {"text": "It says: $RESULT"},
        "And good-bye.",
    ]
)
ASKED: list[dict[str, Any]] = [{"role": "user", "content": SCRIPT}]


def request(messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": messages, "tools": TOOLS, "stream": False} | more


async def answered(server: Running, messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The model's message."""
    answer = (await fetch(server.port, request(messages, **more))).json()
    message: dict[str, Any] = answer["choices"][0]["message"]
    return message


def with_results(messages: list[dict[str, Any]], message: dict[str, Any]) -> list[dict[str, Any]]:
    """The conversation after the calls of a message have been made."""
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": f"result {number}"}
        for number, call in enumerate(message.get("tool_calls", []))
    ]
    return [*messages, message, *results]


async def test_each_call_of_the_model_answers_the_next_step(server: Running) -> None:
    first = await answered(server, ASKED)
    assert first["content"] == "I look."
    call = first["tool_calls"][0]["function"]
    assert (call["name"], json.loads(call["arguments"])) == ("read_file", {"path": "文件.txt"})
    messages = with_results(ASKED, first)
    second = await answered(server, messages)
    assert (second["content"], second["reasoning_content"]) == (None, "Both now.")
    made = [(c["function"]["name"], c["function"]["arguments"]) for c in second["tool_calls"]]
    assert made == [("git", "{}"), ("none", "{")]
    ids = [c["id"] for message in (first, second) for c in message["tool_calls"]]
    assert len(set(ids)) == 3
    messages = with_results(messages, second)
    third = await answered(server, messages)
    assert third["content"] == "It says: result 1"
    assert "tool_calls" not in third


async def test_the_same_conversation_gets_the_same_answer(server: Running) -> None:
    """A task that is asked again after a crash, and a fork, go on where the conversation ends."""
    assert await answered(server, ASKED) == await answered(server, ASKED)


async def test_a_stream_holds_the_text_and_then_the_calls_in_pieces(server: Running) -> None:
    raw = await fetch(server.port, request(ASKED, stream=True))
    deltas = [chunk["choices"][0]["delta"] for chunk in raw.chunks()]
    assert raw.text() == "I look."
    places = [index for index, delta in enumerate(deltas) if "tool_calls" in delta]
    texts = [index for index, delta in enumerate(deltas) if delta.get("content")]
    assert max(texts) < min(places)
    pieces = [deltas[index]["tool_calls"][0] for index in places]
    assert pieces[0]["function"] == {"name": "read_file", "arguments": ""}
    assert len(pieces) > 2
    assert json.loads("".join(p["function"]["arguments"] for p in pieces)) == {"path": "文件.txt"}
    assert raw.chunks()[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_steps_that_were_left_out_of_the_conversation_still_count(server: Running) -> None:
    first = await answered(server, ASKED)
    messages = with_results(ASKED, first)
    second = await answered(server, messages)
    shortened = [*ASKED, {"role": "user", "content": "Earlier: read_file was called."}]
    third = await answered(server, with_results(shortened, second))
    assert third["content"] == "It says: result 1"


async def test_a_later_message_gets_the_next_step_and_then_usual_answers(server: Running) -> None:
    turns = [{"role": "assistant", "content": str(number)} for number in range(4)]
    next_question = {"role": "user", "content": "Go on."}
    third = await answered(server, [*ASKED, *turns[:3], next_question])
    assert third["content"] == "And good-bye."
    after = await answered(server, [*ASKED, *turns, next_question])
    assert 'On "Go on' in after["content"]


async def test_the_latest_script_is_played(server: Running) -> None:
    other = {"role": "user", "content": '#agent ["other"]'}
    assert (await answered(server, [*ASKED, other]))["content"] == "other"


async def test_without_tools_a_script_is_a_text_as_any_other(server: Running) -> None:
    message = await answered(server, ASKED, tools=[])
    assert "[simulated answer]" in message["content"]


async def test_a_model_that_reads_of_its_tools_in_a_text_calls_them_as_text(
    server: Running,
) -> None:
    messages = [DESCRIBED, *ASKED]
    first = await answered(server, messages, tools=None)
    assert "tool_calls" not in first
    assert first["content"] == (
        'I look.\n\n```tool_call\n{"name":"read_file","arguments":{"path":"文件.txt"}}\n```'
    )
    result = {"role": "user", "content": "Result of read_file (call_1_0):\nthe text"}
    messages = [*messages, first, result]
    second = await answered(server, messages, tools=None)
    assert second["content"].count("```tool_call\n") == 2
    both = "Result of git (call_2_0):\nclean\n\nResult of none (call_2_1):\nthere is no such tool"
    messages = [*messages, second, {"role": "user", "content": both}]
    third = await answered(server, messages, tools=None)
    assert third["content"] == "It says: there is no such tool"


async def test_faults_of_the_prompt_hold_for_each_step(server: Running) -> None:
    asked = [{"role": "user", "content": f"[[sim:cut at=4 x1]] {SCRIPT}"}]
    raw = await fetch(server.port, request(asked, stream=True))
    assert raw.events()[-1] != "[DONE]"
    pieces = [d for c in raw.chunks() if (d := c["choices"][0]["delta"]).get("tool_calls")]
    assert len(pieces) == 1  # of the three tokens of the text none is missing
    assert (await answered(server, asked))["content"] == "I look."


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("#agent [", "not JSON"),
        ("#agent [3]", "step 1 must be"),
        ("#agent [{}]", "step 1 must be"),
        ('#agent [{"txt": "x"}]', "unknown field 'txt'"),
        ('#agent [{"text": 3}]', "text must be a text"),
        ('#agent [{"calls": "git"}]', "calls must be a list"),
        ('#agent [{"calls": [{"arguments": {}}]}]', "call 1 must be"),
        ('#agent [{"calls": [{"name": "git", "argv": []}]}]', "unknown field 'argv'"),
    ],
)
async def test_a_script_that_cannot_be_played_is_a_400(
    server: Running, script: str, problem: str
) -> None:
    raw = await fetch(server.port, user(script, tools=TOOLS))
    assert raw.status == 400
    assert problem in raw.json()["error"]["message"]
