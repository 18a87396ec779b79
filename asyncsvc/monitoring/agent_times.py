"""Where the time of an agent has gone: its model, its tools, and waiting for a person.

Computed from stored events alone. What came before a retry by hand counts no more, as in the
ledger. Time in which several tools run at once counts once.
"""

from typing import Any

from asyncsvc.clock import rfc3339
from asyncsvc.tasks.state import WAITING, Cause, EventType

Object = dict[str, Any]


class Stopwatch:
    """Adds up the time in which at least one thing goes on."""

    def __init__(self) -> None:
        self.ms = 0
        self._since: int | None = None
        self._under_way: set[str] = set()

    def start(self, name: str, at: int) -> None:
        if not self._under_way:
            self._since = at
        self._under_way.add(name)

    def stop(self, name: str, at: int) -> None:
        if name in self._under_way:
            self._under_way.discard(name)
            if not self._under_way:
                self._settle(at)

    def stop_all(self, at: int) -> None:
        if self._under_way:
            self._under_way.clear()
            self._settle(at)

    def _settle(self, at: int) -> None:
        if self._since is not None:
            self.ms += max(at - self._since, 0)
            self._since = None


class AgentTimes:
    """`add` each event of an agent in order, then ask for the `summary`."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._steps: list[Object] = []
        self._calls: dict[str, Object] = {}
        self._started: dict[str, int] = {}
        self._step_at: int | None = None
        self._asked: tuple[str, int] | None = None
        """(the call that waits for a person, since when)."""
        self._model, self._tools, self._person = Stopwatch(), Stopwatch(), Stopwatch()

    def add(self, kind: str, at: int, data: Object) -> None:
        match kind:
            case EventType.STATUS:
                self._move(at, data)
            case EventType.STEP:
                self._begin(at, data)
            case EventType.MESSAGE if "step" in data:
                self._end(at, data)
            case EventType.TOOL_CALL if "step" in data and self._steps:
                call = {"id": data["id"], "name": data["name"], "started_at": None, "took_s": None}
                self._calls[data["id"]] = call | {"waited_s": 0.0, "ok": None}
                self._steps[-1]["calls"].append(self._calls[data["id"]])
            case EventType.TOOL_STARTED | EventType.TOOL_RESULT | EventType.APPROVAL:
                if (known := self._calls.get(data["id"])) is not None:
                    self._follow(known, kind, at, data)

    def summary(self, now: int) -> Object:
        """The steps with their calls, and the sums; call it once."""
        for watch in (self._model, self._tools, self._person):
            watch.stop_all(now)
        return {
            "steps": self._steps,
            "model_s": self._model.ms / 1000,
            "tools_s": self._tools.ms / 1000,
            "person_s": self._person.ms / 1000,
        }

    def _move(self, at: int, data: Object) -> None:
        if data["cause"] == Cause.RERUN:
            self._forget()
            return
        for watch in (self._model, self._tools, self._person):
            watch.stop_all(at)
        if (data.get("error") or {}).get("code") in WAITING and data["cause"] == Cause.PAUSED:
            self._person.start("", at)

    def _begin(self, at: int, data: Object) -> None:
        if self._steps and self._steps[-1]["model_s"] is None:
            self._steps.pop()  # it was cut off, and is asked for again
        step = {"number": data["number"], "started_at": rfc3339(at), "model_s": None}
        self._steps.append(step | {"usage": None, "calls": []})
        self._step_at = at
        self._model.start("", at)

    def _end(self, at: int, data: Object) -> None:
        self._model.stop("", at)
        if self._steps and self._step_at is not None:
            took = max(at - self._step_at, 0) / 1000
            self._steps[-1] |= {"model_s": took, "usage": data.get("usage")}

    def _follow(self, call: Object, kind: str, at: int, data: Object) -> None:
        call_id = call["id"]
        if kind == EventType.TOOL_STARTED:
            call["started_at"], self._started[call_id] = rfc3339(at), at
            self._tools.start(call_id, at)
        elif kind == EventType.TOOL_RESULT:
            self._tools.stop(call_id, at)
            call["ok"] = data.get("ok")
            if (since := self._started.get(call_id)) is not None:
                call["took_s"] = max(at - since, 0) / 1000
        elif "decision" not in data:
            self._asked = call_id, at
        elif self._asked is not None and self._asked[0] == call_id:
            call["waited_s"] = round(call["waited_s"] + max(at - self._asked[1], 0) / 1000, 3)
            self._asked = None
