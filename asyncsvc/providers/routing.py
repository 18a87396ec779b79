"""Which class a task belongs to, and which models serve it, in order.

Owns the decision from explicit fields first and the text second, and the pools of the classes.
Promises that every decision says why. Never calls a model, never looks at load: which of the
pool's models takes the task is decided when one has room.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asyncsvc.providers.features import Features, Hit, Reading
from asyncsvc.providers.tokens import estimate
from asyncsvc.settings import Model, Routes

CLASSES = tuple(Routes.model_fields)
NAMED: Mapping[str, Any] = {
    "class": None,
    "rule": "field: model",
    "score": None,
    "ambiguous": False,
    "features": [],
}
"""The decision on a task that names its model."""
TAGS = {"/think": "reasoning", "/fast": "realtime", "/batch": "batch", "/no_think": "simple"}
"""At the start of the prompt, in Qwen's manner; the tag decides and is left in the text."""
SIMPLE_SCORE = -1.0
SIMPLE_TOKENS = 60
SIMPLE_CHARS = SIMPLE_TOKENS * 8
"""No text above this is short; counting the tokens of a megabyte would take longer than allowed."""
AMBIGUOUS = (-0.6, 0.0)


@dataclass(frozen=True, slots=True)
class Decision:
    """A class and why. `rule` names the explicit field that decided; None: the text did."""

    name: str
    rule: str | None = None
    score: float | None = None
    hits: tuple[Hit, ...] = ()
    ambiguous: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As `metadata.route` and `POST /route` show it."""
        return {
            "class": self.name,
            "rule": self.rule,
            "score": None if self.score is None else round(self.score, 3),
            "ambiguous": self.ambiguous,
            "features": [
                {"name": h.name, "value": h.value, "weight": h.weight, "matched": h.matched}
                for h in self.hits
            ],
        }


@dataclass(frozen=True, slots=True)
class Asked:
    """What a decision is made from."""

    type: str
    text: str
    lane: str = "short"
    params: Mapping[str, Any] = field(default_factory=dict)
    wanted: str | None = None
    """The class that was named outright."""


class Router:
    """`classify` a task, `pool` for the models of its class."""

    def __init__(
        self,
        models: Mapping[str, Model],
        routes: Routes,
        features: Features | None = None,
    ) -> None:
        self._models = models
        self._routes = routes
        self._features = features or Features.builtin()

    def apply(self, models: Mapping[str, Model], routes: Routes) -> None:
        """Other models and pools from now on."""
        self._models, self._routes = models, routes

    def classify(self, asked: Asked) -> Decision:
        """The class, by what is said explicitly if anything is."""
        explicit = _explicit(asked)
        if explicit is not None:
            return explicit
        reading = self._features.read(asked.text)
        name, rule = _by_text(asked, reading)
        low, high = AMBIGUOUS
        return Decision(name, rule, reading.score, reading.hits, low <= reading.score < high)

    @property
    def realtime(self) -> frozenset[str]:
        """The models that are meant for real-time work."""
        named = self._routes.realtime
        good = (m for m, settings in self._models.items() if "realtime" in settings.good_at)
        return frozenset(good if named is None else named)

    def pool(self, name: str) -> tuple[list[str], list[str]]:
        """(models of the class in order, those to fall back on), whether enabled or not."""
        kind = "embedding" if name == "embedding" else "chat"
        able = [model for model, settings in self._models.items() if settings.type == kind]
        good = self._routes.of(name)
        if good is not None:
            return list(good), []
        good = [m for m in able if name == "embedding" or name in self._models[m].good_at]
        rest = [model for model in able if model not in good]
        return (good, rest) if good else (rest, [])


def _by_text(asked: Asked, reading: Reading) -> tuple[str, str | None]:
    """The class by what the text says, and the word or field that told it."""
    if cue := reading.cue("realtime"):
        return "realtime", f"words: {cue}"
    if reading.score >= 0:
        return "reasoning", None
    if cue := reading.cue("batch"):
        return "batch", f"words: {cue}"
    if asked.lane == "long":
        return "batch", "field: lane"
    if len(asked.text) < SIMPLE_CHARS and estimate(asked.text) < SIMPLE_TOKENS:
        if cue := reading.cue("simple"):
            return "simple", f"words: {cue}"
        if reading.score < SIMPLE_SCORE:
            return "simple", None
    return "general", None


def _explicit(asked: Asked) -> Decision | None:
    if asked.wanted is not None:
        return Decision(asked.wanted, "field: route_as")
    if asked.type == "embedding":
        return Decision("embedding", "field: type")
    head = asked.text.lstrip()[:16].casefold()
    for tag, name in TAGS.items():
        if head.startswith(tag) and not head[len(tag) : len(tag) + 1].isalnum():
            return Decision(name, f"tag: {tag}")
    if asked.params.get("thinking") == "on" or asked.params.get("reasoning_effort") in (
        "medium",
        "high",
    ):
        return Decision("reasoning", "field: params")
    if asked.lane == "priority":
        return Decision("realtime", "field: lane")
    return None
