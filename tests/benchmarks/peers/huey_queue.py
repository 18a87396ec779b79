"""The huey peer: tasks in SQLite with `synchronous` FULL, done by huey's consumer with threads.

    huey_queue.py produce FOLDER UPSTREAM    for each line `COUNT IN_FLIGHT` on stdin: runs as many
                                             tasks and prints {"per_s", "wrong"} as a line of JSON
    huey_queue.py consume FOLDER UPSTREAM FD writes the id of each finished task to a pipe

Built to huey's advantage: workers look for tasks every 10 ms instead of every 100 ms and more, and
the producer learns of a finished task by a pipe instead of asking for results again and again.
A task counts when its stored result has been read.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

WORKERS = 16
"""Fewer than tasks in flight: with more threads huey's rate falls (SQLite's lock, the GIL)."""
POLL_S = 0.01
MOST_WAIT_S = 60.0


def queue(folder: str, upstream: str) -> tuple[Any, Callable[[str], Any]]:
    """The queue and its only task: a streamed chat call that gives the whole text."""
    huey = import_module("huey").SqliteHuey(
        "bench", filename=f"{folder}/huey.db", fsync=True, timeout=MOST_WAIT_S
    )
    client = import_module("httpx").Client(base_url=upstream, trust_env=False)

    def chat(content: str) -> str:
        body = {"model": "fast", "stream": True, "messages": [{"role": "user", "content": content}]}
        parts = []
        with client.stream("POST", "/chat/completions", json=body) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    choice = json.loads(line[6:])["choices"][0]
                    parts.append(choice["delta"].get("content", ""))
        return "".join(parts)

    return huey, huey.task()(chat)


def consume(folder: str, upstream: str, pipe: int) -> None:
    """Do tasks until a signal ends the process."""
    huey, _ = queue(folder, upstream)
    signals = import_module("huey.signals")

    def ended(_: str, task: Any, *__: object) -> None:
        os.write(pipe, task.id.encode() + b"\n")

    huey.signal(signals.SIGNAL_COMPLETE, signals.SIGNAL_ERROR)(ended)
    huey.create_consumer(
        workers=WORKERS, initial_delay=POLL_S, max_delay=POLL_S, backoff=1.0, periodic=False
    ).run()


def produce(folder: str, upstream: str) -> None:
    """Keep tasks in flight, as many as each line says, until stdin ends."""
    huey, chat = queue(folder, upstream)
    reader, writer = os.pipe()
    consumer = subprocess.Popen(
        [sys.executable, __file__, "consume", folder, upstream, str(writer)], pass_fds=[writer]
    )
    os.close(writer)
    try:
        with os.fdopen(reader) as finished:
            for line in sys.stdin:
                count, in_flight = map(int, line.split())
                began, wrong = time.perf_counter(), 0
                for number in range(count):
                    if number >= in_flight:
                        wrong += not huey.result(finished.readline().strip(), preserve=True)
                    chat("hello")
                for _ in range(min(in_flight, count)):
                    wrong += not huey.result(finished.readline().strip(), preserve=True)
                took = time.perf_counter() - began
                print(json.dumps({"per_s": count / took, "wrong": wrong}), flush=True)
    finally:
        consumer.kill()
        consumer.wait()


if __name__ == "__main__":
    if sys.argv[1] == "produce":
        produce(*sys.argv[2:4])
    else:
        consume(sys.argv[2], sys.argv[3], int(sys.argv[4]))
