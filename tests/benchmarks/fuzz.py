"""schemathesis against the running service, by its own description.

`python -m tests.benchmarks.fuzz --cases N`: requests that the document at `/openapi.json` allows
and requests that it forbids, over a real socket, in equal parts; first the boundary cases of each
operation, then random ones. Every answer must be described: status, content type, headers, body;
a method that is not described must be 405; nothing may be a 5xx but a described 503.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast
from unittest import SkipTest

import hypothesis
import requests
import schemathesis
import uvloop
from hypothesis import HealthCheck, Phase
from schemathesis import Case, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.benchmarks import stage
from tests.benchmarks.report import Report

AnyCase = Case[Any]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
MODELS = ("fast", "embed", None)
KNOWN_IDS = 64
SHOWN = 30
ROUNDS = 4
"""How often each operation has its turn, so that tasks have come and gone between."""
HANG = "[[sim:hang]]"
UNKNOWN_HEADER = "x-schemathesis-unknown-property"
LATER_S = 3600
CASE_S = 20
"""No answer may take longer."""


class Fuzz:
    """Asks one service; `report.broken` tells what it should not have answered."""

    def __init__(self, url: str, cases: int, seed: int) -> None:
        self.report = Report(f"schemathesis, seed {seed}", ("operation", "cases", "statuses"))
        self._url = url
        self._cases = cases
        self._seed = seed
        self._dice = random.Random(seed)
        self._session = requests.Session()
        self._session.trust_env = False
        self._ids: list[str] = []
        self._answers: dict[str, Counter[int]] = {}
        self._faults: Counter[str] = Counter()
        self._slowest = (0.0, "")
        self._schema = schemathesis.openapi.from_url(f"{url}/openapi.json")

    @property
    def done(self) -> int:
        return sum(counts.total() for counts in self._answers.values())

    def go(self) -> None:
        """All cases, then what was found."""
        operations: list[Any] = [
            cast(Any, found).ok() for found in self._schema.get_all_operations()
        ]
        boundary = [case for one in operations for case in self._boundaries(one)]
        self._dice.shuffle(boundary)
        for case in boundary[: self._cases // 3]:
            self._ask(case)
        self._at_random([(one, mode) for one in operations for mode in MODES])
        for label, counts in sorted(self._answers.items()):
            shown = " ".join(f"{status}:{count}" for status, count in sorted(counts.items()))
            self.report.row(label, counts.total(), shown)
        self.report.row("all", self.done, "")
        self.report.notes.append("slowest answer: {:.2f} s, {}".format(*self._slowest))
        self.report.broken += [f"{n} times: {text}" for text, n in self._faults.most_common(SHOWN)]

    def _boundaries(self, operation: Any) -> Iterator[AnyCase]:
        config = self._schema.config.generation_for(operation=operation)
        yield from self._schema.iter_coverage_cases(
            operation, generation_modes=list(MODES), generation_config=config
        )

    def _at_random(self, ways: list[tuple[Any, GenerationMode]]) -> None:
        """Share what is left among the ways; one with few cases leaves its share to the rest."""
        while ways and (left := self._cases - self.done) > 0:
            share = max(min(left, self._cases // ROUNDS) // len(ways), 1)
            ways = [way for way in ways if self._some(*way, min(share, self._cases - self.done))]

    def _some(self, operation: Any, mode: GenerationMode, count: int) -> bool:
        """That many cases; whether there may be more."""
        if count <= 0:
            return False
        asked = 0

        @hypothesis.seed(self._dice.getrandbits(32))
        @_settings(count)
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: AnyCase) -> None:
            nonlocal asked
            asked += 1
            self._ask(case)

        try:
            ask()
        except (SkipTest, hypothesis.errors.Unsatisfiable):
            return False  # such as a wrong request to a path that takes nothing
        return asked >= count

    def _ask(self, case: AnyCase) -> None:
        label = case.operation.label
        self._aim(case)
        self._set_apart(case)
        try:
            answer = case.call(base_url=self._url, session=self._session, timeout=CASE_S)
        except requests.RequestException as error:
            self._faults[f"{label}: no answer: {type(error).__name__}: {error}"[:600]] += 1
            return
        self._answers.setdefault(label, Counter())[answer.status_code] += 1
        self._slowest = max(self._slowest, (answer.elapsed, label))
        self._learn(case, answer)
        try:
            case.validate_response(answer, checks=self._checks(case, answer))
        except FailureGroup as group:
            for failure in group.exceptions:
                self._note(label, case, answer, failure)
        except Failure as failure:
            self._note(label, case, answer, failure)

    def _set_apart(self, case: AnyCase) -> None:
        """A session of its own: a held call would wait for a task of its session that is paused."""
        name = next((name for name in case.headers or {} if name.lower() == SESSION), None)
        if name is not None and case.headers and 0 < len(str(case.headers[name])) <= SESSION_ROOM:
            case.headers[name] = f"{case.headers[name]}{self.done}"

    def _checks(self, case: AnyCase, answer: Response) -> list[Any]:
        # A 503 with a code is an honest answer, and has to be described like any other.
        checks = [c for c in CHECKS if answer.status_code != 503 or c is not not_a_server_error]
        # An empty filter is none, and a header may be meant for another kind of answer; but a
        # body that the document forbids must never be taken.
        # An unknown header is no fault of a request.
        strict = case.method == "POST" and UNKNOWN_HEADER not in case.headers
        return [*checks, negative_data_rejection] if strict else checks

    def _note(self, label: str, case: AnyCase, answer: Response, failure: BaseException) -> None:
        shown = f"{label}: {answer.status_code}: {failure}"[:700]
        if shown not in self._faults:
            self.report.notes.append(f"{label}: {case.as_curl_command()}"[:1000])
        self._faults[shown] += 1

    def _learn(self, case: AnyCase, answer: Response) -> None:
        """Remember ids of tasks that there are, so that the other operations find some."""
        location = (answer.headers.get("location") or [""])[0]
        if location.startswith("/tasks/"):
            self._ids = [*self._ids[-KNOWN_IDS:], location.rpartition("/")[2]]
        gone = (case.path_parameters or {}).get("task_id")
        if case.method == "DELETE" and answer.status_code == 204 and gone in self._ids:
            self._ids.remove(gone)

    def _aim(self, case: AnyCase) -> None:
        """Mostly tasks and models that there are, so that not all ends with a 404."""
        if self._ids and "task_id" in case.path_parameters and self._dice.random() < 0.8:
            case.path_parameters["task_id"] = self._dice.choice(self._ids)
        if "Idempotency-Key" in case.headers and self._dice.random() < 0.8:
            del case.headers["Idempotency-Key"]  # else most are the same key with another body
        if case.meta is None or case.meta.generation.mode is GenerationMode.NEGATIVE:
            return  # what is wrong with its body must stay wrong
        for task in _tasks(case.body):
            if isinstance(task.get("model"), str):
                task["model"] = self._dice.choice((*MODELS, task["model"]))
            # Some run and some wait for as long as they are asked about.
            if isinstance(task.get("content"), str) and self._dice.random() < 0.1:
                task["content"] += HANG
            elif "delay_s" in task and self._dice.random() < 0.5:
                task["delay_s"] = LATER_S


def _tasks(body: Any) -> list[dict[str, Any]]:
    """What a body submits, if anything."""
    if not isinstance(body, dict):
        return []
    inner = body.get("tasks")
    return [
        task for task in (inner if isinstance(inner, list) else [body]) if isinstance(task, dict)
    ]


def _settings(examples: int) -> hypothesis.settings:
    """Cases are not kept, shrunk or timed: a fault is printed with a command to repeat it."""
    return hypothesis.settings(
        max_examples=examples,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


SESSION, SESSION_ROOM = "x-session-id", 180
ROOM = 5000
"""Calls at once: a call of OpenAI's API is answered when its task is done, and tasks that hang
must not keep it waiting."""


def tables(simulator: stage.Child) -> Mapping[str, Mapping[str, Any]]:
    """Settings under which most tasks are over soon and some wait."""
    common = {"base_url": f"{simulator.url}/v1", "model": "sim"}
    return {
        "timeouts": {"first_token_s": 5},
        "breaker": {"failures": 1000},
        "models.fast": common | {"concurrency": ROOM},
        "models.embed": common | {"type": "embedding", "concurrency": ROOM},
    }


async def run(cases: int, seed: int) -> Report:
    """A service of its own, asked so often."""
    async with stage.workplace() as (folder, client):
        profile = {"default": {"answer_tokens": 8}}
        async with (
            stage.simulator(folder, profile) as simulator,
            stage.service(folder, tables(simulator)) as service,
        ):
            began = time.monotonic()
            fuzz = await asyncio.to_thread(Fuzz, service.url, cases, seed)
            await asyncio.to_thread(fuzz.go)
            fuzz.report.row("seconds", round(time.monotonic() - began, 1), "")
            fuzz.report.require(fuzz.done >= cases, f"only {fuzz.done} cases of {cases}")
            health = await stage.get(client, f"{service.url}/health")
            fuzz.report.require(health["status"] == "ok", f"health: {health['problems']}")
            fuzz.report.broken += [f"log: {line}" for line in service.faults()[:SHOWN]]
            return fuzz.report


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args(argv)
    return uvloop.run(run(options.cases, options.seed)).finish()


if __name__ == "__main__":
    sys.exit(main())
