"""Proxy before a service that adds control characters to every text of its answers.

Whatever a command shows of the service is then hostile: prompts, answers, names of models, errors,
owners, sessions, schedules. Only ids, states and times stay as they are, for commands use them.
"""

import asyncio
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

POISON = (
    " \x1b]0;a title\x07\x1b]52;c;Y2xpcA==\x07\x1b[5;41mred\x9b31m\x9d52;c;x\x9c\x1b"
    "[2J\u202egnp.exe\u2066\u2069\u2028\u2029\x85\x0b\x0c\x7f\x08\x08\x08\x00\rover\r\n\x1bP\x1b\\end"
)
"""A title, the clipboard, colours, a cleared screen, each way also by the single byte of C1, signs
that turn the direction of writing, breaks of lines, backspaces and a carriage return."""
USED = {"op", "id", "breaker", "state", "status", "type", "sha256", "at", "ts", "ref", "bytes"}
"""Fields that commands use as keys, beside ids and times."""


def poisoned(value: Any, name: str = "", path: str = "") -> Any:
    """Return JSON with POISON at the end of each text, and of each key that is a name."""
    if isinstance(value, dict):
        return {
            key + POISON if name in ("models", "changed") else key: poisoned(each, key, path)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [poisoned(each, "", path) for each in value]
    kept = (
        name in USED or name.endswith(("_id", "_at")) or (name, path) == ("name", "/admin/backup")
    )
    return value + POISON if isinstance(value, str) and not kept else value


def _application(target: str) -> Starlette:
    async def call(request: Request) -> Response:
        path = request.url.path
        if path.startswith("/refuse"):
            error = {"message": "no" + POISON, "type": "invalid_request_error", "code": "refused"}
            return JSONResponse({"error": error | {"param": None}}, 422)
        async with httpx.AsyncClient(base_url=target, timeout=60) as http:
            answer = await http.request(
                request.method,
                path,
                params=request.query_params,
                content=await request.body(),
                headers={"content-type": request.headers.get("content-type", "text/plain")},
            )
        if "json" not in answer.headers.get("content-type", "") or "ndjson" in answer.headers.get(
            "content-type", ""
        ):
            return Response(answer.content, answer.status_code)
        return JSONResponse(poisoned(answer.json(), path=path), answer.status_code)

    async def socket(client: WebSocket) -> None:
        await client.accept()
        if client.url.path.startswith("/refuse"):
            await client.close(4404, ("gone" + POISON).encode()[:100].decode(errors="ignore"))
            return
        url = f"ws{target.removeprefix('http')}{client.url.path}?{client.url.query}"
        async with connect(url) as service:

            async def up() -> None:
                with suppress(Exception):
                    while True:
                        await service.send(await client.receive_text())

            sending = asyncio.create_task(up())
            try:
                async for frame in service:
                    await client.send_text(json.dumps(poisoned(json.loads(frame))))
            except ConnectionClosed:
                pass
            finally:
                sending.cancel()
            with suppress(RuntimeError):
                await client.close(service.close_code or 1000)

    methods = ["GET", "POST", "DELETE"]
    return Starlette(
        routes=[Route("/{path:path}", call, methods=methods), WebSocketRoute("/{p:path}", socket)]
    )


@contextmanager
def proxy(target: str) -> Generator[str]:
    """Serve the proxy from a thread; its URL."""
    server = uvicorn.Server(
        uvicorn.Config(_application(target), host="127.0.0.1", port=0, log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            threading.Event().wait(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
