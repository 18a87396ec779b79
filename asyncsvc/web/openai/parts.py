"""Parts of an item's content, in the shape of chat messages.

Owns texts, images, audio and files as the Responses API gives them. Promises that a part which
no chat message can hold is a fault that names its place. Never looks at the item around them.
"""

from typing import Any

import orjson

from asyncsvc.errors import InvalidRequest

Object = dict[str, Any]
TEXTS = ("input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text")
IMAGES = ("input_image", "computer_screenshot", "image_url")
IMAGE_ABOVE = "(an image, in the next message)"
"""What the output of a call says where it is nothing but images: only a user may show one."""


def parts_of(content: list[Any], where: str) -> list[Object]:
    """The parts as chat has them. Raises InvalidRequest."""
    return [_part(part, f"{where}[{index}]") for index, part in enumerate(content)]


def output_content(output: Any, where: str) -> tuple[str, list[Object]]:
    """The text of a call's output, and the parts that are no text. Raises InvalidRequest."""
    if isinstance(output, str):
        return output, []
    if isinstance(output, dict):
        if output.get("type") not in IMAGES:
            return orjson.dumps(output).decode(), []
        output = [output]
    if not isinstance(output, list):
        raise InvalidRequest(f"{where} must be a string or parts", param=where)
    if output and all(_is_data(part) for part in output):
        return orjson.dumps(output).decode(), []
    parts = parts_of(output, where)
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    shown = [part for part in parts if part["type"] != "text"]
    return text or (IMAGE_ABOVE if shown else ""), shown


def _is_data(part: Any) -> bool:
    """Whether it is data of a tool, such as the outcome of a shell command, and no content."""
    return isinstance(part, dict) and "type" not in part


def _part(part: Any, where: str) -> Object:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in TEXTS:
        text = part.get("refusal" if kind == "refusal" else "text")
        if isinstance(text, str):
            return {"type": "text", "text": text}
    elif kind in IMAGES and (image := _image(part)) is not None:
        return {"type": "image_url", "image_url": image}
    elif kind == "input_audio" and isinstance(part.get("input_audio"), dict):
        return {"type": "input_audio", "input_audio": part["input_audio"]}
    elif kind == "input_file" and isinstance(part.get("file_data"), str):
        kept = ("file_data", "filename")
        return {"type": "file", "file": {k: part[k] for k in kept if part.get(k) is not None}}
    raise InvalidRequest(
        f"{where} must be input_text with a text, input_image with an image_url, input_audio, or "
        "input_file with file_data",
        param=where,
    )


def _image(part: Object) -> Object | None:
    given = part.get("image_url")
    if isinstance(given, dict) and isinstance(given.get("url"), str):
        return given
    if not isinstance(given, str):
        return None
    detail = {} if part.get("detail") is None else {"detail": part["detail"]}
    return {"url": given, **detail}
