"""The content of a message in parts.

Owns which part is text, thinking or refusal, and which is kept as it is. Promises that no shape
raises. Never joins what came in different frames.
"""

from typing import Any, NamedTuple

TEXTS = frozenset({"text", "output_text", "input_text", "text_delta", "markdown"})
THOUGHTS = frozenset({"thinking", "reasoning", "reasoning_text", "thinking_delta", "thought"})
IMAGES = frozenset({"image_url", "image", "output_image", "input_image"})
PLAIN = frozenset({"type", "text", "thinking", "reasoning", "summary", "closed", "index"})
"""What a part of thinking holds beside a signature."""


class Content(NamedTuple):
    """One content: its texts joined, and the parts that are none, by the field that keeps them."""

    text: str = ""
    thought: str = ""
    refusal: str = ""
    kept: dict[str, list[Any]] = {}  # noqa: RUF012


def read(content: Any) -> Content:
    """The content of a message, be it a string, a part or a list of parts."""
    if isinstance(content, str):
        return Content(content)
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
                if part.keys() - PLAIN:
                    kept.setdefault("content_parts", []).append(part)
            elif kind == "refusal":
                refusals.append(_text(part.get("refusal") or part.get("text")))
            elif kind is not None:
                kept.setdefault("images" if kind in IMAGES else "content_parts", []).append(part)
    return Content("".join(texts), "".join(thoughts), "".join(refusals), kept)


def _thought(part: dict[str, Any]) -> str:
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
