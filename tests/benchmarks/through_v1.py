"""Streamed chat calls through `/v1` beside the LiteLLM proxy, in one run.

The provider answers at once with 20 chunks. A client keeps 64 calls under way, in alternating
rounds to the service and to a proxy with one worker and no database. Chunks are counted as the
provider sent them, however many of them a service puts into one event. The service stores each
call as a task on the disk, the proxy stores nothing. Memory is that of each process after the
last round. Broken is a call that is not answered 200, and a text that is not the provider's.
"""

import argparse
import asyncio
import re
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import orjson
import uvloop

from tests.benchmarks import stage, wire
from tests.benchmarks.fast_provider import texts
from tests.benchmarks.report import Report, progress
from tests.benchmarks.scratch import Absent, environment
from tests.benchmarks.stage import Child
from tests.benchmarks.turnaround import CHUNKS, provider, settings

CONNECTIONS = 64
RATIO_TARGET, MEMORY_TARGET = 10.0, 0.25
LITELLM = ("litellm[proxy]==1.108.7",)
MOST_START_S = 120.0
BODY = {"model": "fast", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
ENVIRON = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # nothing is asked of the network
    "LITELLM_TELEMETRY": "False",
    "NO_PROXY": "*",
    # On loopback, before a provider without a key: a check of keys would only slow the proxy down.
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}
_CONTENT = re.compile(rb'"content":\s*"([^"]*)"')


@dataclass(frozen=True)
class Plan:
    """How much is measured; the proxy does a part of the calls, as it takes longer."""

    rounds: int = 5
    calls: int = 1500
    proxy_calls: int = 300
    peer: bool = True


async def proxy(folder: Path, upstream: Child) -> Child:
    """The LiteLLM proxy, not yet started. Raises Absent."""
    programs = await environment(LITELLM)
    file = folder / "litellm.json"  # JSON is YAML
    parameters = {"model": "openai/fast", "api_base": f"{upstream.url}/v1", "api_key": "none"}
    models = [{"model_name": "fast", "litellm_params": parameters}]
    file.write_bytes(orjson.dumps({"model_list": models}))
    arguments = [str(programs / "litellm"), "--config", str(file), "--host", stage.HOST]
    child = stage.child(
        folder, "litellm", arguments, "/health/liveliness", program=str(programs / "python")
    )
    child.most_ready_s = MOST_START_S
    child.environ = ENVIRON
    return child


async def run(plan: Plan) -> Report:
    """The whole benchmark."""
    report = Report(
        f"through_v1: {CONNECTIONS} streamed calls of {CHUNKS} chunks under way, "
        f"{plan.rounds} rounds",
        ("what", "service", "LiteLLM proxy", "ratio"),
    )
    async with (
        stage.workplace() as (folder, _),
        provider(folder) as upstream,
        stage.service(folder, settings(upstream.url, CONNECTIONS)) as service,
        AsyncExitStack() as stack,
    ):
        children = [(service, plan.calls)]
        if plan.peer:
            try:
                child = await proxy(folder, upstream)
                children.append((await stack.enter_async_context(child), plan.proxy_calls))
            except Absent as reason:
                report.notes.append(f"the LiteLLM proxy is left out: {reason}")
        rates = await _rounds(report, plan, children)
        memory = [child.memory_mb() for child, _ in children]
        _tell(report, rates, memory)
        report.broken += service.faults()
    return report


async def _rounds(
    report: Report, plan: Plan, children: Sequence[tuple[Child, int]]
) -> list[list[float]]:
    """Calls per second of each child in each round."""
    data = wire.request("/v1/chat/completions", orjson.dumps(BODY))
    rates: list[list[float]] = [[] for _ in children]
    for child, _ in children:
        await wire.saturate(child.port, data, 2 * CONNECTIONS, CONNECTIONS, status=200)
        text = await _text(child, data)
        report.require(text == "".join(texts(CHUNKS)), f"{child.log.stem} answered {text!r}")
    for number in range(plan.rounds):
        for (child, calls), found in zip(children, rates, strict=True):
            per_s, wrong = await wire.saturate(child.port, data, calls, CONNECTIONS, status=200)
            report.require(not wrong, f"{child.log.stem}: {wrong} calls were not answered 200")
            found.append(per_s)
        progress(f"round {number + 1}: " + ", ".join(f"{found[-1]:.0f}/s" for found in rates))
    return rates


async def _text(child: Child, data: bytes) -> str:
    """The text of one call's chunks."""
    answers: list[bytes] = []
    done = asyncio.Event()

    def answered(connection: wire.Connection, _: int) -> None:
        answers.append(connection.answer)
        done.set()

    line = await wire.connect(child.port, answered)
    line.send(data, 1.0)
    await done.wait()
    line.close()
    return b"".join(_CONTENT.findall(answers[0])).decode()


def _tell(report: Report, rates: Sequence[Sequence[float]], memory: Sequence[float]) -> None:
    ours, others = rates[0], rates[1] if len(rates) > 1 else []
    if not others:
        report.row("calls/s", median(ours), "", "")
        report.row("chunks/s", CHUNKS * median(ours), "", "")
        report.row("memory MB", memory[0], "", "")
        return
    ratio = median(a / b for a, b in zip(ours, others, strict=True))
    report.row("calls/s", median(ours), median(others), ratio)
    report.row("chunks/s", CHUNKS * median(ours), CHUNKS * median(others), ratio)
    report.row("memory MB", memory[0], memory[1], memory[0] / memory[1])
    report.target(ratio >= RATIO_TARGET, f"{ratio:.1f} × LiteLLM, target {RATIO_TARGET:g} ×")
    share = memory[0] / memory[1]
    report.target(share <= MEMORY_TARGET, f"{share:.2f} of its memory, target {MEMORY_TARGET}")


def main(argv: Sequence[str] | None = None) -> int:
    default = Plan()
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.through_v1", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--calls", type=int, default=default.calls, help="to the service, a round")
    parser.add_argument("--proxy-calls", type=int, default=default.proxy_calls, help="a round")
    parser.add_argument("--alone", action="store_true", help="without the proxy")
    given = parser.parse_args(argv)
    plan = Plan(given.rounds, given.calls, given.proxy_calls, not given.alone)
    return uvloop.run(run(plan)).finish()


if __name__ == "__main__":
    sys.exit(main())
