"""How many tokens a text is, without a tokenizer.

Owns the estimate: a CJK character is about 0.65 tokens, other text a token for four
characters [Moonshot and OpenAI documentation]. Never claims to be exact: what it fills in is
marked as estimated.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

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


def expected(body: dict[str, Any]) -> int:
    """About how many tokens a task's call costs: what is asked, and the most of the answer."""
    if "content" in body:
        return estimate(body["content"]) + MESSAGE + _answer(body["params"])
    texts = list(_texts(body))
    asked = sum(estimate(text) for text in texts)
    if "input" in body:
        return max(asked, 1)
    return asked + MESSAGE * len(texts) + _answer(body["params"])


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


def context_needed(texts: Iterable[str], max_tokens: int) -> int:
    """Tokens of context for texts and answer, with a margin of 15 % on the estimate."""
    return math.ceil(sum(map(_weight, texts)) * MARGIN) + max_tokens


def estimated_usage(asked: str, answered: str) -> dict[str, Any]:
    """Usage for a provider that does not report it."""
    prompt, completion = estimate(asked), estimate(answered)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "estimated": True,
    }
