"""OpenAI's formats as bytes: errors, completions, stream chunks.

Owns the shapes. Promises that a chunk costs one concatenation around its text, for the prefix and
suffix are built once a call. It never sends anything.
"""

from typing import Any

import orjson

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


class Chunks:
    """Makes the ``data:`` lines of one stream."""

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
        self._content = start + b'{"content":'
        self._reasoning = start + b'{"reasoning_content":'
        self._end = b"}" + end
        self.role = start + b'{"role":"assistant","content":""}' + end
        self.no_choices = head + b'"choices":[]' + tail

    def content(self, text: str) -> bytes:
        return self._content + orjson.dumps(text) + self._end

    def reasoning(self, text: str) -> bytes:
        return self._reasoning + orjson.dumps(text) + self._end

    def tool_call(self, piece: object) -> bytes:
        return self._start + b'{"tool_calls":[' + orjson.dumps(piece) + b"]" + self._end

    def opening(self) -> bytes:
        """The start of a content chunk up to its text, for texts that are not sent at once."""
        return self._content

    def closing(self) -> bytes:
        return self._end

    def finish(self, reason: str) -> bytes:
        end = b',"finish_reason":' + orjson.dumps(reason) + b"}]" + self._tail
        return self._start + b'{},"logprobs":null' + end

    def usage(self, figures: object) -> bytes:
        return self._head + b'"choices":[],"usage":' + orjson.dumps(figures) + b"}\n\n"
