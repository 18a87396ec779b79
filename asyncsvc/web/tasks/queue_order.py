"""The unfinished tasks of a list in the order of the queue.

Running ones first, then the waiting ones with the next first, then the paused ones. All of them are
in memory, so the filters are applied to each before the list is cut. Never reads the store.
"""

from collections.abc import Iterator
from typing import Any

from asyncsvc.storage.database import LOWER
from asyncsvc.tasks.state import State, Task
from asyncsvc.web.http.state import Services


def in_queue_order(
    parts: Services, where: dict[str, Any], model: str | None, text: str | None, limit: int
) -> list[Task]:
    """The first tasks that the filters let through, which are those of `Store.page`."""
    found: list[Task] = []
    for task in _ordered(parts):
        if len(found) == limit:
            break
        if _lets_through(task, where, model, text):
            found.append(task)
    return found


def _ordered(parts: Services) -> Iterator[Task]:
    tasks = list(parts.journal.live.values())
    running = [task for task in tasks if task.state is State.RUNNING]
    yield from sorted(running, key=lambda task: (task.started_at or 0, task.n))
    yield from parts.eta_estimator.in_order(parts.journal.live)
    yield from (task for task in tasks if task.state is State.PAUSED)


def _lets_through(task: Task, where: dict[str, Any], model: str | None, text: str | None) -> bool:
    for name, wanted in where.items():
        several = wanted if isinstance(wanted, tuple) else (wanted,)
        if all(_value(task, name, value) != value for value in several):
            return False
    names = (task.name, task.model) if task.name else (task.model, task.request.model)
    if model and model not in names:
        return False
    return not text or text.translate(LOWER) in task.request.preview.translate(LOWER)


def _value(task: Task, name: str, wanted: str) -> Any:
    match name:
        case "state":
            return task.state.value
        case "error_code":
            return (task.error or {}).get("code") if task.state is State.PAUSED else None
        case "id_ends":
            return task.id[-len(wanted) :]
        case _:
            return getattr(task.request, name)
