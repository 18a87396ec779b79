"""What the simulated provider saw: figures per model and a log of calls.

Owns both and their bounds. Promises that a call's record exists from its arrival on (``outcome``
null while it is in flight), that ``n`` counts from 1 without gaps until a reset, and that memory is
bounded however long it runs. It never decides anything.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

MOST_ARRIVALS = 100_000
MOST_CALLS = 50_000
MOST_TEXT_CHARS = 64 * 1024 * 1024
PROMPT_CHARS = 200


@dataclass(slots=True, eq=False)
class Call:
    """One call as the provider saw it; times are seconds since the epoch."""

    n: int
    model: str
    arrived_at: float
    prompt: str = ""
    marker: str | None = None
    status: int | None = None
    outcome: str | None = None
    text: str = ""
    tokens: int = 0
    client_left: bool = False
    finished_at: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


class CallLog:
    """The last 50,000 calls, fewer where their texts exceed 64 Mi characters."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self._text_chars = 0
        self._last_n = 0

    def open(self, model: str, arrived_at: float) -> Call:
        self._last_n += 1
        call = Call(self._last_n, model, arrived_at)
        self._calls.append(call)
        if len(self._calls) > MOST_CALLS:
            self._drop_oldest()
        return call

    def close(self, call: Call, outcome: str, finished_at: float) -> None:
        call.outcome, call.finished_at = outcome, finished_at
        if call.n >= self._calls[0].n:
            self._text_chars += len(call.text)
            while self._text_chars > MOST_TEXT_CHARS and len(self._calls) > 1:
                self._drop_oldest()

    def after(self, n: int, limit: int) -> list[dict[str, Any]]:
        """Up to ``limit`` records whose number is above ``n``, in order of arrival."""
        found: list[dict[str, Any]] = []
        for call in self._calls:
            if call.n > n:
                if len(found) >= limit:
                    break
                found.append(call.as_dict())
        return found

    def _drop_oldest(self) -> None:
        dropped = self._calls.popleft()
        if dropped.finished_at is not None:
            self._text_chars -= len(dropped.text)


@dataclass(slots=True)
class ModelStats:
    """Figures of one model; ``arrivals`` are those of accepted calls."""

    calls: int = 0
    answered: int = 0
    disconnected: int = 0
    tokens_sent: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_ARRIVALS))

    def as_dict(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "answered": self.answered,
            "rejected": dict(self.rejected),
            "violations": {kind: self.rejected[kind] for kind in ("concurrency", "rate")},
            "disconnected": self.disconnected,
            "faults": dict(self.faults),
            "tokens_sent": self.tokens_sent,
            "arrivals": list(self.arrivals),
        }
