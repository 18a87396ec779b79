"""Whether choosing by expected time beats a fixed order of preference, under a mixed load.

`python -m tests.benchmarks.balance` runs the real service, but for the network, on a clock that
jumps: the mission's five models with their limits, each at its own speed, one of them three times
slower in the middle third, at 80 % of what they can serve. Three policies are given the same tasks
at the same moments:

- the order of preference bound at arrival, as a proxy with an ordered list does it: each task
  names the first model of its class's order that has room when it comes (a slot that no task waits
  for, and the rate), else the first of the order, and waits there;
- the same order bound late, `routing.balance` false: the first with room whenever one has room;
- `routing.balance` true.

It prints mean and 95th percentile of the time from submit to completion, of all and of the
real-time tasks, and exits 1 where either is not at least 20 % better than the order bound at
arrival. The speeds are assumptions; `--slow` chooses which model slows down (`none`: none does),
`--pools shipped` takes the pools of the shipped `good_at` instead of all chat models for each
class, in the order: those good at it, then the others as in the settings.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engine_services import EngineServices, model
from tests.scripted import Call, Script, ScriptedClient
from tests.virtual_time import loop, run_virtual

LOAD, BETTER, SLOWED = 0.80, 0.20, 3.0
SHARE_OF_LIMIT = 60.0
MODELS: dict[str, dict[str, Any]] = {
    "zhipu": {"concurrency": 1, "good_at": ["realtime"]},
    "hunyuan": {"concurrency": 5, "good_at": ["simple", "batch", "general"]},
    "nvidia1": {"concurrency": 5, "rpm": 40, "good_at": ["reasoning"]},
    "nvidia2": {"concurrency": 5, "rpm": 40, "good_at": ["simple", "general"]},
    "siliconflow": {"concurrency": 5, "rpm": 5, "type": "embedding"},
}
"""The limits and pools of the shipped settings, in their order."""
SECONDS = {"zhipu": 2.0, "hunyuan": 3.0, "nvidia1": 15.0, "nvidia2": 5.0, "siliconflow": 1.0}
"""Mean service time of a call."""
MIX = {"simple": 0.35, "general": 0.2, "reasoning": 0.15, "batch": 0.2, "realtime": 0.1}
"""Shares of the chat load."""
PROMPTS = {
    "simple": "什么是AI？",
    "general": "Tell the story of a lighthouse guard who finds a letter, and what it changes. " * 4,
    "reasoning": "深入分析人工智能对社会的影响",
    "batch": "翻译第1句",
    "realtime": "现在马上回答：你好",
    "embedding": "text",
}
SERVES = {
    "realtime": ("zhipu",),
    "reasoning": ("nvidia1",),
    "batch": ("hunyuan",),
    "simple": ("nvidia2",),
    "general": ("hunyuan", "nvidia2"),
    "embedding": ("siliconflow",),
}
"""Whose capacity the load of a class is measured by, with the shipped pools."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One task: when it comes, what it asks, and how large it is beside the mean."""

    at: float
    kind: str
    prompt: str
    size: float


def capacity(name: str) -> float:
    """Calls a second that a model can serve, by its slots and by its rate."""
    slots = float(MODELS[name]["concurrency"]) / SECONDS[name]
    rpm = MODELS[name].get("rpm")
    return min(slots, rpm / SHARE_OF_LIMIT) if rpm else slots


def arrivals(seconds: float, pools: str, seed: int, load: float = LOAD) -> list[Arrival]:
    """A Poisson stream of all classes, in order."""
    draw = random.Random(seed)
    found: list[Arrival] = []
    for kind, rate in _rates(pools, load).items():
        at = draw.expovariate(rate)
        while at < seconds:
            size = draw.lognormvariate(-0.18, 0.6)  # its mean is 1
            found.append(Arrival(at, kind, f"{PROMPTS[kind]} {len(found)}", size))
            at += draw.expovariate(rate)
    return sorted(found, key=lambda one: one.at)


def _rates(pools: str, load: float) -> dict[str, float]:
    """Tasks a second of each class."""
    if pools == "shipped":
        shares = {name: sum(name in serves for serves in SERVES.values()) for name in MODELS}
        return {
            kind: load * sum(capacity(name) / shares[name] for name in serves)
            for kind, serves in SERVES.items()
        }
    whole = load * sum(capacity(name) for name in MODELS if name != "siliconflow")
    return {kind: whole * share for kind, share in MIX.items()} | {
        "embedding": load * capacity("siliconflow")
    }


class Provider(ScriptedClient):
    """Answers after a time that depends on model, task and moment."""

    def __init__(self, tasks: list[Arrival], slow: str, seconds: float) -> None:
        super().__init__()
        self._size = {task.prompt: task.size for task in tasks}
        self._slow, self._seconds = slow, seconds

    def _script(self, call: Call) -> Script:
        takes = SECONDS[call.name] * self._size[call.prompt]
        middle = self._seconds / 3 <= call.started < self._seconds * 2 / 3
        return [takes * (SLOWED if middle and call.name == self._slow else 1.0), "ok"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How a task gets its model: `balance` as in the settings; `named` by us when it comes."""

    name: str
    balance: bool = False
    named: bool = False


BOUND = Policy("fixed, at arrival", named=True)
LATE = Policy("fixed, late")
BALANCED = Policy("by time", balance=True)


def orders(pools: str) -> dict[str, list[str]]:
    """The models of each class: those good at it, and with one pool for all the others after."""
    chats = [name for name in MODELS if name != "siliconflow"]
    found = {"embedding": ["siliconflow"]}
    for kind in MIX:
        own = [name for name in chats if kind in MODELS[name]["good_at"]]
        found[kind] = own + [n for n in chats if n not in own] if pools == "one" else own
    return found


async def completions(
    tasks: list[Arrival], policy: Policy, *, slow: str, pools: str, seconds: float
) -> list[float]:
    """Seconds from submit to completion of each task."""
    order = orders(pools)
    with tempfile.TemporaryDirectory(prefix="asyncsvc-balance-") as folder:
        services = EngineServices(
            Path(folder),
            {name: model(**fields) for name, fields in MODELS.items()},
            Provider(tasks, slow, seconds),
            routing={"balance": policy.balance},
            routes=order,
        )
        async with services:
            ones = (
                _one(services, task, order[task.kind] if policy.named else []) for task in tasks
            )
            return list(await asyncio.gather(*ones))


async def _one(services: EngineServices, task: Arrival, order: list[str]) -> float:
    await asyncio.sleep(max(task.at - loop().time(), 0))
    fields: dict[str, Any] = {"timeout_s": 3600}
    if order:
        fields["model"] = next((name for name in order if has_room(services, name)), order[0])
    if task.kind == "embedding":
        task_id = await services.submit_fields(type="embedding", input=task.prompt, **fields)
    else:
        task_id = await services.submit(task.prompt, **fields)
    ended = await services.finished(task_id)
    assert ended.state == "completed", ended.error
    return loop().time() - task.at


def has_room(services: EngineServices, name: str) -> bool:
    """Whether a call to the model could start now: a slot that no task waits for, and the rate."""
    scheduler = services.services.scheduler
    gate = next(
        account_slot.gate
        for account_slot in scheduler.account_slots
        if account_slot.upstream.name == name
    )
    return gate.busy + scheduler.depth(name) < gate.concurrency and gate.wait() <= 0


def measured(tasks: list[Arrival], options: argparse.Namespace, policy: Policy) -> list[float]:
    found: list[float] = []

    async def run() -> None:
        found.extend(
            await completions(
                tasks,
                policy,
                slow=options.slow,
                pools=options.pools,
                seconds=options.seconds,
            )
        )

    run_virtual(run())
    return found


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def report(options: argparse.Namespace) -> bool:
    """Print all policies and the gains; whether that over the order bound at arrival is enough."""
    tasks = arrivals(options.seconds, options.pools, options.seed, options.load)
    print(
        f"{len(tasks)} tasks in {options.seconds:g} s at {options.load:.0%}, "
        f"{options.pools} pools, seed {options.seed}; {options.slow} slows down"
    )
    took = {policy: measured(tasks, options, policy) for policy in (BOUND, LATE, BALANCED)}
    for policy, times in took.items():
        urgent = [t for t, task in zip(times, tasks, strict=True) if task.kind == "realtime"]
        print(
            f"{policy.name:18} mean {statistics.mean(times):7.2f} s   p95 {p95(times):7.2f} s   "
            f"real-time {statistics.mean(urgent):6.2f} s, {p95(urgent):6.2f} s"
        )
    gains = {policy: gain(took[policy], took[BALANCED]) for policy in (BOUND, LATE)}
    for policy, (mean, tail) in gains.items():
        print(f"by time against {policy.name:18} mean {mean:+.0%}   p95 {tail:+.0%}")
    return min(gains[BOUND]) >= BETTER


def gain(before: list[float], after: list[float]) -> tuple[float, float]:
    """By what share mean and 95th percentile are less."""
    return 1 - statistics.mean(after) / statistics.mean(before), 1 - p95(after) / p95(before)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=900.0, help="how long tasks come")
    parser.add_argument("--load", type=float, default=LOAD, help="share of the capacity")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slow", choices=[*MODELS, "none"], default="nvidia1")
    parser.add_argument("--pools", choices=["one", "shipped"], default="one")
    good = report(parser.parse_args())
    print("at least 20 % better" if good else "not 20 % better")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
