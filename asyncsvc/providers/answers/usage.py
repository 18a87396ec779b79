"""The usage of a chat call: counts of tokens in the shapes that providers send.

Owns the names and the reading of counts. Promises whole numbers above or equal to zero, a total
that is at least their sum, and that what is missing or impossible is estimated and marked with
`estimated`. Never counts text by itself.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from asyncsvc.providers.tokens import estimated_usage

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


def updated(before: dict[str, Any] | None, given: Mapping[str, Any]) -> dict[str, Any] | None:
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


def completed(usage: dict[str, Any] | None, asked: str, answered: str) -> dict[str, Any]:
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
