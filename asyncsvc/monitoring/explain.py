"""The history of a task: what happened when, the reasons of its waits, each attempt.

Computed from stored events alone, so that it is the same after a restart; the seconds of waits and
runs add up to the age of the task. Nothing is read here.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from asyncsvc.clock import optional_rfc3339, rfc3339
from asyncsvc.monitoring.agent_times import AgentTimes
from asyncsvc.storage.entries import EventRow, loads
from asyncsvc.tasks.state import Cause, EventType, State, Task

OTHER = "other"
"""Waiting without a known reason: in an earlier process, or not ended by a start."""
SHARED = "equal_task"
START = "start"
START_MOST_S = 0.1
"""How long it may take from a turn to the start on the disk, to be taken for just that."""


class History:
    """The history of one task: `add` each event in order, then ask for the `summary`."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._timeline: list[dict[str, Any]] = []
        self._attempts: list[dict[str, Any]] = []
        self._queued: dict[str, float] = defaultdict(float)
        """Seconds by reason."""
        self._spent: Counter[str] = Counter()
        """Milliseconds by kind of waiting, and running."""
        self._state: State | None = None
        self._since = 0
        self._open_s = 0.0
        """Seconds of a wait for a turn that is over, and whose reasons are not known yet."""
        self._attempt_at: int | None = None
        self._retry: dict[str, Any] | None = None
        self._agent = AgentTimes() if task.request.type == "agent" else None

    def add(self, row: EventRow) -> None:
        data = loads(row.data)
        if self._agent is not None:
            self._agent.add(row.type, row.ts, data)
        match row.type:
            case EventType.STATUS:
                self._move(row.ts, data)
            case EventType.ATTEMPT:
                self._begin(row.ts, data)
            case EventType.RETRY:
                self._retry = data
            case EventType.CHUNK | EventType.REASONING if self._attempts:
                self._count_chunk(row, data)

    def summary(
        self,
        now: int,
        expected: dict[str, Any] | None = None,
        waited: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """The whole history; call it once. `expected`: the forecast of a waiting task;
        `waited`: the reasons of a wait that goes on, in seconds."""
        task, request = self._task, self._task.request
        if self._state is not None and not task.finished:
            self._leave(now)
        self._account(waited or {})
        session = self._queued.pop("session", 0.0)
        ended = now if task.finished_at is None else task.finished_at
        longest = sorted(self._queued.items(), key=lambda each: -each[1])
        spent = {name: ms / 1000 for name, ms in self._spent.items()}
        return {
            "task_id": task.id,
            "status": task.state.value,
            "type": request.type,
            "lane": request.lane,
            "priority": request.priority,
            "owner": request.owner,
            "session_id": request.session_id,
            "model": request.model,
            "created_at": rfc3339(request.created_at),
            "started_at": optional_rfc3339(task.started_at),
            "finished_at": optional_rfc3339(task.finished_at),
            "next_run_at": optional_rfc3339(task.next_run_at),
            "timeline": self._timeline,
            "waits": {
                "scheduled_s": spent.get("scheduled", 0.0),
                "queued_s": {name: round(s, 3) for name, s in longest},
                "retry_s": spent.get("retry", 0.0),
                "paused_s": spent.get("paused", 0.0),
                "session_s": round(session, 3),
            },
            "attempts": self._attempts,
            "route": task.route,
            "cached": task.cached,
            "usage": task.usage,
            "error": task.error,
            "totals": {
                "waiting_s": round(sum(spent.values()) - spent.get("running", 0.0), 3),
                "running_s": spent.get("running", 0.0),
            },
            "agent": None if self._agent is None else self._agent.summary(ended),
            "now": expected,
        }

    # Events ---------------------------------------------------------------------------------

    def _move(self, at: int, data: dict[str, Any]) -> None:
        cause, retry = Cause(data["cause"]), self._retry
        error = data.get("error") or (retry["why"] if retry else None)
        if self._attempts and self._attempt_at is not None:
            ended = {"ended_at": rfc3339(at), "outcome": cause.value, "error": error}
            self._attempts[-1] |= ended
        self._attempt_at, self._retry = None, None
        self._leave(at)
        if cause is not Cause.STARTED:
            self._account({})  # of a start, the attempt says what was waited for
        self._state, self._since = State(data["status"]), at
        self._timeline.append(
            {
                "at": rfc3339(at),
                "what": cause.value,
                "state": self._state.value,
                "for_s": None,
                "why": _why(data, error, retry),
            }
        )

    def _leave(self, at: int) -> None:
        """Account for the state that lasts until `at`."""
        if self._state is None:
            return
        last, ms = self._timeline[-1], max(at - self._since, 0)
        last["for_s"] = ms / 1000
        kind: str = self._state.value
        if self._state is State.SCHEDULED and last["what"] == Cause.RETRYING:
            kind = "retry"
        if self._state in (State.SCHEDULED, State.PENDING, State.PAUSED, State.RUNNING):
            self._spent[kind] += ms
        if self._state is State.PENDING:
            self._account({})
            self._open_s = ms / 1000

    def _account(self, waited: Mapping[str, float], started: bool = False) -> None:
        """Account for the reasons of the wait for a turn. Where clocks disagree, the sum of the
        wall clock counts, which is what the user sees."""
        whole, self._open_s = self._open_s, 0.0
        if whole <= 0:
            return
        known = sum(waited.values())
        share = min(whole / known, 1.0) if known > 0 else 0.0
        for reason, seconds in waited.items():
            self._queued[reason] += seconds * share
        if (left := whole - known * share) > 0.0005:
            self._queued[START if started and left < START_MOST_S else OTHER] += left

    def _begin(self, at: int, data: dict[str, Any]) -> None:
        route = data.get("route") or {}
        waited = route.get("waited") or {}
        if data["why"].startswith("shares"):
            waited = {SHARED: self._open_s}
        self._account(waited, started=True)
        text = f"attempt {data['number']} with {data['name']}: {data['why']}"
        if self._timeline:
            self._timeline[-1]["why"] = text
        self._attempt_at = at
        self._attempts.append(
            {name: data[name] for name in ("number", "name", "model", "why")}
            | {"waited": waited, "gate": route.get("gate"), "started_at": rfc3339(at)}
            | dict.fromkeys(("first_token_s", "ended_at", "outcome", "error"))
            | {"chunks": 0, "characters": 0}
        )

    def _count_chunk(self, row: EventRow, data: dict[str, Any]) -> None:
        attempt = self._attempts[-1]
        if attempt["first_token_s"] is None and self._attempt_at is not None:
            attempt["first_token_s"] = max(row.ts - self._attempt_at, 0) / 1000
        attempt["chunks"] += 1
        if row.type == EventType.CHUNK:
            attempt["characters"] += len(data["text"])


def _why(
    data: dict[str, Any], error: dict[str, Any] | None, retry: dict[str, Any] | None
) -> str | None:
    if data.get("cached"):
        return "answered from the cache"
    if error is None:
        due = data.get("next_run_at")
        return None if due is None else f"not before {due}"
    text = f"{error['code']}: {error['message']}"
    if retry is None or data["status"] == State.FAILED:
        return text
    delay = retry.get("delay_s")
    again = "as soon as a gate opens" if delay is None else f"in {delay:.1f} s"
    return f"{text}; tried again {again}"
