"""Recorded runs for the tests of the oracle: one that holds, to be changed in one place each."""

from typing import Any

import orjson

from asyncsvc.selftest.records import Evidence, Followed
from asyncsvc.storage.audit import Finished, Life

Event = tuple[int, int, str, dict[str, Any]]


def life(*events: Event, attempts: int = 1, starts: int = 1, task_id: str = "t") -> Life:
    return Life(task_id, "completed", attempts, starts, None, f"[[id:m{task_id}]]", "ab", [*events])


def whole(shift: int = 0, text: str = "b", task_id: str = "t", first: int = 1) -> Life:
    """A task that a kill has cut off once before it was completed."""
    events: list[tuple[str, dict[str, Any]]] = [
        ("status", {"cause": "submitted"}),
        ("status", {"cause": "started"}),
        ("attempt", {}),
        ("chunk", {"text": "a"}),
        ("status", {"cause": "interrupted"}),
        ("status", {"cause": "started"}),
        ("attempt", {}),
        ("chunk", {"text": "a"}),
        ("chunk", {"text": text}),
        ("status", {"cause": "completed"}),
    ]
    found = [(first + n, n + 1, kind, data) for n, (kind, data) in enumerate(events)]
    last = found[-2]
    found[-2] = (last[0] + shift, last[1] + shift, *last[2:])
    return life(*found, starts=2, task_id=task_id)


def calls(marker: str = "mt") -> list[dict[str, Any]]:
    """What the provider has recorded of it."""
    return [
        {"marker": marker, "model": "quick", "outcome": "disconnected", "text": "a"},
        {"marker": marker, "model": "quick", "outcome": "completed", "text": "ab"},
    ]


def sent(task: Life, event: Event) -> str:
    """An event as the feed sends it."""
    number, seq, kind, data = event
    message = {"id": number, "task_id": task.task_id, "seq": seq, "type": kind, "data": data}
    return orjson.dumps(message).decode()


def finished(task: Life) -> Finished:
    return Finished(task.state, task.starts, 7, 1000, len(task.events), 10, task.result)


def story() -> Evidence:
    """Two tasks, one followed by a client of its own, both by the feed's, and one kill."""
    tasks = [whole(), whole(task_id="u", first=20)]
    evidence = Evidence(4, tasks=tasks, calls=[*calls(), *calls("mu")])
    evidence.ledger.accepted = {"mt": "t", "mu": "u"}
    evidence.lives.kills = 1
    evidence.lives.ready_s = [0.5, 0.6]
    evidence.lives.compare({"t": finished(tasks[0])}, {"t", "u"}, {"t", "u"})
    followed = Followed("t")
    for task in tasks:
        for event in task.events:
            evidence.feed.take(sent(task, event))
            if task.task_id == "t":
                followed.take(sent(task, event))
    evidence.followed.append(followed)
    limits = {"concurrency": 0, "rate": 0}
    model = {"violations": limits, "max_in_window": 20, "peak_concurrency": 5}
    evidence.figures = {"models": {"limited": model}}
    return evidence
