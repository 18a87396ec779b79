"""Counts of tokens: the usage that providers report, and estimates without a tokenizer.

Owns the names and the reading of counts, and the estimate: a CJK character is about 0.65 tokens,
other text a token for four characters [Moonshot and OpenAI documentation]. Promises whole numbers
above or equal to zero, a total that is at least their sum, and that what is missing or impossible
is estimated and marked with `estimated`.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
    """The estimate by bytes, which is fast: a wide character takes three of them in UTF-8."""
    if text.isascii():
        return len(text) / 4
    sample = text[:: len(text) // LOOKED_AT + 1]
    wide = (len(sample.encode(errors="replace")) / len(sample) - 1) / 2
    return len(text) * (wide * 0.65 + (1 - wide) / 4)


def expected(body: dict[str, Any]) -> tuple[int, int]:
    """An estimate for a task's call: (context in tokens, with a margin of 15 % on the texts; tokens
    that the call costs: the request and the longest answer)."""
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
    return math.ceil(weight * MARGIN) + room_of_answer(params), asked


def of_prompt(messages: list[dict[str, Any]], params: dict[str, Any]) -> int:
    """An estimate of a chat call's prompt in tokens: messages, with the thinking and the calls that
    are sent back, and descriptions of tools."""
    count = sum(estimate(text) + MESSAGE for text in _texts({"messages": messages}))
    thoughts = [one.get("reasoning_content") for one in messages]
    count += sum(estimate(text) for text in thoughts if isinstance(text, str))
    calls = [call for one in messages for call in one.get("tool_calls") or []]
    given = [value for name in ("tools", "response_format") if (value := params.get(name))]
    return count + sum(estimate(orjson.dumps(one).decode()) for one in [*calls, *given])


def room_of_answer(params: dict[str, Any]) -> int:
    """The longest answer in tokens that the request allows; 0 where the request sets no limit."""
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


def of_body(body: dict[str, Any]) -> tuple[int, int]:
    """The texts of a task's body: bytes, and about how many tokens."""
    texts = [body["content"]] if "content" in body else list(_texts(body))
    return sum(len(t.encode(errors="replace")) for t in texts), sum(map(estimate, texts))


def total(usage: dict[str, Any] | None, otherwise: int) -> int:
    """All tokens of a call by its usage; `otherwise` where the usage does not say."""
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


def summed(usages: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The usage of several calls as one, estimated where one of them is; None for no call."""
    if len(usages) < 2:
        return usages[0] if usages else None
    counts: Counter[str] = Counter()
    for each in usages:
        counts.update({name: n for name, n in each.items() if type(n) is int})
    estimated = any(each.get("estimated") for each in usages)
    return dict(counts) | ({"estimated": True} if estimated else {})


PROMPT, COMPLETION, TOTAL = "prompt_tokens", "completion_tokens", "total_tokens"
NAMES: Mapping[str, tuple[str, ...]] = {
    PROMPT: (PROMPT, "input_tokens", "prompt_token_count", "promptTokenCount", "inputTokens"),
    COMPLETION: (
        COMPLETION,
        "output_tokens",
        "candidates_token_count",
        "candidatesTokenCount",
        "outputTokens",
    ),
    TOTAL: (TOTAL, "total_token_count", "totalTokenCount", "totalTokens"),
}
"""The names of each count; the first with a usable value is taken."""
MOST = 1 << 31
DETAIL_BYTES = 16 * 1024
"""Room for what a report holds beside the counts."""


def updated_usage(before: dict[str, Any] | None, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """The usage after one more report. A later report wins for the counts that it has; a zero
    never replaces a count, for a provider may close a stream with zeros."""
    held = before or {}
    counts = {}
    for name, spellings in NAMES.items():
        found = [count for each in spellings if (count := _count(given.get(each))) is not None]
        best = max(found, default=None)
        if best is not None and (best or not held.get(name)):
            counts[name] = best
    more = {
        key: value
        for key, value in given.items()
        if key not in NAMES and key != "estimated" and value is not None
    }
    if not _fits(more):
        more = {}
    return (held | more | counts) or None


def counted(usage: Mapping[str, Any] | None) -> bool:
    """Whether a provider has reported any tokens."""
    return usage is not None and any(usage.get(name) for name in NAMES)


def completed_usage(usage: dict[str, Any] | None, asked: str, answered: str) -> dict[str, Any]:
    """The usage with all three counts. `asked` and `answered` are the texts to estimate from."""
    estimate = estimated_usage(asked, answered)
    if not counted(usage):
        return (usage or {}) | estimate
    usage = dict(usage or {})
    prompt, completion, total = usage.get(PROMPT), usage.get(COMPLETION), usage.get(TOTAL) or 0
    prompt = prompt or None  # there is no request of no tokens
    completion = None if not completion and answered else completion
    if completion is None and prompt is not None and total > prompt:
        completion = total - prompt
    elif prompt is None and completion and total > completion:
        prompt = total - completion
    if prompt is None or completion is None:
        usage["estimated"] = True
    if completion is None:
        completion = min(estimate[COMPLETION], total or MOST)
    if prompt is None:
        prompt = max(total - completion, 0) or estimate[PROMPT]
    return usage | {PROMPT: prompt, COMPLETION: completion, TOTAL: max(total, prompt + completion)}


def _count(value: Any) -> int | None:
    """A count as a whole number; None where it is none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return round(value) if 0 <= value < MOST else None  # NaN is in no range


def _fits(value: dict[str, Any]) -> bool:
    """Whether it can be stored, and is small."""
    try:
        return len(orjson.dumps(value)) <= DETAIL_BYTES
    except TypeError:
        return False
