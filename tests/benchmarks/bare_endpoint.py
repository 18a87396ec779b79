"""The yardstick: one starlette endpoint that parses JSON and answers 202, and stores nothing.

Promises the same uvicorn, with uvloop and httptools where the product has them and nothing else of
the product's, so that the ratio of the two is what all of the product costs.
"""

import argparse
import asyncio
from typing import Any

import orjson
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asyncsvc.server import Server, bind


async def accept(request: Request) -> Response:
    """POST /tasks"""
    asked: dict[str, Any] = orjson.loads(await request.body())
    answer = {
        "task_id": "0" * 32,
        "status": "pending",
        "message": "accepted",
        "model": asked.get("model"),
        "position": 1,
        "eta_s": None,
    }
    return Response(orjson.dumps(answer), 202, media_type="application/json")


async def ready(_: Request) -> Response:
    """GET /readyz"""
    return PlainTextResponse("ok")


ROUTES = [Route("/tasks", accept, methods=["POST"]), Route("/readyz", ready, methods=["GET"])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    listener = bind("127.0.0.1", options.port)
    config = uvicorn.Config(
        Starlette(routes=ROUTES), log_config=None, access_log=False, server_header=False
    )
    server = Server(config)
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with listener, runner:
        runner.run(server.serve([listener]))


if __name__ == "__main__":
    main()
