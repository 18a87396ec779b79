"""Hostile providers and hostile clients, one attack after the other, with honest load beside each.

Each attack has a service of its own, with an honest provider, honest clients (20 submits a second,
a streamed chat, 50 probes of /livez a second) and the attacker in a process that gives way to all
others. Attacks of providers are tasks for a model that answers with the attack; attacks of clients
come with a valid token unless they say otherwise.

Broken, for each attack: memory of the service of 500 MB, or not back within a tenth of what it
was 60 s after; /livez of 100 ms (p99) or honest submits of 50 ms (p95); an honest request that was
refused, a task lost, an answer wrong; an answer 500, an error `internal`, a traceback in the log;
a service that ended. An attack is stopped early where the service has taken 1.5 GB.
"""

import argparse
import asyncio
import fnmatch
import math
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import psutil
import uvloop

from tests.benchmarks import hostile_provider, stage
from tests.benchmarks.crowd import enough_files
from tests.benchmarks.hostile_attackers import (
    FILES_MB,
    HONEST_TOKEN,
    HOSTILE_TOKEN,
    MEGABYTE,
    Attackers,
    Plan,
    described,
    names,
    settings,
)
from tests.benchmarks.hostile_honest import Honest
from tests.benchmarks.report import Report, percentile, progress

MEMORY_MB = 500.0
STOP_MB = 1500.0
"""Beyond it the attack has shown enough, and the machine is for others as well."""
BACK_SHARE = 1.1
PROBE_P99_MS = 100.0
SUBMIT_P95_MS = 50.0
SAMPLE_S = 0.1
WITHOUT_TOKENS = frozenset({"owners"})
"""Attacks on a service without tokens."""
FILLING = frozenset({"batches", "files", "all-in-turn"})
"""Attacks that fill what is there for all: beyond its bound honest clients are refused as well."""


@dataclass
class Outcome:
    """What one attack did to the service and to honest clients."""

    name: str
    start_mb: float = 0.0
    most_mb: float = 0.0
    end_mb: float = 0.0
    back_s: float = float("nan")
    probe_ms: float = 0.0
    submit_ms: float = 0.0
    gap_ms: float = 0.0
    """The longest time without a piece of the honest chat."""
    honest: int = 0
    written_mb: float = 0.0
    """What the service keeps on the disk at the end."""
    seen: Counter[str] = field(default_factory=Counter)
    """What the attacker was answered, or how its tasks ended."""
    broken: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    """Aims of time that were missed."""

    def row(self) -> tuple[object, ...]:
        most = ", ".join(f"{count:,} {what}" for what, count in self.seen.most_common(3))
        verdict = "; ".join((*self.broken, *self.late))
        back = "no" if math.isnan(self.back_s) else f"{self.back_s:.1f}"
        times = (round(ms) if ms < math.inf else "" for ms in (self.probe_ms, self.submit_ms))
        gap = "" if math.isnan(self.gap_ms) else round(self.gap_ms)
        return (
            self.name, round(self.start_mb), round(self.most_mb), round(self.end_mb), back,
            *times, gap, self.honest, most, _cut(verdict, 160) or "holds",
        )  # fmt: skip


COLUMNS = (
    "attack", "MB before", "most", "after", "back s", "livez p99 ms", "submit p95 ms",
    "chat gap ms", "honest", "the attacker saw", "verdict",
)  # fmt: skip


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


@asynccontextmanager
async def services(name: str) -> AsyncIterator[tuple[stage.Child, Path]]:
    """The service with both providers behind it, and its folder."""
    module = "tests.benchmarks.hostile_provider"
    async with AsyncExitStack() as stack:
        folder, _ = await stack.enter_async_context(stage.workplace())
        honest = stage.child(folder, "honest", ["-m", module], "/")
        nice = str(hostile_provider.NICE)
        hostile = stage.child(folder, "hostile", ["-m", module, "--nice", nice], "/")
        await stack.enter_async_context(honest)
        await stack.enter_async_context(hostile)
        service = stage.service(folder, settings(name, honest.url, hostile.url, folder))
        if name.partition(":")[2] not in WITHOUT_TOKENS:
            service.environ["ASYNCSVC_TOKENS"] = f"{HONEST_TOKEN},{HOSTILE_TOKEN}"
        yield await stack.enter_async_context(service), folder


async def measure(name: str, plan: Plan) -> Outcome:
    """One attack on a service of its own."""
    outcome = Outcome(name)
    async with services(name) as (service, folder):
        attackers = Attackers(name, service, plan)
        async with attackers.prepared():
            await _load(service, "before", plan.warm_s)
            outcome.start_mb = service.memory_mb()
            honest = await _attacked(outcome, service, attackers)
        outcome.probe_ms = percentile(honest.probes_s, 0.99) * 1000
        outcome.submit_ms = percentile(honest.submits_s, 0.95) * 1000
        outcome.gap_ms = max(honest.gaps_s, default=float("nan")) * 1000
        outcome.honest = honest.accepted
        if alive(service):
            await honest.check()
            await _back(outcome, service, plan)
        outcome.written_mb = sum(f.stat().st_size for f in folder.iterdir()) / MEGABYTE
        judge(outcome, honest, service.process.returncode, service.faults(), plan)
    return outcome


async def _load(service: stage.Child, prefix: str, seconds: float) -> Honest:
    """Honest load for so long."""
    honest = Honest(service.url, {"authorization": f"Bearer {HONEST_TOKEN}"}, prefix)
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, stop.set)
    await honest.run(stop)
    return honest


async def _attacked(outcome: Outcome, service: stage.Child, attackers: Attackers) -> Honest:
    """Honest load and the attack beside it, until the attack is over."""
    honest = Honest(service.url, {"authorization": f"Bearer {HONEST_TOKEN}"}, "beside")
    over, enough = asyncio.Event(), asyncio.Event()

    async def attack() -> None:
        try:
            await attackers.act(outcome.seen, enough)
        finally:
            over.set()

    async def watch() -> None:
        while not over.is_set():
            _sample(outcome, service)
            if outcome.most_mb > STOP_MB or not alive(service):
                enough.set()
            await asyncio.sleep(SAMPLE_S)

    async with asyncio.TaskGroup() as group:
        group.create_task(attack())
        group.create_task(watch())
        group.create_task(honest.run(over))
    return honest


def alive(service: stage.Child) -> bool:
    return service.process.returncode is None


def _sample(outcome: Outcome, service: stage.Child) -> None:
    with suppress(psutil.NoSuchProcess):
        outcome.end_mb = service.memory_mb()
        outcome.most_mb = max(outcome.most_mb, outcome.end_mb)


async def _back(outcome: Outcome, service: stage.Child, plan: Plan) -> None:
    """Wait until memory is what it was, at most as long as the plan allows."""
    began = perf_counter()
    while alive(service):
        _sample(outcome, service)
        took = perf_counter() - began
        if outcome.end_mb <= outcome.start_mb * BACK_SHARE:
            outcome.back_s = took
            return
        if took >= plan.back_s:
            return
        await asyncio.sleep(SAMPLE_S)


def judge(
    outcome: Outcome, honest: Honest, code: int | None, faults: Sequence[str], plan: Plan
) -> None:
    """Hold the outcome against the aims; `code`: with which the service has ended, `faults`: of
    its log."""
    internal, refused = outcome.seen["internal"], dict(honest.refused.most_common(3))
    if not plan.timed:  # a machine that stands still makes these by itself
        refused = {k: n for k, n in refused.items() if "503" not in k and "Timeout" not in k}
    error_500 = outcome.seen["500"] or any(" 500" in what for what in honest.refused)
    filling = outcome.name.partition(":")[2] in FILLING
    found = (
        (code is not None, f"the service ended with {code}"),
        (outcome.most_mb >= MEMORY_MB, f"{outcome.most_mb:.0f} MB"),
        (refused and not filling, f"honest clients saw {refused}"),
        (error_500, "an answer was 500"),
        (internal, f"{internal} tasks ended with the error `internal`"),
        (honest.wrong, f"{len(honest.wrong)} honest answers wrong, such as {honest.wrong[:1]}"),
        (faults, f"{len(faults)} faults in the log, such as {faults[:1]}"),
        (
            outcome.name == "client:files" and outcome.written_mb > FILES_MB * BACK_SHARE,
            f"{outcome.written_mb:.0f} MB were written, {FILES_MB} allowed",
        ),
    )
    outcome.broken += [text for holds, text in found if holds]
    if plan.timed:
        late = (
            (outcome.end_mb > outcome.start_mb * BACK_SHARE, f"{outcome.end_mb:.0f} MB stay"),
            (outcome.probe_ms >= PROBE_P99_MS, f"livez p99 {outcome.probe_ms:.0f} ms"),
            (outcome.submit_ms >= SUBMIT_P95_MS, f"submit p95 {outcome.submit_ms:.0f} ms"),
        )
        outcome.late += [text for holds, text in late if holds]


async def run(plan: Plan, chosen: Sequence[str]) -> Report:
    """These attacks, one after the other."""
    enough_files()
    report = Report(f"hostile: {len(chosen)} attacks of {plan.seconds:g} s", COLUMNS)
    for number, name in enumerate(chosen):
        progress(f"{number + 1} of {len(chosen)}: {name}: {described(name)}")
        outcome = await measure(name, plan)
        report.row(*outcome.row())
        report.broken += [f"{name}: {fault}" for fault in (*outcome.broken, *outcome.late)]
        progress(" | ".join(str(cell) for cell in outcome.row()))
    return report


def chosen_by(patterns: Sequence[str]) -> list[str]:
    """The attacks whose names fit one of the patterns; all where there is none."""
    if not patterns:
        return names()
    return [n for n in names() if any(fnmatch.fnmatch(n, pattern) for pattern in patterns)]


def main(argv: Sequence[str] | None = None) -> int:
    default = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.hostile", description=__doc__)
    parser.add_argument("attack", nargs="*", help="names or patterns, as client:* or *:long-*")
    parser.add_argument("--seconds", type=float, default=default.seconds, help="of each attack")
    parser.add_argument("--back-s", type=float, default=default.back_s, help="wait for memory")
    parser.add_argument("--scale", type=float, default=default.scale, help="of what is prepared")
    parser.add_argument("--list", action="store_true", help="show the attacks and end")
    given = parser.parse_args(argv)
    chosen = chosen_by(given.attack)
    if given.list:
        print("\n".join(f"{name}: {described(name)}" for name in chosen))
        return 0
    if not chosen:
        parser.error("no attack has such a name; --list shows them")
    plan = Plan(seconds=given.seconds, back_s=given.back_s, scale=given.scale)
    return uvloop.run(run(plan, chosen)).finish()


if __name__ == "__main__":
    sys.exit(main())
