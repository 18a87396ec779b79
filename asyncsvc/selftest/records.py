"""What a run with kills has seen: the account of the clients, of the database and of the provider.

Owns plain values, filled in while the service runs and judged by `oracle` once it is over. Never
does I/O.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from asyncsvc.storage.audit import Finished, Life

Call = Mapping[str, Any]
"""The provider's record of one call."""


@dataclass
class Ledger:
    """What clients know for certain of their submits and cancellations."""

    accepted: dict[str, str] = field(default_factory=dict)
    """Marker → task id of every acknowledged submit."""
    keyed: set[str] = field(default_factory=set)
    """Markers whose submits were repeated with one key until they were acknowledged."""
    cancelled: set[str] = field(default_factory=set)
    """Ids of tasks whose cancellation was acknowledged."""
    odd: list[str] = field(default_factory=list)
    """Answers that no client should ever get."""
    unsure: int = 0
    acknowledged_s: list[float] = field(default_factory=list)
    """From sending a submit to its first acknowledgement."""


@dataclass
class Followed:
    """What one client of `/ws/tasks/{id}` received, as (seq, text)."""

    task_id: str
    events: list[tuple[int, str]] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)

    def take(self, text: str) -> None:
        """Note a message."""
        event = orjson.loads(text)
        if "op" in event:
            self.odd.append(text)
        elif event["seq"] is not None:
            self.events.append((event["seq"], text))


@dataclass
class Feed:
    """What one client of all tasks received; `events` maps ids to the texts as they came."""

    last: int = 0
    events: dict[int, str] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)

    def take(self, text: str) -> None:
        """Note a message."""
        event = orjson.loads(text)
        if event.get("op") == "error":
            self.odd.append(text)
        elif event.get("id") is not None:
            if event["id"] <= self.last:
                self.odd.append(f"id {event['id']} came after {self.last}")
            self.last = event["id"]
            self.events[event["id"]] = text


@dataclass
class Lives:
    """What is seen between two lives of the service."""

    kills: int = 0
    early: int = 0
    """Kills of a process that was still starting."""
    ready_s: list[float] = field(default_factory=list)
    finished: dict[str, Finished] = field(default_factory=dict)
    rerun: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def compare(self, now: dict[str, Finished], known: set[str], accepted: set[str]) -> None:
        """Hold a dead service's database against what was known before."""
        self.rerun += [
            f"{task_id} had ended as {was} and is now {now.get(task_id)}"
            for task_id, was in self.finished.items()
            if now.get(task_id) != was
        ]
        self.lost += sorted(accepted - known - set(self.lost))
        self.finished = now


@dataclass
class Evidence:
    """All that a run has shown, once no process uses the database any more."""

    most_attempts: int
    ledger: Ledger = field(default_factory=Ledger)
    lives: Lives = field(default_factory=Lives)
    followed: list[Followed] = field(default_factory=list)
    feed: Feed = field(default_factory=Feed)
    tasks: Sequence[Life] = ()
    calls: Sequence[Call] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    """Of the provider, by model."""
    differing: list[str] = field(default_factory=list)
    """Tasks whose result and events, read by a client, do not fit."""
    late: list[str] = field(default_factory=list)
    """What had not come to its end in the time given."""
    log_faults: list[str] = field(default_factory=list)
    integrity: str = "ok"
