"""The simulated provider without its HTTP: models, limits, figures and records.

Owns what one run of the simulator knows. Promises that each accepted call is counted from its
arrival to its end, and that a change of settings holds for the next call. It never touches a
connection.
"""

import random
from collections import Counter
from typing import Any

from asyncsvc.simulator.faults import Fault, FaultDice
from asyncsvc.simulator.limits import Caller, ModelLimits, Violation
from asyncsvc.simulator.profile import ModelSettings, Profile
from asyncsvc.simulator.stats import Call, CallLog, ModelStats
from asyncsvc.simulator.tags import TagCounter, Tags

# Names are chosen by clients where any model is allowed; their number must stay bounded.
MOST_MODELS = 10_000


class Model:
    """One simulated model: its settings and what became of them."""

    def __init__(self, name: str, settings: ModelSettings, seed: int) -> None:
        self.name = name
        self.settings = settings
        self.limits = ModelLimits()
        self.stats = ModelStats()
        self.chance = random.Random(f"{seed}:{name}:pace")
        self._dice = FaultDice(f"{seed}:{name}:faults")

    def admit(self, caller: Caller, arrived: float, arrived_at: float) -> Violation | None:
        """Count the arrival and take a place, or say which limit was broken."""
        settings = self.settings
        self.stats.calls += 1
        violation = self.limits.admit(
            caller,
            arrived,
            concurrency=settings.concurrency,
            rpm=settings.rpm,
            window_s=settings.window_s,
        )
        if violation is None:
            self.stats.arrivals.append(arrived_at)
        else:
            self.stats.rejected[violation] += 1
        return violation

    def roll_fault(self) -> Fault | None:
        return self._dice.roll(self.settings.faults)

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.stats.as_dict(),
            "in_flight": self.limits.in_flight,
            "peak_concurrency": self.limits.peak_concurrency,
            "max_in_window": self.limits.max_in_window,
        }


class Provider:
    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.log = CallLog()
        self.refused: Counter[str] = Counter()
        self._tag_counter = TagCounter()
        self._models: dict[str, Model] = {}
        for name in profile.models:
            self.model(name)

    def model(self, name: str) -> Model | None:
        """The model of that name, None where this provider does not have it."""
        model = self._models.get(name)
        if model is None:
            settings = self.profile.settings_for(name)
            if settings is None or len(self._models) >= MOST_MODELS:
                return None
            model = self._models[name] = Model(name, settings, self.profile.server.seed)
        return model

    def model_names(self) -> list[str]:
        return list(self._models)

    def fault_for(self, model: Model, prompt: str, tags: Tags) -> Fault | None:
        """What befalls this call: tags in the message come before shares in the profile."""
        if tags.faults:
            return self._tag_counter.next_fault(prompt, tags.faults)
        return model.roll_fault()

    def finish(self, log: CallLog, stats: ModelStats, call: Call, now: float) -> None:
        """Close an accepted call; the code that answered it sets ``outcome``."""
        outcome = call.outcome or "disconnected"
        stats.tokens_sent += call.tokens
        stats.disconnected += call.client_left
        if outcome == "completed":
            stats.answered += 1
        elif outcome != "disconnected":
            stats.faults[outcome] += 1
        log.close(call, outcome, now)

    def configure(self, changes: dict[str, Any]) -> None:
        """Change settings while running (shape of the profile file, partial); or ProfileError."""
        self.profile = self.profile.changed(changes)
        for name in self.profile.models:
            self.model(name)
        for name in list(self._models):
            settings = self.profile.settings_for(name)
            if settings is not None:
                self._models[name].settings = settings
            else:
                del self._models[name]

    def figures(self) -> dict[str, Any]:
        return {
            "models": {name: model.as_dict() for name, model in self._models.items()},
            "refused": dict(self.refused),
        }

    def reset(self) -> None:
        """Forget figures, records and used-up tags; calls in flight keep their places."""
        self.log = CallLog()
        self.refused = Counter()
        self._tag_counter.clear()
        for model in self._models.values():
            model.stats = ModelStats()
            model.limits.forget_peaks()
