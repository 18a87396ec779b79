"""What the events of one task say of it, by a table of our own.

Owns the laws that one task's events obey by themselves. Promises that nothing of the product
is asked: the arrows below are written down from docs/task-lifecycle.md, so that a change of the
product's table shows here. Never touches a database.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

FINISHED = {"completed", "failed", "cancelled"}
ARROWS: dict[str | None, dict[str, str]] = {
    None: {"submitted": "pending", "delayed": "scheduled"},
    "scheduled": {
        "due": "pending",
        "paused": "paused",
        "cancelled": "cancelled",
        "failed": "failed",
    },
    "pending": {
        "started": "running",
        "paused": "paused",
        "cancelled": "cancelled",
        "failed": "failed",
    },
    "running": {
        "completed": "completed",
        "failed": "failed",
        "retrying": "scheduled",
        "deferred": "pending",
        "interrupted": "pending",
        "paused": "paused",
        "cancelled": "cancelled",
    },
    "paused": {"resumed": "pending", "postponed": "scheduled", "cancelled": "cancelled"},
    "completed": {"rerun": "pending"},
    "failed": {"rerun": "pending"},
    "cancelled": {"rerun": "pending"},
}
FREE = {"deferred", "interrupted", "paused"}
"""Leaving `running` this way gives the attempt back."""
ANEW = {"rerun", "paused", "interrupted"}
CLOSED = "overloaded"
"""The code of a task that is deferred because its gate has closed; a provider that defers one says
`rate_limited`, or is away."""
"""After these a task's time begins anew with its next start."""
TRIED_AGAIN = {
    "connect_timeout", "first_token_timeout", "idle_timeout", "overloaded",
    "upstream_disconnected", "upstream_invalid", "empty_answer", "internal",
}  # fmt: skip
UNNAMED = {"upstream_auth", "model_gone"}
"""The codes of refusals that name nothing: no others are given in a story."""
BY_OTHERS = UNNAMED | {"rate_limited", "quota_exhausted", "upstream_rejected"}
"""A task that waits never fails with the refusal of another task's call, but by its own time."""
SHARED = "shared"
"""What all ask who may be given the same answer."""
TTL_MS = 120_000
"""How long a task may wait for its turn."""
LONGEST_DELAY_MS = 10_000
"""No retry of a story waits longer than that."""
ROUNDED_MS = 1
"""A delay is kept by a clock that knows less than a millisecond; what is written is rounded."""


class Broken(AssertionError):
    """A law was broken."""


def law(holds: object, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


class Event(NamedTuple):
    """An event as it stands in the store."""

    id: int
    seq: int
    type: str
    ts: int
    data: dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What was asked for, as far as the laws need it."""

    number: int
    content: str
    session: tuple[str | None, str] | None
    """Its owner and its name: another owner's of the same name is another one."""
    delay_s: float | None
    max_retries: int
    limit_ms: int
    timed: bool = False
    """Whether the limit is the task's own."""


@dataclass
class Life:
    """A task, from its events alone."""

    n: int
    id: str
    request: Request
    events: list[Event] = field(default_factory=list)
    state: str | None = None
    used: int = 0
    forgiven: int = 0
    starts: int = 0
    text: str = ""
    name: str | None = None
    created: int = 0
    not_before: int = 0
    began: int | None = None
    """When its time began to run."""
    doubt: bool = False
    """Its model was held: whether its time began anew is not known from outside."""
    called: bool = True
    """Whether the attempt made its call: a gate that closes under it sends it back before."""
    refused: bool = False
    """Whether a provider has refused it since its time began."""
    started_ever: bool = False
    causes: list[str] = field(default_factory=list)
    cached: bool = False
    code: str | None = None

    def hear(self, event: Event) -> None:
        """One more event. Raises Broken."""
        before = self.events[-1] if self.events else None
        law(event.seq == (before.seq + 1 if before else 1), f"a gap in seq before {event}")
        law(before is None or event.id > before.id, f"an id that does not grow: {event}")
        law(before is None or event.ts >= before.ts, f"time goes back: {event}")
        self.events.append(event)
        if event.type == "status":
            self._move(event, event.data["cause"])
        else:
            law(self.state == "running", f"{event} while {self.state}")
            self._say(event)

    def _say(self, event: Event) -> None:
        if event.type == "attempt":
            law(self.causes[-1] == "started", f"{event} without a start")
            self.starts += 1
            law(event.data["number"] == self.starts, f"{event} is number {self.starts}")
            self.text, self.name = "", event.data["name"]
        elif event.type == "chunk":
            self.text += event.data["text"]
        elif event.type == "retry":
            law(event.data["attempt"] == self.used, f"{event} in attempt {self.used}")
            self.called = event.data["delay_s"] is not None or event.data["why"]["code"] != CLOSED
            self.refused |= self.called

    def _move(self, event: Event, cause: str) -> None:
        source = self.state
        self.state = ARROWS[source].get(cause)
        law(self.state is not None, f"no arrow leads from {source} by {cause}")
        law(event.data["status"] == self.state, f"{event}: {cause} leads to {self.state}")
        self.causes.append(cause)
        if cause in ("submitted", "delayed"):
            self._created(event, cause)
        elif cause == "started":
            self._started(event)
        elif source == "running" and cause in FREE:
            self.used -= 1
        elif cause == "rerun":
            self.forgiven, self.not_before, self.started_ever = self.used, 0, False
            self.cached, self.code = False, None
        elif cause == "retrying":
            self.not_before = _ms(event.data["next_run_at"]) - ROUNDED_MS
        elif cause == "resumed" and self.started_ever:
            self.not_before = 0
        uncalled = cause == "deferred" and not self.called and not self.refused
        if cause in ANEW or (uncalled and self.used == self.forgiven):
            self.began, self.doubt, self.refused = None, False, False
        if self.state in FINISHED:
            self._ended(event, cause, source)

    def _created(self, event: Event, cause: str) -> None:
        self.created = event.ts
        delay = self.request.delay_s
        law((delay is None) == (cause == "submitted"), f"{event} with a delay of {delay}")
        if delay is not None:
            self.not_before = _ms(event.data["next_run_at"])
            law(self.not_before >= event.ts + delay * 999, f"{event} is due too early")

    def _started(self, event: Event) -> None:
        law(event.ts >= self.not_before, f"{event} before {self.not_before}")
        self.used += 1
        self.started_ever = True
        tries, most = self.used - self.forgiven, 1 + self.request.max_retries
        law(tries <= most, f"attempt {tries} of at most {most}")
        if self.began is None:
            self.began = event.ts

    def _ended(self, event: Event, cause: str, source: str | None) -> None:
        self.cached = bool(event.data.get("cached"))
        if cause != "failed":
            return
        self.code = event.data["error"]["code"]
        tries, most = self.used - self.forgiven, 1 + self.request.max_retries
        left = self.request.limit_ms - (event.ts - self.began if self.began is not None else 0)
        if source == "pending" and self.code in BY_OTHERS and not self.doubt:
            waited = event.ts - self.events[-2].ts
            own = left <= 1 if self.began is not None else self.request.timed
            law(own, f"failed by the refusal of another task, {self.code}")
            law(
                self.began is not None or waited >= self.request.limit_ms - 60, f"after {waited} ms"
            )
        if self.code == "timeout":
            law(left <= 1 or self.doubt, f"timed out with {left} ms left")
        elif self.code in TRIED_AGAIN or (self.code in UNNAMED and source == "running"):
            law(tries == most or left <= LONGEST_DELAY_MS, f"gave up after {tries} of {most} tries")
        elif self.code == "expired":
            waited = event.ts - self.events[-2].ts
            law(waited >= TTL_MS - 1, f"expired after {waited} ms")

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    def overtime_ms(self, now_ms: int) -> int:
        """How much longer it has run than it may."""
        if self.state != "running" or self.began is None or self.doubt:
            return 0
        return now_ms - self.began - self.request.limit_ms

    def story(self) -> str:
        """For people."""
        shown = [
            f"{event.ts % 10_000_000}:{event.data.get('cause', event.type)}"
            for event in self.events
        ]
        return f"task {self.request.number} ({self.request}): {' '.join(shown)}"


def _ms(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime.fromtimestamp(0, UTC)) // timedelta(
        milliseconds=1
    )
