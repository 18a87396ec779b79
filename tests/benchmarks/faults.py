"""Every fault of a provider, on many tasks each.

Each kind has a model, and so a gate and a breaker, of its own; all run at once, but for the
line of 100 MB, which runs alone so that the memory it takes is its own. A kind that is worth
another try is given twice: for ever, and twice in a row before the provider recovers. Broken is
another state, code or number of attempts than the kind deserves; a call more than they allow; a
call within a pause that Retry-After asked for; a breaker that is not open after the fifth
failure or lets more than one probe through; a stored text that is not the one which the
provider sent in the last attempt; and memory that grows with the line.

When the breaker opens, the calls that were under way may still end: so up to `CONCURRENCY` - 1
calls more than five are seen before it, and after it one at a time, each at least the cooldown
after the failure before it; none that had its permit before is made after it (gatekeeping.py).
Where a provider refuses for ever, a task is `rate_limited` when its time ends, be it while it
waits or in the middle of a call that has not been answered.
"""

import argparse
import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import uvloop

from asyncsvc.selftest import oracle
from asyncsvc.storage import audit
from tests.benchmarks import gatekeeping, stage
from tests.benchmarks.report import Report, progress

MAX_RETRIES = 3
FAILURES = 5
COOLDOWN_S = 0.3
CONCURRENCY = 5
SILENCE_S = 1.0
MEMORY_MB = 250.0
"""What ten such lines at once (1 GB) may take: each call is cut off at 8 MB, of which the reader
holds up to three copies."""
SAMPLE_S = 0.02
PROFILE: dict[str, dict[str, Any]] = {"default": {"tokens_per_s": 400, "answer_tokens": 12}}


@dataclass(frozen=True)
class Kind:
    """A fault and what must come of it. `attempts` are those counted, `calls` those made."""

    name: str
    tag: str
    state: str
    code: str | None
    attempts: int
    calls: int
    timeout_s: float | None = None
    pause_s: float = 0.0
    """No call before so many seconds after a refusal."""
    opens: bool = False
    silence_s: float = 0.0
    """How long the provider says nothing, at the least, before a call has failed."""
    alone: bool = False
    free: bool = False
    """Some calls may cost no attempt: those that broke on a connection that was kept."""

    @property
    def model(self) -> str:
        return self.name.replace(" ", "-").replace(",", "")

    def task(self, number: int) -> dict[str, Any]:
        content = f"你好, question {number} [[id:{self.model}-{number}]][[sim:{self.tag}]]"
        task: dict[str, Any] = {"content": content, "model": self.model}
        return task if self.timeout_s is None else {**task, "timeout_s": self.timeout_s}


def again(
    name: str, tag: str, code: str, silence_s: float = 0.0, opens: bool = True
) -> Iterator[Kind]:
    """A fault that is worth another try: for ever, and for two calls. `opens`: the breaker."""
    last = 1 + MAX_RETRIES
    always = Kind(f"{name}, always", tag, "failed", code, last, last, opens=opens)
    yield replace(always, silence_s=silence_s)
    yield Kind(f"{name}, twice", f"{tag} x2", "completed", None, 3, 3)


def slowed(name: str, tag: str, pause_s: float = 0.0) -> Kind:
    """Two refusals that cost no attempt."""
    return Kind(name, f"{tag} x2", "completed", None, 1, 3, pause_s=pause_s)


KINDS: tuple[Kind, ...] = (
    slowed("429 seconds", "429-after=0.2", pause_s=0.2),
    slowed("429 date", "429-date=2", pause_s=1.0),  # a date has no fractions
    slowed("429 absent", "429"),
    slowed("429 garbage", "429-garbage"),
    Kind("429 for ever", "429-after=0.2", "failed", "rate_limited", 0, 1000, 3.0, 0.2),
    *again("500", "500", "overloaded"),
    *again("hang before head", "hang", "first_token_timeout", silence_s=SILENCE_S),
    *again("hang in stream", "hang-stream at=3", "idle_timeout", silence_s=SILENCE_S),
    *again("one byte a second", "slow-bytes every=1", "first_token_timeout", silence_s=SILENCE_S),
    Kind("reset before head", "reset-head x2", "completed", None, 3, 6, free=True),
    Kind(
        *("reset before head, always", "reset-head", "failed", "upstream_disconnected"),
        *(1 + MAX_RETRIES, 3 * (1 + MAX_RETRIES)),
        free=True,
    ),
    *again("reset in stream", "reset at=3", "upstream_disconnected"),
    *again("end in stream", "cut at=3", "upstream_disconnected"),
    *again("malformed JSON", "malformed at=3", "upstream_invalid"),
    *again("malformed SSE", "bad-sse at=3", "upstream_disconnected"),
    *again("200 with error", "error-200", "overloaded"),
    *again("error in stream", "error-in-stream at=3", "overloaded"),
    *again("bad UTF-8", "bad-utf8 at=3", "upstream_invalid"),
    Kind("split UTF-8", "split-utf8", "completed", None, 1, 1),
    *again("wrong type", "wrong-type", "upstream_invalid"),
    Kind("no DONE", "no-done", "completed", None, 1, 1),
    *again("empty", "empty", "empty_answer", opens=False),
    *again("redirect", "redirect", "upstream_invalid"),
    Kind("400", "400", "failed", "upstream_rejected", 1, 1),
    Kind("401", "401", "failed", "upstream_auth", 1, 1),
    Kind("line of 100 MB", "huge-line at=3", "failed", "upstream_too_large", 1, 1, alone=True),
)


def settings(url: str) -> dict[str, dict[str, Any]]:
    return {
        "retry": {"max_retries": MAX_RETRIES, "base_s": 0.05, "max_s": 0.2},
        "breaker": {"failures": FAILURES, "cooldown_s": COOLDOWN_S},
        "timeouts": {"first_token_s": SILENCE_S, "idle_s": SILENCE_S, "short_s": 3600},
    } | {
        f"models.{kind.model}": {
            "base_url": f"{url}/v1",
            "model": kind.model,
            "concurrency": CONCURRENCY,
        }
        for kind in KINDS
    }


async def run(tasks: int) -> Report:
    """The whole benchmark with so many tasks a kind."""
    report = Report(
        f"faults: {tasks} tasks of each of {len(KINDS)} kinds",
        ("kind", "tasks", "as expected", "code", "most attempts", "calls", "most a task"),
    )
    async with stage.workplace() as (folder, client):
        async with stage.simulator(folder, PROFILE) as provider:
            service = stage.service(folder, settings(provider.url))
            async with service:
                for alone in (False, True):
                    await _play(client, service, alone, tasks, report)
                calls = await stage.all_calls(client, provider.url)
                await service.stop()
        lives = audit.lives(stage.database(folder))
        starts = gatekeeping.starts(stage.database(folder))
        report.broken += oracle.shortened(service.faults(), "the service's log")
    by_kind: dict[str, list[audit.Life]] = defaultdict(list)
    for life in lives:
        by_kind[life.marker.rpartition("-")[0]].append(life)
    by_model: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in calls:
        by_model[call["model"]].append(call)
    for kind in KINDS:
        judge(report, kind, tasks, by_kind[kind.model], by_model[kind.model], starts)
    return report


async def _play(
    client: aiohttp.ClientSession, service: stage.Child, alone: bool, tasks: int, report: Report
) -> None:
    """Submit the kinds of one part and wait until all have ended."""
    kinds = [kind for kind in KINDS if kind.alone is alone]
    progress(f"{len(kinds)} kinds with {tasks} tasks each")
    before = most = service.memory_mb()
    for kind in kinds:
        bodies = [kind.task(number) for number in range(tasks)]
        await stage.post(client, f"{service.url}/tasks/batch", {"tasks": bodies})
    done = asyncio.create_task(stage.all_done(client, service.url, 60 + 12 * tasks))
    while not done.done():
        most = max(most, service.memory_mb())
        await asyncio.sleep(SAMPLE_S)
    await done
    if alone:
        report.notes.append(
            f"line of 100 MB: {before:.0f} MB resident before, {most:.0f} MB at most"
        )
        report.require(
            most - before < MEMORY_MB, f"the line of 100 MB took {most - before:.0f} MB of memory"
        )


def judge(
    report: Report,
    kind: Kind,
    tasks: int,
    lives: list[audit.Life],
    calls: list[dict[str, Any]],
    starts: Mapping[str, list[gatekeeping.Start]],
) -> None:
    """Put one kind into the table."""
    by_marker: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in calls:
        by_marker[call["marker"]].append(call)
    wrong = [fault for life in lives for fault in of_task(kind, life, by_marker[life.marker])]
    if len(lives) != tasks:
        wrong.append(f"{len(lives)} tasks are stored, {tasks} were accepted")
    wrong += of_gate(kind, lives, by_marker, starts)
    if kind.code == "upstream_auth" and len(calls) > CONCURRENCY:
        wrong.append(f"{len(calls)} calls with a key that was refused")
    report.broken += oracle.shortened(wrong, kind.name)
    fine = sum(as_expected(kind, life) for life in lives)
    report.row(
        kind.name, len(lives), fine, kind.code or kind.state,
        max((life.attempts for life in lives), default=0), len(calls),
        max(map(len, by_marker.values()), default=0),
    )  # fmt: skip


def code(life: audit.Life) -> str | None:
    return (life.error or {}).get("code")


def as_expected(kind: Kind, life: audit.Life) -> bool:
    return (life.state, code(life)) == (kind.state, kind.code) or unheard(kind, life)


def unheard(kind: Kind, life: audit.Life) -> bool:
    """Whether a task with a time of its own ran out of it in its first call, unanswered."""
    out = (life.state, code(life)) == ("failed", "timeout")
    return kind.timeout_s is not None and out and not life.causes("deferred")


def of_task(kind: Kind, life: audit.Life, calls: list[dict[str, Any]]) -> list[str]:
    """What is wrong with one task."""
    wrong = []
    if not as_expected(kind, life):
        wrong.append(f"is {life.state} with {life.error}, not {kind.state} with {kind.code}")
    # A refused key is known for the tasks after it: they fail without a call.
    refused_key = kind.code == "upstream_auth" and not calls and life.attempts == 0
    # One whose time ends in a call has made that attempt.
    cut = kind.timeout_s is not None and life.attempts == 1
    fewer = kind.free and life.attempts < kind.attempts
    if life.attempts != kind.attempts and not (refused_key or cut or fewer):
        wrong.append(f"{life.attempts} attempts, not {kind.attempts}")
    if len(calls) > kind.calls:
        wrong.append(f"{len(calls)} calls, allowed are {kind.calls}")
    sent = calls[-1]["text"] if calls else ""
    result = life.result or ""
    if not (result == sent if life.state == "completed" else sent.startswith(result)):
        wrong.append(f"its result is {result!r}, the provider's last text {sent!r}")
    named = [f"{life.task_id} ({life.marker}): {fault}" for fault in wrong]
    return named + oracle.inspect(life, 1 + MAX_RETRIES)


def of_gate(
    kind: Kind,
    lives: Sequence[audit.Life],
    calls: Mapping[str, list[dict[str, Any]]],
    starts: Mapping[str, list[gatekeeping.Start]],
) -> list[str]:
    """What its gate has let through and must not."""
    wrong: list[str] = []
    made: list[gatekeeping.Run] = []
    for life in lives:
        mine, own = starts.get(life.task_id, []), calls.get(life.marker, [])
        wrong += gatekeeping.of_calls(mine, own)
        made += gatekeeping.runs(mine, own)
    if kind.opens:
        wrong += gatekeeping.of_breaker(made, FAILURES, CONCURRENCY, COOLDOWN_S, kind.silence_s)
    if kind.pause_s:
        wrong += gatekeeping.of_pause(made, kind.pause_s)
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.faults", description=__doc__)
    parser.add_argument("--tasks", type=int, default=50, help="tasks of each kind")
    options = parser.parse_args(argv)
    return uvloop.run(run(options.tasks)).finish()


if __name__ == "__main__":
    sys.exit(main())
