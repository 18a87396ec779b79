"""Tasks and events in a store: what the tests of each store begin with."""

from dataclasses import replace
from typing import Any

from asyncsvc.storage.entries import Commit, Event
from asyncsvc.storage.protocol import Store
from asyncsvc.tasks.state import Request, State, Task
from tests.builders import AT


def task(n: int, state: State = State.PENDING, name: str | None = None, **fields: Any) -> Task:
    request = replace(Request(f"t{n}", created_at=AT), **fields)
    return Task(request, state, version=1, queued_at=AT, updated_at=AT, name=name, n=n)


def event(n: int, seq: int, kind: str = "chunk", data: str = '{"text":"x"}') -> Event:
    return Event(f"t{n}", n, seq, kind, AT, data)


async def stored(store: Store, *tasks: Task) -> None:
    await store.commit(Commit(created=[(one, b"body of %d" % one.n) for one in tasks]))


async def listed(store: Store, **asked: Any) -> list[int]:
    """The numbers on a page."""
    choice: dict[str, Any] = {"where": {}, "model": None, "text": None, "before": None}
    page = await store.page(**(choice | {"limit": 100} | asked))
    return [found.n for found, _ in page]
