"""A provider on a loopback port that gives prepared answers and keeps what it was asked."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Object = dict[str, Any]
PIECE_CHARS = 5
USAGE = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}


@dataclass
class ScriptedProvider:
    """`answers` are given in order, one to each call; `asked` holds the bodies of the calls.

    An answer is an object with `text`, `thinking`, and `calls`, a list of tool calls in
    OpenAI's shape; or `status` and `error`.
    """

    base_url: str = ""
    answers: list[Object] = field(default_factory=list)
    asked: list[Object] = field(default_factory=list)

    def plan(self, *answers: Object) -> None:
        """These answers come next, and what was asked before is forgotten."""
        self.answers, self.asked = list(answers), []

    async def answer(self, request: Request) -> Response:
        self.asked.append(await request.json())
        planned: Object = self.answers.pop(0) if self.answers else {"text": "ok"}
        if "status" in planned:
            return JSONResponse({"error": planned["error"]}, planned["status"])
        frames = (f"data: {json.dumps(frame)}\n\n" for frame in _frames(planned))
        return StreamingResponse(_ended(frames), media_type="text/event-stream")


def _frames(planned: Object) -> Iterator[Object]:
    for name, text in (("reasoning_content", "thinking"), ("content", "text")):
        for piece in _pieces(planned.get(text, "")):
            yield _chunk({name: piece})
    for index, call in enumerate(planned.get("calls", [])):
        kind, given = ("custom", "input") if "custom" in call else ("function", "arguments")
        held = call[kind]
        first = {k: v for k, v in call.items() if k != kind} | {"index": index, "type": kind}
        yield _chunk({"tool_calls": [first | {kind: {"name": held["name"], given: ""}}]})
        for piece in _pieces(held[given]):
            yield _chunk({"tool_calls": [{"index": index, kind: {given: piece}}]})
    yield _chunk({}, "tool_calls" if planned.get("calls") else "stop")
    yield {"choices": [], "usage": USAGE}


def _pieces(text: str) -> list[str]:
    return [text[start : start + PIECE_CHARS] for start in range(0, len(text), PIECE_CHARS)]


def _chunk(delta: Object, reason: str | None = None) -> Object:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


async def _ended(frames: Iterator[str]) -> AsyncIterator[str]:
    for frame in frames:
        yield frame
    yield "data: [DONE]\n\n"


@asynccontextmanager
async def scripted_provider() -> AsyncIterator[ScriptedProvider]:
    """On a free port, in this loop."""
    provider = ScriptedProvider()
    routes = [Route("/v1/chat/completions", provider.answer, methods=["POST"])]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        provider.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        config = uvicorn.Config(Starlette(routes=routes), log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield provider
        finally:
            server.should_exit = True
            await serving
