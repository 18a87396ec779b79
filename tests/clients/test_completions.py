"""The legacy completions of OpenAI's API."""

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.clients import strict
from tests.clients.asking import frames
from tests.clients.scripted_provider import ScriptedProvider
from tests.web.serving import Service, expect, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATH = "/v1/completions"


async def complete(service: Service, **body: Any) -> dict[str, Any]:
    answer = await service.http.post(PATH, json={"model": "fast"} | body)
    return strict.text(expect(answer, 200))


def texts(found: dict[str, Any]) -> list[str]:
    return [choice["text"] for choice in found["choices"]]


async def test_a_prompt_is_one_user_message(service: Service, provider: ScriptedProvider) -> None:
    provider.plan({"text": " a protocol."})
    found = await complete(service, prompt="HTTP is", max_tokens=9, best_of=1, logprobs=None,
                           suffix="", presence_penalty=0, user="u")  # fmt: skip
    assert provider.asked[0]["messages"] == [{"role": "user", "content": "HTTP is"}]
    assert provider.asked[0]["max_tokens"] == 9
    assert (texts(found), found["choices"][0]["finish_reason"]) == ([" a protocol."], "stop")
    assert found["usage"]["total_tokens"] == 25
    assert (await complete(service, prompt="HTTP is", echo=True))["choices"][0]["text"] == (
        "HTTP isok"
    )


async def test_several_prompts_are_several_tasks(
    service: Service, provider: ScriptedProvider
) -> None:
    provider.plan(*({"text": "same"} for _ in range(3)))
    found = await complete(service, prompt=["a", "b", "c"], echo=True)
    assert texts(found) == ["asame", "bsame", "csame"]
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2]
    assert found["usage"] == {"prompt_tokens": 60, "completion_tokens": 15, "total_tokens": 75}


@pytest.mark.parametrize("prompts", [1, 3])
async def test_a_stream_joined_is_the_texts(
    service: Service, provider: ScriptedProvider, prompts: int
) -> None:
    provider.plan(*({"text": "Hello there."} for _ in range(prompts)))
    body = {"model": "fast", "prompt": ["x"] * prompts, "stream": True,
            "stream_options": {"include_usage": True}}  # fmt: skip
    answer = await service.http.post(PATH, json=body)
    assert answer.text.endswith("data: [DONE]\n\n")
    assert answer.text.count("[DONE]") == 1
    chunks = [strict_chunk(one) for one in frames(answer)]
    for index in range(prompts):
        own = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        assert "".join(one["text"] for one in own) == "Hello there."
        assert [one["finish_reason"] for one in own if one["finish_reason"]] == ["stop"]
    [usage] = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert usage["total_tokens"] == 25 * prompts


def strict_chunk(value: dict[str, Any]) -> dict[str, Any]:
    """All but the finish reason, which the SDK's type does not let be null in a stream."""
    assert value["object"] == "text_completion"
    assert value["id"].startswith("cmpl-")
    return value


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1], [2]]}, "prompt"),
        ({"prompt": ["x"] * 101}, "prompt"),
        ({"n": 2}, "n"),
        ({"best_of": 3}, "best_of"),
        ({"logprobs": 5}, "logprobs"),
        ({"suffix": "end"}, "suffix"),
        ({"echo": "yes"}, "echo"),
        ({"max_tokens": "x"}, "max_tokens"),
        ({"model": None}, "model"),
    ],
)
async def test_what_cannot_be_done_is_refused(
    service: Service, more: dict[str, Any], param: str
) -> None:
    answer = await service.http.post(PATH, json={"model": "fast", "prompt": "x"} | more)
    assert refused(answer, 400, "invalid_request")["param"] == param


async def test_one_failure_fails_them_all(service: Service, provider: ScriptedProvider) -> None:
    wrong = {"status": 400, "error": {"message": "no", "type": "invalid_request_error"}}
    for stream in (False, True):
        provider.plan({"text": "ok"}, wrong, {"text": "ok"})
        body = {"model": "fast", "prompt": ["a", "b", "c"], "stream": stream}
        answer = await service.http.post(PATH, json=body)
        if answer.status_code == 200:
            assert stream
            assert "upstream_rejected" in answer.text
            assert "[DONE]" not in answer.text
        else:
            refused(answer, 400, "upstream_rejected")


async def test_the_sdk_does_both(service: Service, provider: ScriptedProvider) -> None:
    provider.plan({"text": "one"}, {"text": "two"})
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key="any", max_retries=0) as sdk:
        whole = await sdk.completions.create(model="fast", prompt="x", max_tokens=5)
        assert whole.choices[0].text == "one"
        stream = await sdk.completions.create(model="fast", prompt="x", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "two"
        with pytest.raises(openai.NotFoundError):
            await sdk.completions.create(model="none", prompt="x")
