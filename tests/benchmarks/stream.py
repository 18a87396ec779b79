"""Many tasks streaming at once, each followed by one WebSocket client in another process.

Broken is an event that a client did not get, got twice or out of order, and a text that is not
the one that the simulated provider has sent, and one that is not in the database after the
service was killed. The lag of a chunk is the time from the event's stamp to its arrival at the
client. The added latency of a token is the time from the moment at which the provider was due to
send the token to the arrival of the event that carries it; that of the end, likewise, from the
last token to the arrival of `completed`. Both thus include the provider's own delay.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import uvloop

from asyncsvc.simulator.answers import tokenize
from asyncsvc.storage import audit
from tests.benchmarks import following, stage
from tests.benchmarks.report import Report, percentile, progress

FIRST_S = 3.0
"""Long enough for 200 clients to connect before the first token."""
P99_TARGET_MS = 100.0


@dataclass(frozen=True)
class Plan:
    tasks: int = 200
    rate: float = 50
    seconds: float = 10

    @property
    def tokens(self) -> int:
        return max(round(self.rate * self.seconds), 1)

    @property
    def first_s(self) -> float:
        """When the first token comes: long enough after the submit for all clients to connect."""
        return FIRST_S * max(self.tasks / 200, 1)


def settings(url: str, tasks: int) -> dict[str, dict[str, Any]]:
    """All tasks run at once."""
    model = {"base_url": f"{url}/v1", "model": "streams", "concurrency": tasks}
    return {"models.streams": model, "server": {"max_connections": tasks + 100}}


async def run(plan: Plan) -> Report:
    """The whole benchmark."""
    report = Report(
        f"stream: {plan.tasks} tasks at {plan.rate:g} tokens/s for {plan.seconds:g} s, "
        "one client each",
        ("what", "value", "per what was due"),
    )
    profile: dict[str, dict[str, Any]] = {
        "models.streams": {"first_token_s": plan.first_s, "tokens_per_s": plan.rate}
    }
    async with (
        stage.workplace() as (folder, client),
        stage.simulator(folder, profile) as provider,
        stage.service(folder, settings(provider.url, plan.tasks)) as service,
    ):
        received, cpu_s, provider_s = await _stream(plan, client, service, provider)
        calls = await stage.all_calls(client, provider.url)
        memory = service.memory_mb()
        report.broken += service.faults()
        await service.kill()
        for life in audit.lives(stage.database(folder)):
            marker = life.marker
            report.require(
                life.text == received[marker].text,
                f"{marker}: another text is stored than was sent",
            )
    _judge(report, plan, received, {call["marker"]: call for call in calls})
    _tell(report, plan, received, cpu_s, memory)
    report.row("processor s of the provider", provider_s, "")
    return report


async def _stream(
    plan: Plan, client: aiohttp.ClientSession, service: stage.Child, provider: stage.Child
) -> tuple[dict[str, following.Received], float, float]:
    """What each client has received, by marker; the processor seconds of service and provider."""
    bodies = [
        {"content": f"Tell [[id:s{number}]][[sim:tokens={plan.tokens}]]", "model": "streams"}
        for number in range(plan.tasks)
    ]
    ids: list[str] = []
    for begin in range(0, plan.tasks, 1000):
        batch = {"tasks": bodies[begin : begin + 1000]}
        answer = await stage.post(client, f"{service.url}/tasks/batch", batch)
        ids += [task["task_id"] for task in answer["tasks"]]
    async with following.Subscribers(service.url, ids) as subscribers:
        progress("all clients are connected")
        before, provider_before = service.cpu_s(), provider.cpu_s()
        received = await subscribers.all()
        cpu_s, provider_s = service.cpu_s() - before, provider.cpu_s() - provider_before
    return {f"s{number}": one for number, one in enumerate(received)}, cpu_s, provider_s


def _judge(
    report: Report,
    plan: Plan,
    received: dict[str, following.Received],
    calls: dict[str, dict[str, Any]],
) -> None:
    ends: list[float] = []
    tokens: list[float] = []
    for marker, one in received.items():
        report.broken += one.faults()
        call = calls[marker]
        report.require(one.text == call["text"], f"{marker}: another text than the provider's")
        began = call["arrived_at"] + plan.first_s
        ends.append(one.events[-1][0] - (began + plan.tokens / plan.rate) * 1000)
        tokens += _added_ms(one, call["text"], began, plan.rate)
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        report.row(f"token, {name} added ms", percentile(tokens, share), "")
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        report.row(f"end, {name} added ms", percentile(ends, share), "")
    p99 = percentile(tokens, 0.99)
    report.target(p99 < P99_TARGET_MS, f"p99 {p99:.0f} ms added, target {P99_TARGET_MS:g} ms")


def _added_ms(one: following.Received, text: str, began: float, rate: float) -> Iterator[float]:
    """For each token of the provider's text: arrival of the event that carries its end, less
    the time at which it was due."""
    arrivals = ((at, len(part)) for at, _, _, _, part in one.chunks())
    at, covered, end = 0.0, 0, 0
    for number, token in enumerate(tokenize(text)):
        end += len(token)
        while covered < end:
            at, length = next(arrivals, (at, end))
            covered += length
        yield at - (began + number / rate) * 1000


def _tell(
    report: Report, plan: Plan, received: dict[str, following.Received], cpu_s: float, memory: float
) -> None:
    chunks = [chunk for one in received.values() for chunk in one.chunks()]
    tokens = plan.tasks * plan.tokens
    lags = [chunk[0] - chunk[3] for chunk in chunks]
    took = (max(c[0] for c in chunks) - min(c[0] for c in chunks)) / 1000
    report.row("chunk, p50 lag ms", percentile(lags, 0.5), "")
    report.row("chunk, p95 lag ms", percentile(lags, 0.95), "")
    report.row("chunks delivered", len(chunks), len(chunks) / tokens)
    report.row("chunks/s", len(chunks) / took, "")
    report.row("tokens/s", tokens / took, tokens / took / (plan.tasks * plan.rate))
    report.row("processor s", cpu_s, cpu_s / took)
    report.row("processor s per 1,000 chunks", 1000 * cpu_s / len(chunks), "")
    report.row("processor s per 1,000 tokens", 1000 * cpu_s / tokens, "")
    report.row("memory MB", memory, "")
    lost = sum(one.events[-1][1] - len(one.events) for one in received.values())
    report.row("events lost", lost, "")


def main(argv: Sequence[str] | None = None) -> int:
    default = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.stream", description=__doc__)
    parser.add_argument("--tasks", type=int, default=default.tasks)
    parser.add_argument("--rate", type=float, default=default.rate, help="tokens per second")
    parser.add_argument("--seconds", type=float, default=default.seconds, help="of each stream")
    options = parser.parse_args(argv)
    return uvloop.run(run(Plan(options.tasks, options.rate, options.seconds))).finish()


if __name__ == "__main__":
    sys.exit(main())
