"""The yardstick of `fanout`: a WebSocket endpoint that sends prepared messages to all its clients.

POST /go takes a JSON list of texts and sends each to every client, message by message. Promises
the uvicorn, the event loop and the WebSocket protocol of the product and nothing else of its own:
no database, no subscriptions, no cursors.
"""

import argparse
import asyncio

import orjson
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from asyncsvc.server import Server, bind

clients: list[WebSocket] = []
ended = asyncio.Event()


async def join(socket: WebSocket) -> None:
    """A client that stays until the broadcast has ended."""
    await socket.accept()
    clients.append(socket)
    await ended.wait()


async def go(request: Request) -> Response:
    """POST /go"""
    for text in orjson.loads(await request.body()):
        for client in clients:
            await client.send_text(text)
        await asyncio.sleep(0)
    clients.clear()
    ended.set()
    ended.clear()
    return PlainTextResponse("ok", 202)


async def ready(_: Request) -> Response:
    """GET /readyz"""
    return PlainTextResponse("ok")


ROUTES = [
    WebSocketRoute("/ws", join),
    Route("/go", go, methods=["POST"]),
    Route("/readyz", ready, methods=["GET"]),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    listener = bind("127.0.0.1", parser.parse_args().port)
    config = uvicorn.Config(
        Starlette(routes=ROUTES),
        ws=WebSocketsSansIOProtocol,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        proxy_headers=False,
    )
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with listener, runner:
        runner.run(Server(config).serve([listener]))


if __name__ == "__main__":
    main()
