"""From what came to what is wrong with it, in words.

Never decides what is right: that stands in the case.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.wild.doors import Answer
from tests.wild.provider import Request

Object = dict[str, Any]

AT_V1 = {
    "context_too_long": "context_length_exceeded",
    "content_filtered": "content_filter",
    "model_gone": "model_not_found",
    "rate_limited": "rate_limit_exceeded",
    "quota_exhausted": "insufficient_quota",
}
"""Codes of the contract that /v1 calls by OpenAI's name."""
OF_CASE = frozenset({"calls", "sent", "model", "memory"})
"""Keys of `expect` that are about the case and not about one answer."""


@dataclass(frozen=True)
class Outcome:
    """Everything that one run left behind."""

    answers: Sequence[tuple[str, Answer]]
    """By name, in the order in which they were asked for."""
    requests: Sequence[Request]
    enabled: bool | None
    growth_mb: float | None


def judge(expect: Object, door: str, outcome: Outcome) -> list[str]:
    """What does not hold; empty where all does."""
    found: list[str] = []
    for name, answer in outcome.answers:
        wanted = expect.get(name, expect.get("*"))
        choices = wanted if isinstance(wanted, list) else [wanted or {}]
        faults = [_answer(choice, door, answer) for choice in choices]
        if all(faults):
            found += [f"{name}: {' OR '.join('; '.join(f) for f in faults)} ({_shown(answer)})"]
    if "calls" in expect:
        found += _calls(expect["calls"], outcome.requests)
    for path, value in expect.get("sent", {}).items():
        got = _at(outcome.requests[-1].json, path) if outcome.requests else None
        if got != value:
            found.append(f"sent {path}: wanted {value!r}, the provider got {got!r}")
    if "model" in expect and outcome.enabled != expect["model"]["enabled"]:
        found.append(f"model enabled: wanted {expect['model']['enabled']}, is {outcome.enabled}")
    limit = expect.get("memory", {}).get("max_growth_mb", math.inf)
    if outcome.growth_mb is not None and outcome.growth_mb > limit:
        found.append(f"memory grew by {outcome.growth_mb:.0f} MB, at most {limit} are allowed")
    return found


def _shown(answer: Answer) -> str:
    parts = [answer.status, f"{answer.seconds:.1f} s"]
    parts += [f"HTTP {answer.http}"] if answer.http else []
    parts += [f"{answer.error_code}: {answer.message[:200]}"] if answer.error_code else []
    return ", ".join(parts)


def _answer(wanted: Object, door: str, answer: Answer) -> list[str]:
    found = list(answer.faults)
    for name, value in wanted.items():
        found += CHECKS[name](value, door, answer)
    ids = [call.get("id") for call in answer.tool_calls]
    if not all(isinstance(i, str) and i for i in ids) or len(set(map(str, ids))) < len(ids):
        found.append(f"each tool call needs an id of its own, came {ids!r}")
    return found


def _same(name: str, wanted: Any, got: Any) -> list[str]:
    choices = wanted if isinstance(wanted, list) else [wanted]
    return [] if got in choices else [f"{name}: wanted {wanted!r}, came {got!r}"]


def _text(name: str) -> Any:
    def check(wanted: Any, door: str, answer: Answer) -> list[str]:
        choices = wanted if isinstance(wanted, list) else [wanted]
        got = getattr(answer, name) or ""
        return [] if got in [c or "" for c in choices] else [_differs(name, wanted, got)]

    return check


def _differs(name: str, wanted: Any, got: str) -> str:
    return f"{name}: wanted {wanted!r}, came {got[:300]!r}"


def _finish(wanted: Any, door: str, answer: Answer) -> list[str]:
    return [] if door == "tasks" else _same("finish_reason", wanted, answer.finish_reason)


def _code(wanted: Any, door: str, answer: Answer) -> list[str]:
    choices = wanted if isinstance(wanted, list) else [wanted]
    if door != "tasks" and answer.status != "refused":
        choices = [AT_V1.get(code, code) for code in choices]
    return _same("error_code", choices, answer.error_code)


def _tools(wanted: list[Object], door: str, answer: Answer) -> list[str]:
    got = answer.tool_calls
    if len(got) != len(wanted):
        return [f"tool_calls: wanted {len(wanted)}, came {json.dumps(got, ensure_ascii=False)}"]
    found = []
    for number, (one, call) in enumerate(zip(wanted, got, strict=True)):
        function = call["function"]
        found += _same(f"tool_calls[{number}].name", one["name"], function["name"])
        try:
            arguments = json.loads(function["arguments"] or "{}")
        except ValueError:
            arguments = function["arguments"]
        if arguments != one["arguments"]:
            found.append(
                f"tool_calls[{number}].arguments: wanted {one['arguments']!r}, "
                f"came {function['arguments']!r}"
            )
        free = one.get("id_free_in_stream") and door == "chat_stream"
        if "id" in one and not free:
            found += _same(f"tool_calls[{number}].id", one["id"], call.get("id"))
        if not _within(one.get("extra", {}), call):
            found.append(f"tool_calls[{number}]: lacks {one['extra']!r}, came {call!r}")
    return found


def _within(wanted: Any, got: Any) -> bool:
    """Whether all that is wanted is there; more may be."""
    if isinstance(wanted, Mapping):
        return isinstance(got, Mapping) and all(_within(v, got.get(k)) for k, v in wanted.items())
    return bool(wanted == got)


def _usage(wanted: list[int], door: str, answer: Answer) -> list[str]:
    got = answer.usage
    if got is None:
        return [f"usage: wanted {wanted}, came none"]
    if door == "embeddings":
        wanted, got = [wanted[0], wanted[2]], [got[0], got[2]]
    exact = all(isinstance(n, int) and not isinstance(n, bool) for n in got)
    return [] if exact and got == wanted else [f"usage: wanted {wanted}, came {got}"]


def _usage_min(wanted: list[int], door: str, answer: Answer) -> list[str]:
    got = answer.usage or []
    for least, number in zip(wanted, got or [None] * 3, strict=True):
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            return [f"usage: wanted at least {wanted}, came {got}"]
    return []


def _usage_estimated(wanted: bool, door: str, answer: Answer) -> list[str]:
    above = bool(answer.usage) and all(isinstance(n, int) and n > 0 for n in answer.usage or ())
    if above and answer.estimated == wanted:
        return []
    return [f"usage: wanted numbers above 0 marked as estimated, came {answer.usage}, "
            f"estimated {answer.estimated}"]  # fmt: skip


def _has(wanted: Iterable[str], door: str, answer: Answer) -> list[str]:
    return [
        f"message: wanted {text!r} in {answer.message[:300]!r}"
        for text in _list(wanted)
        if text.lower() not in answer.message.lower()
    ]


def _has_any(wanted: Iterable[str], door: str, answer: Answer) -> list[str]:
    if any(text.lower() in answer.message.lower() for text in _list(wanted)):
        return []
    return [f"message: wanted one of {wanted!r} in {answer.message[:300]!r}"]


def _lacks(wanted: Iterable[str], door: str, answer: Answer) -> list[str]:
    return [
        f"message: {text!r} must not be in {answer.message[:300]!r}"
        for text in _list(wanted)
        if text.lower() in answer.message.lower()
    ]


def _contains(wanted: Any, door: str, answer: Answer) -> list[str]:
    return [
        f"answer: wanted {text!r} in it"
        for text in _list(wanted)
        if text not in answer.raw and json.dumps(text)[1:-1] not in answer.raw
    ]


def _vectors(wanted: Any, door: str, answer: Answer) -> list[str]:
    return [] if answer.vectors == wanted else [f"vectors: wanted {wanted}, came {answer.vectors}"]


def _within_s(wanted: float, door: str, answer: Answer) -> list[str]:
    if answer.seconds <= wanted:
        return []
    return [f"took {answer.seconds:.1f} s, at most {wanted} are allowed"]


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


CHECKS: dict[str, Any] = {
    "status": lambda wanted, door, answer: _same("status", wanted, answer.status),
    "http": lambda wanted, door, answer: _same("http", wanted, answer.http),
    "text": _text("text"),
    "reasoning": _text("reasoning"),
    "finish_reason": _finish,
    "error_code": _code,
    "tool_calls": _tools,
    "usage": _usage,
    "usage_min": _usage_min,
    "usage_estimated": _usage_estimated,
    "message_has": _has,
    "message_has_any": _has_any,
    "message_lacks": _lacks,
    "contains": _contains,
    "vectors": _vectors,
    "within_s": _within_s,
}


def _calls(wanted: Object, requests: Sequence[Request]) -> list[str]:
    found = []
    count = len(requests)
    if count > wanted.get("max", math.inf):
        found.append(f"calls: at most {wanted['max']} are allowed, came {count}")
    if count < wanted.get("min", 0):
        found.append(f"calls: at least {wanted['min']} are wanted, came {count}")
    if "min_gap_s" in wanted:
        gap = requests[1].at - requests[0].at if count > 1 else 0.0
        if gap < wanted["min_gap_s"]:
            found.append(f"calls: wanted {wanted['min_gap_s']} s between the first two, {gap:.2f}")
    if with_text := wanted.get("max_with"):
        held = sum(with_text["text"].encode() in request.body for request in requests)
        if held > with_text["max"]:
            found.append(f"calls with {with_text['text']!r}: at most {with_text['max']}, {held}")
    return found


def _at(value: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value
