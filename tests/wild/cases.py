"""The wild table: its cases, and the settings under which the service runs them.

A case is one line of `upstream.jsonl` or `more.jsonl`; README.md describes each field. A run is one
case at one door, with a provider and a model of its own.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncsvc.config.model import Model

TABLES = tuple(Path(__file__).with_name(name) for name in ("upstream.jsonl", "more.jsonl"))
"""Cases from public reports, and further spellings of the same kinds."""
GROUP_SIZE = 40
"""Cases that one service serves at once: few enough that it is never short of processor time."""

Object = dict[str, Any]

LIMITS: Mapping[str, Mapping[str, Object]] = {
    "short": {
        "timeouts": {"first_token_s": 4, "idle_s": 3, "connect_s": 3, "short_s": 25},
        "retry": {"max_retries": 1, "base_s": 0.1, "max_s": 0.2},
        "breaker": {"failures": 1000, "cooldown_s": 2},
        "cache": {"enabled": False},
    },
    "default": {},
    "alone": {},
}
"""The tables of the settings file for each value of `limits`."""


@dataclass(frozen=True)
class Case:
    """One behaviour of a provider and what must come of it."""

    id: str
    kind: str
    control: bool
    limits: str
    why: str
    model: Object
    upstream: Object
    doors: tuple[str, ...]
    steps: tuple[Object, ...]
    expect: Object

    @property
    def code(self) -> str:
        """The kind's number, such as K7."""
        return self.kind.split()[0]

    def settings(self, base_url: str) -> Object:
        """The settings of the model that the case is run with."""
        own = {key: value for key, value in self.model.items() if key != "try"}
        for spelling in self.model.get("try", []):
            if spelling.keys() <= Model.model_fields.keys():
                own |= spelling
                break
        return {"base_url": base_url, "model": "m", "concurrency": 20} | own


@dataclass(frozen=True)
class Run:
    """One case at one door."""

    case: Case
    door: str

    @property
    def name(self) -> str:
        """The name of its model in the settings, and of its test."""
        return f"{self.case.id}-{self.door}"


def load(paths: Iterable[Path] = TABLES) -> list[Case]:
    """All cases, in the order of the files."""
    # A text in a case may hold characters that `splitlines` takes for the end of a line.
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").split("\n")]
    return [_case(json.loads(line)) for line in lines if line]


def _case(fields: Object) -> Case:
    request = fields["request"]
    common = request.get("body", {})
    steps = request.get("steps") or [{}]
    return Case(
        id=fields["id"],
        kind=fields["kind"],
        control=fields["control"],
        limits=fields["limits"],
        why=fields["why"],
        model=fields.get("model") or {},
        upstream=fields["upstream"],
        doors=tuple(request["doors"]),
        steps=tuple(step | {"body": common | step.get("body", {})} for step in steps),
        expect=fields["expect"],
    )


def grouped(cases: Iterable[Case], size: int = GROUP_SIZE) -> dict[str, list[Case]]:
    """The cases by the service that serves them; `alone` shares its service with no other."""
    of_limits: dict[str, list[Case]] = {}
    for case in cases:
        of_limits.setdefault(case.limits, []).append(case)
    groups: dict[str, list[Case]] = {}
    # The cases with the product's own limits take longest, and go first.
    for limits, found in sorted(of_limits.items()):
        each = 1 if limits == "alone" else size
        for number, begin in enumerate(range(0, len(found), each)):
            groups[f"{limits}-{number}"] = found[begin : begin + each]
    return groups


def runs(cases: Sequence[Case]) -> list[Run]:
    """Each case at each of its doors."""
    return [Run(case, door) for case in cases for door in case.doors]
