"""The class of a task, and the models that serve the class, in order.

Owns the decision by explicit fields first and by the text second, and the pools of the classes.
Promises a reason with each decision. Never calls a model and never looks at load: which of the
pool's models takes the task is decided when one has room.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asyncsvc.config.settings import Model, Routes
from asyncsvc.routing.classifier import Classifier, Hit

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
NOT_PRESSING = {"simple", "general"}
"""Classes that lane `long` turns into batch."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A class and why. `rule` names the explicit field that decided; None: the text did.

    `score` tells how much the text leads towards reasoning; at 0 or above it is of that class.
    """

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
                {
                    "name": hit.name,
                    "value": 1.0,
                    "weight": hit.weight,
                    "class": hit.cls,
                    "matched": [hit.matched] if hit.matched else [],
                }
                for hit in self.hits
            ],
        }


@dataclass(frozen=True, slots=True)
class Asked:
    """The fields of a task that decide its class."""

    type: str
    text: str
    lane: str = "short"
    params: Mapping[str, Any] = field(default_factory=dict)
    wanted: str | None = None
    """The class that the task names."""


class Router:
    """`classify` a task, `pool` for the models of its class."""

    def __init__(
        self,
        models: Mapping[str, Model],
        routes: Routes,
        classifier: Classifier | None = None,
    ) -> None:
        self._models = models
        self._routes = routes
        self._classifier = classifier
        """None stands for the one of the package, which the first prompt without a model reads:
        10 ms and 4 MB that a service without such tasks does not need."""

    def apply(self, models: Mapping[str, Model], routes: Routes) -> None:
        """Other models and pools from now on."""
        self._models, self._routes = models, routes

    def classify(self, asked: Asked) -> Decision:
        """The class, by an explicit field where there is one."""
        explicit = _explicit(asked)
        if explicit is not None:
            return explicit
        classifier = self._classifier or Classifier.builtin()
        verdict = classifier.classify(asked.text)
        score = verdict.lead("reasoning")
        if asked.lane == "long" and verdict.name in NOT_PRESSING:
            return Decision("batch", "field: lane", score, verdict.hits)
        return Decision(verdict.name, None, score, verdict.hits, verdict.ambiguous)

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
