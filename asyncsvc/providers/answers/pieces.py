"""One message of an answer, or a piece of one, read into plain values.

Owns the names of fields and the kinds of content parts: what is text, thinking, refusal or a tool
call, and which fields are kept unread for the next turn. Promises that no shape raises. Never
compares a piece with another one.
"""

from typing import Any, NamedTuple

from asyncsvc.providers.answers import finish_reasons as finish

Object = dict[str, Any]
THINKING = ("reasoning_content", "reasoning", "thinking", "reasoning_text")
"""The names of a text of thinking."""
TEXT_FIELDS = frozenset({"content", *THINKING})
READ = frozenset({"role", "content", "refusal", "tool_calls", "function_call", *THINKING})
UNKEPT = frozenset({"token_ids", "prompt_token_ids", "logprobs", "usage", "error", *finish.FIELDS})
"""Diagnostics of each token, which no next turn needs and which are larger than the answer; and
what is read elsewhere."""
OF_FRAME = ("citations", "search_results")
"""Fields of a message that some providers put beside the choices."""

TEXTS = frozenset({"text", "output_text", "input_text", "text_delta", "markdown"})
THOUGHTS = frozenset({"thinking", "reasoning", "reasoning_text", "thinking_delta", "thought"})
IMAGES = frozenset({"image_url", "image", "output_image", "input_image"})
PLAIN_THOUGHT = frozenset({"type", "text", "thinking", "reasoning", "summary", "closed", "index"})
"""What a part of thinking holds beside a signature."""
PLAIN_CHOICE = frozenset({"index", "delta", "finish_reason", "logprobs"})


class Piece(NamedTuple):
    """What one message or delta holds."""

    text: str
    thoughts: list[tuple[str, str]]
    """(field, text), each text once."""
    refusal: str
    calls: list[Any]
    """Tool calls, unread."""
    fields: Object
    """The fields that are kept for the next turn."""


def read(message: Object) -> Piece:
    """The values of a message or of a delta."""
    fields = {
        name: message[name] for name in message.keys() - READ - UNKEPT if message[name] is not None
    }
    thoughts: list[tuple[str, str]] = []
    for name in THINKING:
        value = message.get(name)
        if isinstance(value, str):
            if value and value not in (text for _, text in thoughts):
                thoughts.append((name, value))
        elif inner := _text(value):
            thoughts.append((name, inner))
        elif value and not isinstance(value, bool):
            fields[name] = value
    text, refusal = message.get("content"), message.get("refusal")
    refusal = refusal if isinstance(refusal, str) else ""
    if not isinstance(text, str):
        text, thought, refused, kept = _parts(text)
        refusal = refusal or refused
        fields |= kept
        if thought:
            thoughts.append(("parts", thought))
    if refusal and text == refusal:
        text = ""  # for clients that read the content alone
    calls = message.get("tool_calls")
    calls = calls if isinstance(calls, list) else [calls] if calls else []
    if not calls and isinstance(message.get("function_call"), dict):
        calls = [{"function": message["function_call"]}]  # the older kind
    return Piece(text, thoughts, refusal, calls, fields)


def joined(texts: list[str]) -> str:
    """The texts as one; the list then holds it alone, so that the next time is cheap."""
    if len(texts) > 1:
        texts[:] = ["".join(texts)]
    return texts[0] if texts else ""


def plain(chunk: Any) -> tuple[str, str] | None:
    """(field, text) of a frame that has one text and nothing else, as nearly all have; None for
    any other frame."""
    try:
        (choice,) = chunk["choices"]
        delta = choice["delta"]
        if choice.get("finish_reason") is not None or choice.get("index", 0) != 0:
            return None
        if chunk.get("usage") or chunk.get("error"):
            return None
        found = None
        for name, value in delta.items():
            if value and name != "role":
                if found is not None or name not in TEXT_FIELDS:
                    return None
                found = name, value
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    if found is None or type(found[1]) is not str:
        return None
    return found if len(choice) < 4 or choice.keys() <= PLAIN_CHOICE else None


def _parts(content: Any) -> tuple[str, str, str, dict[str, list[Any]]]:
    """(text, thinking, refusal, other parts by the field that keeps them) of content in parts."""
    texts, thoughts, refusals = list[str](), list[str](), list[str]()
    kept: dict[str, list[Any]] = {}
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            kind = part.get("type")
            if kind in TEXTS or (kind is None and "text" in part):
                texts.append(_text(part.get("text")))
            elif kind in THOUGHTS:
                thoughts.append(_thought(part))
                if part.keys() - PLAIN_THOUGHT:
                    kept.setdefault("content_parts", []).append(part)
            elif kind == "refusal":
                refusals.append(_text(part.get("refusal") or part.get("text")))
            elif kind is not None:
                kept.setdefault("images" if kind in IMAGES else "content_parts", []).append(part)
    return "".join(texts), "".join(thoughts), "".join(refusals), kept


def _thought(part: Object) -> str:
    for name in ("thinking", "reasoning", "text", "summary"):
        if found := _text(part.get(name)):
            return found
    return ""


def _text(value: Any) -> str:
    """The text of a part: a string, an object around one, or a list of either."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_text(each) for each in value if isinstance(each, str | dict))
    if isinstance(value, dict):
        inner = value.get("text", value.get("value"))
        return inner if isinstance(inner, str) else ""
    return ""
