"""How many tokens a text is, without a tokenizer.

Owns the estimate: a CJK character is about 0.65 tokens, other text a token for four
characters [Moonshot and OpenAI documentation]. Never claims to be exact: what it fills in is
marked as estimated.
"""

import math
from collections.abc import Iterator
from typing import Any

import orjson

ANSWER = 512
"""Tokens of an answer for which the request sets no limit."""
MESSAGE = 4
"""What the framing of one message costs [OpenAI cookbook, counting tokens]."""
LOOKED_AT = 16_384
"""Characters. Of a longer text a sample is looked at: ten megabytes would take half a second."""
MARGIN = 1.15


def estimate(text: str) -> int:
    """About how many tokens; at least 1 for any text."""
    return max(1, round(_weight(text))) if text else 0


def _weight(text: str) -> float:
    """Told by bytes, which is fast: what is wide takes three of them in UTF-8, not one."""
    if text.isascii():
        return len(text) / 4
    sample = text[:: len(text) // LOOKED_AT + 1]
    wide = (len(sample.encode(errors="replace")) / len(sample) - 1) / 2
    return len(text) * (wide * 0.65 + (1 - wide) / 4)


def expected(body: dict[str, Any]) -> tuple[int, int]:
    """Of a task's call, about: the context that it needs, with a margin of 15 % on the texts; and
    how many tokens it costs, of what is asked and the most of the answer."""
    params = body["params"]
    if "content" in body:
        weight = _weight(body["content"])
        asked = max(1, round(weight)) + MESSAGE + _answer(params)
    else:
        texts = list(_texts(body))
        weight = sum(map(_weight, texts))
        asked = sum(map(estimate, texts))
        if "input" in body:
            asked = max(asked, 1)
        else:
            asked += MESSAGE * len(texts) + _answer(params)
    return math.ceil(weight * MARGIN) + _room(params), asked


def of_prompt(messages: list[dict[str, Any]], params: dict[str, Any]) -> int:
    """Of what a chat call is given, about: its messages and the description of its tools."""
    said = sum(estimate(text) + MESSAGE for text in _texts({"messages": messages}))
    calls = [call for one in messages for call in one.get("tool_calls") or []]
    given = [value for name in ("tools", "response_format") if (value := params.get(name))]
    return said + sum(estimate(orjson.dumps(one).decode()) for one in [*calls, *given])


def _room(params: dict[str, Any]) -> int:
    """How long the answer may become, as far as the request says so."""
    for name in ("max_tokens", "max_completion_tokens") if params else ():
        if isinstance(value := params.get(name), int):
            return max(value, 0)
    return 0


def _answer(params: dict[str, Any]) -> int:
    """The most of the answer, as far as the request says so."""
    for name in ("max_completion_tokens", "max_tokens") if params else ():
        limit = params.get(name)
        if type(limit) is int and 0 < limit < 1 << 31:
            return limit
    return ANSWER


def _texts(body: dict[str, Any]) -> Iterator[str]:
    for message in body.get("messages") or []:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        found = (part.get("text") for part in parts if isinstance(part, dict))
        yield from (text for text in found if isinstance(text, str))
    texts: str | list[str] = body.get("input") or []
    yield from [texts] if isinstance(texts, str) else texts


def total(usage: dict[str, Any] | None, otherwise: int) -> int:
    """All tokens of a call by its usage, or what it was taken for where that does not say."""
    found = (usage or {}).get("total_tokens")
    return found if type(found) is int and 0 <= found < 1 << 31 else otherwise


def estimated_usage(asked: str, answered: str) -> dict[str, Any]:
    """Usage for a provider that does not report it."""
    prompt, completion = estimate(asked), estimate(answered)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "estimated": True,
    }
