"""OpenAI's shapes: errors, completions, stream chunks, lists of embeddings.

A chunk costs one concatenation around its text: prefix and suffix are built once a call.
"""

import struct
from base64 import b64encode
from collections.abc import Iterable
from typing import Any

import orjson

from asyncsvc.simulator import answers
from asyncsvc.simulator.exchange import Headers

DONE = b"data: [DONE]\n\n"
SSE_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
]


def error(message: str, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "code": code, "param": param}}


def usage(prompt_tokens: int, content: int, reasoning: int) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": content + reasoning,
        "total_tokens": prompt_tokens + content + reasoning,
    }
    if reasoning:
        figures["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return figures


def completion(
    call_id: str, created: int, model: str, message: dict[str, Any], finish: str, used: object
) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return {
        "id": call_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice],
        "usage": used,
        "system_fingerprint": "simulator",
    }


def model_list(names: Iterable[str]) -> dict[str, Any]:
    """The body of an answer to ``GET /v1/models``."""
    models = [{"id": n, "object": "model", "created": 0, "owned_by": "simulator"} for n in names]
    return {"object": "list", "data": models}


def embedding_list(
    model: str, inputs: list[str], dimensions: int, prompt_tokens: int, *, base64: bool
) -> dict[str, Any]:
    """The body of an answer to an embeddings request, in the order of its inputs."""
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _shown(text, dimensions, base64)}
            for index, text in enumerate(inputs)
        ],
        "model": model,
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
    }


def _shown(text: str, dimensions: int, base64: bool) -> str | tuple[float, ...]:
    """As OpenAI's ``encoding_format`` has it: numbers, or base64 of little-endian float32."""
    vector = answers.embed(text, dimensions)
    if base64:
        return b64encode(struct.pack(f"<{dimensions}f", *vector)).decode("ascii")
    return vector


class Chunks:
    """The ``data:`` lines of one stream."""

    def __init__(self, call_id: str, created: int, model: str, *, with_usage: bool) -> None:
        head = (
            b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,'
            b'"system_fingerprint":"simulator",'
            % (orjson.dumps(call_id), created, orjson.dumps(model))
        )
        # OpenAI sends "usage": null in each chunk but the last where usage was asked for.
        tail = b',"usage":null}\n\n' if with_usage else b"}\n\n"
        start = head + b'"choices":[{"index":0,"delta":'
        end = b',"logprobs":null,"finish_reason":null}]' + tail
        self._head = head
        self._tail = tail
        self._start = start
        # A content chunk up to its text and after it, for texts that are not sent at once.
        self.opening = start + b'{"content":'
        self.closing = b"}" + end
        self._reasoning = start + b'{"reasoning_content":'
        self.role = start + b'{"role":"assistant","content":""}' + end
        self.no_choices = head + b'"choices":[]' + tail

    def content(self, text: str) -> bytes:
        return self.opening + orjson.dumps(text) + self.closing

    def reasoning(self, text: str) -> bytes:
        return self._reasoning + orjson.dumps(text) + self.closing

    def tool_call(self, piece: object) -> bytes:
        return self._start + b'{"tool_calls":[' + orjson.dumps(piece) + b"]" + self.closing

    def finish(self, reason: str) -> bytes:
        end = b',"finish_reason":' + orjson.dumps(reason) + b"}]" + self._tail
        return self._start + b'{},"logprobs":null' + end

    def usage(self, figures: object) -> bytes:
        return self._head + b'"choices":[],"usage":' + orjson.dumps(figures) + b"}\n\n"
