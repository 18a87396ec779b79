"""State of the simulated provider: models with their limits, figures, the log of calls.

Each accepted call is counted from its arrival to its end. A change of settings holds for the next
call. Memory is bounded however long the provider runs.
"""

import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, Protocol

from asyncsvc.simulator.faults import Fault, FaultSampler, TagCounter, Tags
from asyncsvc.simulator.profile import ModelSettings, Profile

# Names are chosen by clients where any model is allowed; their number must stay bounded.
MOST_MODELS = 10_000
MOST_ARRIVALS = 100_000
MOST_CALLS = 50_000
MOST_TEXT_CHARS = 64 * 1024 * 1024
PROMPT_CHARS = 200

Violation = Literal["concurrency", "rate"]


class Caller(Protocol):
    """Holder of a place; ``gone`` once its connection is known to be closed."""

    @property
    def gone(self) -> bool: ...


class ModelLimits:
    """The limits of one model, enforced strictly, as a provider sees them.

    At most ``concurrency`` admitted calls at once and ``rpm`` admitted arrivals in any half-open
    window of ``window_s`` seconds. A refused call occupies neither a place nor the window: a
    provider that counted refusals would lock a client out that keeps asking, and the figures would
    be of the client's retries rather than of its limiter.
    """

    def __init__(self) -> None:
        self._callers: set[Caller] = set()
        self._window: deque[float] = deque()
        self.peak_concurrency = 0
        self.max_in_window = 0

    @property
    def in_flight(self) -> int:
        return len(self._callers)

    def admit(self, caller: Caller, now: float, settings: ModelSettings) -> Violation | None:
        """Take a place and a share of the window, or return the limit that forbids it."""
        concurrency, rpm = settings.concurrency, settings.rpm
        if concurrency and len(self._callers) >= concurrency:
            # A client that left is freed by its own task one turn of the loop later; that must not
            # cost its successor, who may have been sent in the same instant.
            self._callers = {other for other in self._callers if not other.gone}
            if len(self._callers) >= concurrency:
                return "concurrency"
        window = self._window
        while window and now - window[0] >= settings.window_s:
            window.popleft()
        if rpm and len(window) >= rpm:
            return "rate"
        window.append(now)
        self._callers.add(caller)
        self.max_in_window = max(self.max_in_window, len(window))
        self.peak_concurrency = max(self.peak_concurrency, len(self._callers))
        return None

    def release(self, caller: Caller) -> None:
        """Give the place back; doing it twice is harmless."""
        self._callers.discard(caller)

    def forget_peaks(self) -> None:
        """Start the figures anew; calls in flight and the window stay, for they are the limits."""
        self.peak_concurrency = len(self._callers)
        self.max_in_window = len(self._window)


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

    def close(self, call: Call, outcome: str) -> None:
        call.outcome, call.finished_at = outcome, time.time()
        if call.n >= self._calls[0].n:
            self._text_chars += len(call.text)
            while self._text_chars > MOST_TEXT_CHARS and len(self._calls) > 1:
                self._drop_oldest()

    def after(self, n: int, limit: int) -> list[dict[str, Any]]:
        """Return up to ``limit`` records whose number is above ``n``, in order of arrival."""
        return [call.as_dict() for call in islice((c for c in self._calls if c.n > n), limit)]

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


class Model:
    """One simulated model: settings, limits and figures."""

    def __init__(self, name: str, settings: ModelSettings, seed: int) -> None:
        self.name = name
        self.settings = settings
        self.limits = ModelLimits()
        self.stats = ModelStats()
        self.chance = random.Random(f"{seed}:{name}:pace")
        self.sampler = FaultSampler(f"{seed}:{name}:faults")

    def admit(self, caller: Caller, arrived: float, arrived_at: float) -> Violation | None:
        """Count the arrival and take a place, or return the limit that was broken."""
        self.stats.calls += 1
        violation = self.limits.admit(caller, arrived, self.settings)
        if violation is None:
            self.stats.arrivals.append(arrived_at)
        else:
            self.stats.rejected[violation] += 1
        return violation

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.stats.as_dict(),
            "in_flight": self.limits.in_flight,
            "peak_concurrency": self.limits.peak_concurrency,
            "max_in_window": self.limits.max_in_window,
        }


class Simulator:
    """The simulated provider behind its HTTP."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.log = CallLog()
        self.refused: Counter[str] = Counter()
        self._tag_counter = TagCounter()
        self.models: dict[str, Model] = {}
        for name in profile.models:
            self.model(name)

    def model(self, name: str) -> Model | None:
        """Return the model of that name, None where this provider does not have it."""
        model = self.models.get(name)
        if model is None:
            settings = self.profile.settings_for(name)
            if settings is None or len(self.models) >= MOST_MODELS:
                return None
            model = self.models[name] = Model(name, settings, self.profile.server.seed)
        return model

    def calls(self, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """Return up to `limit` records of calls with numbers above `after`, in order of arrival."""
        return self.log.after(after, limit)

    def fault_for(self, model: Model, prompt: str, tags: Tags) -> Fault | None:
        """Return the fault of a call: tags in the message come before shares in the profile."""
        if tags.faults:
            return self._tag_counter.next_fault(prompt, tags.faults)
        return model.sampler.draw(model.settings.faults)

    def finish(self, log: CallLog, stats: ModelStats, call: Call) -> None:
        """Close an accepted call in the log and figures of its beginning; a reset makes others."""
        outcome = call.outcome or "disconnected"
        stats.tokens_sent += call.tokens
        stats.disconnected += call.client_left
        if outcome == "completed":
            stats.answered += 1
        elif outcome != "disconnected":
            stats.faults[outcome] += 1
        log.close(call, outcome)

    def configure(self, changes: dict[str, Any]) -> None:
        """Change settings while running: a part of a profile file; raises ProfileError."""
        self.profile = self.profile.changed(changes)
        for name in self.profile.models:
            self.model(name)
        for name in list(self.models):
            settings = self.profile.settings_for(name)
            if settings is not None:
                self.models[name].settings = settings
            else:
                del self.models[name]

    def stats(self) -> dict[str, Any]:
        """Return the figures of all models, and refusals by reason."""
        return {
            "models": {name: model.as_dict() for name, model in self.models.items()},
            "refused": dict(self.refused),
        }

    def reset(self) -> None:
        """Forget figures, records and used-up tags; calls in flight keep their places."""
        self.log = CallLog()
        self.refused = Counter()
        self._tag_counter.clear()
        for model in self.models.values():
            model.stats = ModelStats()
            model.limits.forget_peaks()
