"""The FastAPI + arq peer: POST /tasks puts a job into Redis, arq's worker does it.

    fastapi_arq.py web --redis PORT --port PORT             the API; GET /done streams a JSON line
                                                            for each finished job
    fastapi_arq.py worker --redis PORT --upstream URL --jobs N

Built to arq's advantage: the worker looks for jobs every 10 ms (by default every 500 ms), and
clients learn of a finished job by Redis's pub/sub instead of asking again and again. arq calls the
hook after it has stored the job's result.
"""

import argparse
import json
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

POLL_S = 0.01
DONE = "done"


def web(redis_port: int, port: int) -> None:
    """Serve the API until a signal ends the process."""
    arq, connections = import_module("arq"), import_module("arq.connections")
    fastapi, responses = import_module("fastapi"), import_module("fastapi.responses")
    app = fastapi.FastAPI()
    pool: list[Any] = []

    async def start() -> None:
        settings = connections.RedisSettings(port=redis_port, max_connections=1000)
        pool.append(await arq.create_pool(settings))

    async def submit(body: dict[str, Any]) -> dict[str, Any]:
        job = await pool[0].enqueue_job("chat", body["content"])
        return {"task_id": job.job_id, "status": "pending"}

    async def ready() -> dict[str, Any]:
        return {"redis": await pool[0].ping()}

    async def done() -> Any:
        subscription = pool[0].pubsub()
        await subscription.subscribe(DONE)

        async def lines() -> AsyncIterator[bytes]:
            yield b"\n"
            async for message in subscription.listen():
                if message["type"] == "message":
                    yield message["data"] + b"\n"

        return responses.StreamingResponse(lines(), media_type="application/jsonl")

    app.router.on_startup.append(start)
    app.add_api_route("/tasks", submit, methods=["POST"], status_code=202)
    app.add_api_route("/readyz", ready)
    app.add_api_route("/done", done, response_model=None)
    import_module("uvicorn").run(app, host="127.0.0.1", port=port, log_level="warning")


def work(redis_port: int, upstream: str, jobs: int) -> None:
    """Do jobs until a signal ends the process."""
    httpx, connections = import_module("httpx"), import_module("arq.connections")
    workers = import_module("arq.worker")

    async def start(ctx: dict[str, Any]) -> None:
        limits = httpx.Limits(max_connections=jobs, max_keepalive_connections=jobs)
        ctx["client"] = httpx.AsyncClient(base_url=upstream, limits=limits, trust_env=False)

    async def chat(ctx: dict[str, Any], content: str) -> str:
        body = {"model": "fast", "stream": True, "messages": [{"role": "user", "content": content}]}
        parts = []
        async with ctx["client"].stream("POST", "/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    choice = json.loads(line[6:])["choices"][0]
                    parts.append(choice["delta"].get("content", ""))
        ctx["text"] = "".join(parts)
        return str(ctx["text"])

    async def ended(ctx: dict[str, Any]) -> None:
        notice = {"id": ctx["job_id"], "text": ctx.get("text")}
        await ctx["redis"].publish(DONE, json.dumps(notice))

    workers.Worker(
        functions=[workers.func(chat, name="chat")],
        redis_settings=connections.RedisSettings(port=redis_port, max_connections=1000),
        max_jobs=jobs,
        poll_delay=POLL_S,
        on_startup=start,
        after_job_end=ended,
    ).run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("web", "worker"))
    parser.add_argument("--redis", type=int, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--upstream")
    parser.add_argument("--jobs", type=int, default=64)
    given = parser.parse_args()
    if given.part == "web":
        web(given.redis, given.port)
    else:
        work(given.redis, given.upstream, given.jobs)


if __name__ == "__main__":
    main()
