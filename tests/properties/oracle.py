"""The oracle: what must hold in a service, seen from outside.

Owns what was asked of the service, what it acknowledged, and what its store says since. Promises
to look with a connection of its own, at what is committed and at nothing else; a broken law
raises Broken. Never asks the engine anything, never predicts which of two legal things happens.
"""

import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.properties.lives import SHARED, TTL_MS, Broken, Event, Life, Request, law
from tests.properties.provider import Provider, now
from tests.scripted import Call
from tests.virtual_time import wall_ms

SPAN_S, RPM = 20.0, 5
CONCURRENCY = {"a": 1, "b": 2}
CAUSES = {
    "cancel": ["cancelled"],
    "pause": ["paused"],
    "resume": ["resumed", "postponed"],
    "retry": ["rerun"],
}
MOMENT_S = 0.9
"""A running task without a call for so long has been forgotten."""


@dataclass
class Asked:
    """How often something was asked for: how often acknowledged, how often it is not known."""

    done: int = 0
    open: int = 0

    @property
    def most(self) -> int:
        return self.done + self.open


@dataclass
class Held:
    """Since when a model is known to be held; how many ask for something else just now."""

    since: float | None = None
    open: int = 0


@dataclass
class Oracle:
    provider: Provider
    submitted: list[Request] = field(default_factory=list)
    groups: list[list[int]] = field(default_factory=list)
    """The numbers of those that were submitted in one batch."""
    ids: dict[int, str] = field(default_factory=dict)
    """The answer to the submitter of each request."""
    submits: dict[int, Asked] = field(default_factory=lambda: defaultdict(Asked))
    verbs: dict[tuple[str, str], Asked] = field(default_factory=lambda: defaultdict(Asked))
    """By verb and task id."""
    holds: dict[str, Held] = field(default_factory=lambda: defaultdict(Held))
    lives: dict[int, Life] = field(default_factory=dict)
    results: dict[tuple[int, int], str | None] = field(default_factory=dict)
    gone: Counter[int] = field(default_factory=Counter)
    """Deleted tasks, by the number of their request."""
    last_id: int = 0
    broken: Exception | None = None
    """What was seen where it could not be raised."""

    def __post_init__(self) -> None:
        self._path: Path | None = None
        self._store: sqlite3.Connection | None = None
        self.provider.before = self._called

    # Opening and closing --------------------------------------------------------------------

    def open(self, path: Path) -> None:
        """A process begins there; the file is opened when there is reason to."""
        self._path = path
        for life in self.lives.values():
            life.began, life.refused = None, False

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = None

    def held(self) -> None:
        """A model is held, or was: waiting tasks may be given more time."""
        for life in self.lives.values():
            life.doubt |= life.state in ("pending", "scheduled")

    def reborn(self, path: Path, power: bool) -> None:
        """The service is gone and this is what is left of it: what must be there, is."""
        before = self.lives
        self.lives, self.last_id = {}, 0
        self.open(path)
        self.look(alive=False)
        self.close()
        for n, old in before.items():
            new = self.lives.get(n)
            if new is None:
                law(self._may_be_gone(old), f"lost: {old.story()}")
                continue
            kept = len(new.events)
            law(new.events == old.events[:kept], f"changed by a crash: {old.story()}")
            lost = {event.type for event in old.events[kept:]}
            text = {"chunk", "reasoning"} if power else set()
            law(lost <= text, f"a crash has cost {lost} of {old.story()}")

    # Looking --------------------------------------------------------------------------------

    def rows(self, sql: str, *values: Any) -> list[Any]:
        if self._store is None:
            assert self._path is not None
            self._store = sqlite3.connect(self._path, isolation_level=None)
            self._store.execute("PRAGMA query_only=1")
            self._store.execute("PRAGMA wal_autocheckpoint=0")
        return self._store.execute(sql, values).fetchall()

    def look(self, alive: bool = True) -> None:
        """Hear what is new, and judge what must hold at every moment, where the service is
        `alive`. Raises Broken."""
        if self.broken is not None:
            raise self.broken
        rows = self.rows(
            "SELECT n, id, state, attempts, starts, user_metadata, error, result || COALESCE("
            "(SELECT group_concat(part, '') FROM (SELECT part FROM result_parts "
            "WHERE result_parts.task_n = n AND rest > 0 ORDER BY at)), '') "
            "FROM tasks LEFT JOIN results ON results.task_n = n"
        )
        found = {row[0]: row for row in rows}
        self._mourn(found)
        for n, task_id, *_, metadata, _, _ in rows:
            if n not in self.lives:
                request = self.submitted[orjson.loads(metadata)["request"]]
                self.lives[n] = Life(n, task_id, request)
        self._hear()
        for n, row in found.items():
            self._same(self.lives[n], row)
        self._check_submits()
        self._check_verbs()
        if alive:
            self._check_calls()

    def _hear(self) -> None:
        for id_, n, seq, type_, ts, data in self.rows(
            "SELECT id, task_n, seq, type, ts, data FROM events WHERE id > ? ORDER BY id",
            self.last_id,
        ):
            self.last_id = id_
            event, life = Event(id_, seq, type_, ts, orjson.loads(data)), self.lives[n]
            try:
                life.hear(event)
                if event.data.get("cause") == "started":
                    self._check_session(life)
            except Broken as broken:
                raise Broken(f"{broken}\n{life.story()}") from None

    def _mourn(self, found: dict[int, Any]) -> None:
        """Those who are no longer there."""
        for n in self.lives.keys() - found.keys():
            life = self.lives.pop(n)
            self.results = {key: text for key, text in self.results.items() if key[0] != n}
            ended = life.finished or self._may_have_ended(life)
            law(ended and self._may_be_gone(life), f"lost: {life.story()}")
            self.gone[life.request.number] += 1

    def _may_be_gone(self, life: Life) -> bool:
        return self.verbs["delete", life.id].most > 0

    def _may_have_ended(self, life: Life) -> bool:
        """Since it was looked at last, and was deleted with its last event."""
        waited = wall_ms() - life.events[-1].ts
        cancelled = self.verbs["cancel", life.id].most > life.causes.count("cancelled")
        if life.state == "running":
            return life.request.content not in {call.prompt for call in self.provider.under_way()}
        limit_ms = life.request.limit_ms if life.request.timed else TTL_MS
        given_up = life.state == "pending" and (life.began is not None or waited >= limit_ms)
        return cancelled or given_up or life.request.content == SHARED

    def _same(self, life: Life, row: Any) -> None:
        """The row says what the events say, and a result stays."""
        n, task_id, state, attempts, starts, _, error, result = row
        row = (task_id, state, attempts, starts)
        expected = (life.id, life.state, life.used, life.starts)
        law(row == expected, f"the row holds {row}, the events {expected}: {life.story()}")
        code = orjson.loads(error)["code"] if error and state == "failed" else None
        law(code == life.code, f"the error is {code}, was {life.code}: {life.story()}")
        if not life.finished:
            law(result is None, f"a result of an unfinished task: {result!r}, {life.story()}")
            return
        law((result or "") == life.text, f"result {result!r} of {life.text!r}: {life.story()}")
        # By life: between two looks a task may be done again by hand, and be finished again.
        key = n, life.causes.count("rerun")
        if key not in self.results:
            self.results[key] = result
            self._check_text(life)
        law(self.results[key] == result, f"the result has changed: {life.story()}")

    # Judging --------------------------------------------------------------------------------

    def _check_text(self, life: Life) -> None:
        """The text is what one call sent: all of it, where it is the answer."""
        calls = self._calls_for(life)
        if life.state == "completed":
            whole = [self.provider.whole[c] for c in calls if self.provider.ended_well(c)]
            law(life.text in whole, f"{life.text!r} is not of {whole}: {life.story()}")
        else:
            texts = (self.provider.whole.get(c, "") for c in calls)  # one may just be arriving
            known = any(text.startswith(life.text) for text in texts)
            law(known or not life.text, f"no call sent {life.text!r}: {life.story()}")

    def _calls_for(self, life: Life) -> list[Call]:
        return [call for call in self.provider.calls if call.prompt == life.request.content]

    def _check_session(self, life: Life) -> None:
        session = life.request.session
        if session is None:
            return
        for other in self.lives.values():
            if other is life or other.request.session != session:
                continue
            law(other.state != "running", f"two of session {session} run\n{other.story()}")
            if other.n < life.n and "rerun" not in other.causes and "rerun" not in life.causes:
                law(other.finished, f"not its turn in session {session}\n{other.story()}")

    def _check_submits(self) -> None:
        counts = Counter(life.request.number for life in self.lives.values()) + self.gone
        for number, asked in self.submits.items():
            least = min(asked.done, 1)
            most = min(asked.most, 1 + self.gone[number])
            law(least <= counts[number] <= most, f"request {number} became {counts[number]} tasks")
        for number, task_id in self.ids.items():
            there = any(life.id == task_id for life in self.lives.values())
            law(there or self.verbs["delete", task_id].most, f"lost: request {number}, {task_id}")
        for group in self.groups:
            law(len({counts[number] > 0 for number in group}) == 1, f"half a batch: {group}")

    def _check_verbs(self) -> None:
        for life in self.lives.values():
            law(not self.verbs["delete", life.id].done, f"deleted and there: {life.story()}")
            for verb, causes in CAUSES.items():
                seen = sum(life.causes.count(cause) for cause in causes)
                asked = self.verbs[verb, life.id]
                if not asked.done <= seen <= asked.most:
                    raise Broken(f"{verb}: {asked}, but {seen} times in {life.story()}")

    def _check_calls(self) -> None:
        """Who is called for, runs; who runs, is called for, and not for longer than it may."""
        called = {call.prompt for call in self.provider.under_way()}
        running = [life for life in self.lives.values() if life.state == "running"]
        wanted = {life.request.content for life in running}
        law(called <= wanted, f"a call for {called - wanted}, which does not run")
        at = wall_ms()
        for life in self.lives.values():
            late = life.state == "pending" and at - life.events[-1].ts > TTL_MS + 1
            law(not late, f"waits for its turn for ever: {life.story()}")
        for life in running:
            last_end = max((c.ended or 0.0 for c in self._calls_for(life)), default=0.0)
            since = min(at - life.events[-1].ts, (now() - last_end) * 1000)
            idle = life.request.content not in called and since > MOMENT_S * 1000
            law(not idle, f"runs without a call: {life.story()}")
            law(life.overtime_ms(at) <= 1, f"runs too long: {life.story()}")

    def _called(self, call: Call) -> None:
        """The provider hears a call. Raised in here it would be taken for a fault of his."""
        try:
            self.look()
            self._check_limits(call)
        except Exception as broken:
            self.broken = broken

    def _check_limits(self, call: Call) -> None:
        """The start is on the disk, and the limits hold."""
        fits = [
            life
            for life in self.lives.values()
            if life.request.content == call.prompt and life.name == call.name
        ]
        law(any(life.state == "running" for life in fits), f"no running task has started {call}")
        of = [other for other in self.provider.calls if other.name == call.name]
        at_once = sum(other.ended is None for other in of)
        law(at_once <= CONCURRENCY[call.name], f"{at_once} calls of {call.name} at once")
        recent = sum(other.started > now() - SPAN_S for other in of)
        if call.name == "b":
            law(recent <= RPM, f"{recent} calls of {call.name} in {SPAN_S:g} s")
        since = self.holds[call.name].since
        law(since is None or since == call.started, f"{call.name} is held, and called")
        alike = sum(other.prompt == call.prompt for other in self.provider.under_way())
        law(alike == 1, f"{alike} calls for {call.prompt} at once")
