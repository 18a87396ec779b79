"""A provider that answers with the text that it was asked for, in pieces, at a given pace.

So a test decides every character of an answer. The first line of the question may be a JSON object:
`pieces` (characters of one), `pause_s` (between two), `think` (a text before the answer), `cut`
(characters after which the connection is closed). It tells how many calls there were.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web


@dataclass
class Echo:
    """The running provider; `gate` holds all answers back while it is not set."""

    base_url: str = ""
    calls: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One chat completion, streamed."""
        body = orjson.loads(await request.read())
        given, text = _asked(body["messages"][-1]["content"])
        self.calls.append(text)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        with suppress(ConnectionError):  # the service was killed, or the task stopped
            await self._write(request, response, given, text)
        return response

    async def _write(
        self,
        request: web.Request,
        response: web.StreamResponse,
        given: dict[str, Any],
        text: str,
    ) -> None:
        size, pause = int(given.get("pieces", 16)), float(given.get("pause_s", 0.0))
        for kind, whole in (("reasoning_content", given.get("think", "")), ("content", text)):
            for start in range(0, len(whole), size):
                await self.gate.wait()
                if kind == "content" and start >= int(given.get("cut", len(text) + 1)):
                    assert request.transport is not None
                    request.transport.close()
                    return
                await response.write(_piece({kind: whole[start : start + size]}))
                if pause:
                    await asyncio.sleep(pause)
        await response.write(_piece({}, "stop") + b"data: [DONE]\n\n")


def _asked(content: str) -> tuple[dict[str, Any], str]:
    head, _, rest = content.partition("\n")
    return (orjson.loads(head), rest) if head.startswith("{") else ({}, content)


def _piece(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps({"id": "echo", "choices": [choice]}) + b"\n\n"


@asynccontextmanager
async def echo() -> AsyncIterator[Echo]:
    """Serve on a free port of this machine until the block ends."""
    found = Echo()
    found.gate.set()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/chat/completions", found.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        found.base_url = f"http://{host}:{port}/v1"
        yield found
    finally:
        found.gate.set()
        await runner.cleanup()
