"""`litellm` as it comes, against the service's process. Opt-in: `pytest -m release`."""

import asyncio
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.flows.process import Remote
from tests.release.conftest import TOKEN

pytestmark = [
    pytest.mark.release,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("default"),
]
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        },
    },
}
CALLED = '{"city":"simulated","days":1}'


@pytest.fixture(scope="module")
def litellm() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the network
        pytest.importorskip("litellm", reason="pip install '.[release]'")
        found = import_module("litellm")
    # A Responses API stream of a name that it does not know is made up of the whole answer.
    known = {"litellm_provider": "openai", "mode": "chat", "supports_native_streaming": True}
    found.register_model({"openai/fast": known})
    return found


@pytest.fixture
def at(remote: Remote) -> dict[str, Any]:
    """What each call of litellm needs to come to the service."""
    return {
        "api_base": f"{remote.url}/v1",
        "api_key": TOKEN,
        "num_retries": 0,
        "max_retries": 0,
        "model": "openai/fast",
    }


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def test_a_question(litellm: Any, at: dict[str, Any]) -> None:
    answers = [
        litellm.completion(**at, messages=user("What is HTTP?"), temperature=0.3, user="me"),
        await litellm.acompletion(**at, messages=user("What is HTTP?"), max_tokens=100),
    ]
    for answer in answers:
        assert answer.choices[0].message.content
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.completion_tokens == 12


async def test_a_stream_with_usage(litellm: Any, at: dict[str, Any]) -> None:
    asked = at | {"messages": user("Tell me. [[sim:tokens=30]]"), "stream": True}
    asked |= {"stream_options": {"include_usage": True}}
    found = [list(litellm.completion(**asked))]
    found.append([piece async for piece in await litellm.acompletion(**asked)])
    for pieces in found:
        text = "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
        assert len(text) > 50
        assert pieces[-1].usage.completion_tokens == 30
        assert litellm.stream_chunk_builder(pieces).choices[0].message.content == text


async def test_tool_calls_there_and_back(litellm: Any, at: dict[str, Any]) -> None:
    asked = user("How is it there? [[sim:calls=2]]")
    answer = litellm.completion(**at, messages=asked, tools=[TOOL], tool_choice="auto").choices[0]
    assert answer.finish_reason == "tool_calls"
    calls = answer.message.tool_calls
    assert [call.function.arguments for call in calls] == [CALLED] * 2
    results = [{"role": "tool", "tool_call_id": c.id, "content": "fine"} for c in calls]
    history = [*asked, answer.message, *results]
    after = await litellm.acompletion(**at, messages=history, tools=[TOOL])
    assert after.choices[0].message.content
    assert not after.choices[0].message.tool_calls


async def test_tool_calls_of_a_stream(litellm: Any, at: dict[str, Any]) -> None:
    asked = at | {"messages": user("[[sim:calls=2]] go"), "tools": [TOOL], "stream": True}
    pieces = [piece async for piece in await litellm.acompletion(**asked)]
    whole = litellm.stream_chunk_builder(pieces).choices[0]
    assert [c.function.arguments for c in whole.message.tool_calls] == [CALLED] * 2
    assert whole.finish_reason == "tool_calls"


async def test_embeddings(litellm: Any, at: dict[str, Any]) -> None:
    asked = at | {"model": "openai/embed", "input": ["one", "two"]}
    one = litellm.embedding(**asked)
    two = await litellm.aembedding(**asked, encoding_format="float")
    packed = await litellm.aembedding(**asked, encoding_format="base64")
    assert [row["index"] for row in one.data] == [0, 1]
    assert one.data[1]["embedding"] == pytest.approx(two.data[1]["embedding"], abs=1e-6)
    assert packed.data[0]["embedding"]
    assert one.usage.prompt_tokens > 0


async def test_responses(litellm: Any, at: dict[str, Any]) -> None:
    one = litellm.responses(**at, input="What is HTTP?", instructions="Be short.")
    two = await litellm.aresponses(**at, input="And TLS?", max_output_tokens=50)
    for answer in (one, two):
        assert answer.status == "completed"
        assert answer.output[0].content[0].text
        assert answer.usage.output_tokens == 12


async def test_responses_streamed(litellm: Any, at: dict[str, Any]) -> None:
    streams = [list(litellm.responses(**at, input="Tell me.", stream=True))]
    later = await litellm.aresponses(**at, input="Tell me more.", stream=True)
    streams.append([event async for event in later])
    for events in streams:
        answer = "".join(e.delta for e in events if e.type == "response.output_text.delta")
        assert [event.type for event in events[:2]] == ["response.created", "response.queued"]
        assert events[-1].type == "response.completed"
        assert events[-1].response.output[0].content[0].text == answer


async def test_a_background_response_is_fetched_and_cancelled(
    litellm: Any, at: dict[str, Any]
) -> None:
    made = await litellm.aresponses(
        **at, input="Tell me. [[sim:rate=5]][[sim:tokens=200]]", background=True
    )
    where = {"api_base": at["api_base"], "api_key": TOKEN, "custom_llm_provider": "openai"}
    assert made.status in ("queued", "in_progress")
    fetched = await litellm.aget_responses(response_id=made.id, **where)
    assert fetched.id == made.id
    assert fetched.status in ("queued", "in_progress")
    ended = await litellm.acancel_responses(response_id=made.id, **where)
    assert ended.status == "cancelled"
    gone = await litellm.adelete_responses(response_id=made.id, **where)
    assert gone.deleted


async def test_a_tool_call_over_responses(litellm: Any, at: dict[str, Any]) -> None:
    tool = {"type": "function"} | TOOL["function"]
    answer = await litellm.aresponses(**at, input="How is it? [[sim:calls=1]]", tools=[tool])
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [call.arguments for call in calls] == [CALLED]


async def test_a_chat_over_responses(litellm: Any, at: dict[str, Any]) -> None:
    asked = at | {"model": "openai/responses/fast", "stream": True}
    answer = await litellm.acompletion(**(asked | {"messages": user("Tell me.")}))
    assert (
        litellm.stream_chunk_builder([piece async for piece in answer]).choices[0].message.content
    )
    calling = asked | {"messages": user("[[sim:calls=2]] go"), "tools": [TOOL]}
    pieces = [piece async for piece in await litellm.acompletion(**calling)]
    message = litellm.stream_chunk_builder(pieces).choices[0].message
    assert [call.function.arguments for call in message.tool_calls] == [CALLED] * 2


async def test_failures_are_the_librarys_own_exceptions(litellm: Any, at: dict[str, Any]) -> None:
    asked = at | {"messages": user("x")}
    faults: list[tuple[dict[str, Any], Any]] = [
        ({"api_key": "wrong"}, litellm.AuthenticationError),
        ({"model": "openai/nothing"}, litellm.NotFoundError),
        ({"temperature": "hot"}, litellm.BadRequestError),
        ({"messages": user("[[sim:400]]")}, litellm.BadRequestError),
        ({"messages": user("[[sim:empty]]")}, litellm.BadGatewayError),
        ({"messages": user("[[sim:503]]")}, litellm.ServiceUnavailableError),
        ({"messages": user("[[sim:429-after=9]]")}, litellm.RateLimitError),
    ]
    for change, kind in faults:
        brief = {} if "api_key" in change else {"extra_body": {"timeout_s": 0.4}}
        with pytest.raises(kind):
            await litellm.acompletion(**(asked | change | brief))


async def test_a_model_of_the_settings_and_a_route(litellm: Any, at: dict[str, Any]) -> None:
    asked = [at | {"model": name} for name in ("openai/auto", "openai/auto:reasoning")]
    answers = await asyncio.gather(
        *(litellm.acompletion(**each, messages=user("What is HTTP?")) for each in asked)
    )
    assert all(answer.choices[0].message.content for answer in answers)


async def test_a_batch_over_a_file(litellm: Any, at: dict[str, Any], tmp_path: Path) -> None:
    where = {"api_base": at["api_base"], "api_key": TOKEN, "custom_llm_provider": "openai"}
    lines = tmp_path / "lines.jsonl"
    body = {"model": "fast", "messages": user("What is HTTP?")}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    lines.write_text("".join(json.dumps(line | {"custom_id": f"{n}"}) + "\n" for n in range(3)))
    with lines.open("rb") as opened:
        file = await litellm.acreate_file(file=opened, purpose="batch", **where)
    batch = await litellm.acreate_batch(
        completion_window="24h", endpoint=line["url"], input_file_id=file.id, **where
    )
    async with asyncio.timeout(60):
        while batch.status != "completed":
            await asyncio.sleep(0.1)
            batch = await litellm.aretrieve_batch(batch_id=batch.id, **where)
    found = await litellm.afile_content(file_id=batch.output_file_id, **where)
    answers = [json.loads(each) for each in found.content.splitlines()]
    assert sorted(answer["custom_id"] for answer in answers) == ["0", "1", "2"]
