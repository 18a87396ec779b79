"""The subscriber process, seen from a benchmark.

Owns that process and the reading of its lines. Promises that it is gone when the block is left.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson

from tests.benchmarks.stage import ROOT

MOST_LINE = 1 << 28
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Received:
    """What one socket has received: events as [arrival ms, seq, type, ts ms, text]."""

    task_id: str
    code: int | None
    events: list[list[Any]]

    @property
    def text(self) -> str:
        """All chunks since the last attempt."""
        parts: list[str] = []
        for _, _, kind, _, text in self.events:
            if kind == "attempt":
                parts.clear()
            elif kind == "chunk":
                parts.append(text)
        return "".join(parts)

    def chunks(self) -> list[list[Any]]:
        return [event for event in self.events if event[2] == "chunk"]

    def faults(self) -> list[str]:
        """Gaps, doubles, and an end that is not one."""
        seqs = [event[1] for event in self.events]
        wrong = [] if self.code == 1000 else [f"{self.task_id} was closed with {self.code}"]
        if seqs != list(range(1, len(seqs) + 1)):
            wrong.append(
                f"{self.task_id}: {len(seqs)} events with seq up to {max(seqs, default=0)}"
            )
        return wrong


class Subscribers:
    """`async with` returns when every socket is open; `all` waits until every task is over."""

    def __init__(self, url: str, task_ids: Sequence[str]) -> None:
        self._asked = orjson.dumps({"url": url, "task_ids": list(task_ids)}) + b"\n"
        self._count = len(task_ids)
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.benchmarks.subscriber", cwd=ROOT, limit=MOST_LINE,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(self._asked)
        async with asyncio.timeout(PATIENCE_S):
            line = await self._process.stdout.readline()
        if line != b"connected\n":
            raise RuntimeError("the subscribers could not connect; stderr says why")
        return self

    async def all(self) -> list[Received]:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            lines = [await self._process.stdout.readline() for _ in range(self._count)]
            await self._process.wait()
        received = [orjson.loads(line) for line in lines]
        return [Received(one["task_id"], one["code"], one["events"]) for one in received]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
