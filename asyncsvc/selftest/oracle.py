"""The oracle: what is wrong with a run, by three accounts of the same tasks.

Owns the comparison of what clients received, what the database holds and what the provider was
asked. Pure: values in, sentences out, one for each contradiction. Never starts, asks or reads
anything.
"""

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import orjson

from asyncsvc.selftest.records import Call, Evidence
from asyncsvc.storage.audit import Life

MOST_SHOWN = 5
CAUSELESS = (None, "completed", "disconnected", "rejected")
"""Outcomes of calls that fail no attempt; None is still under way."""
NOTICE_S = 0.05
"""Within this time the provider has seen that a client has left."""


@dataclass(frozen=True)
class Findings:
    """The contradictions of a run, by what they are about."""

    lost: list[str]
    rerun: list[str]
    odd: list[str]
    tasks: list[str]
    against_provider: list[str]
    attempts: list[str]
    twins: list[str]
    ends: list[str]
    followers: list[str]
    results: list[str]
    limits: list[str]
    integrity: list[str]
    late: list[str]
    log: list[str]

    def all(self) -> list[str]:
        """The first few of each kind, under its name."""
        named = {
            "accepted and lost": self.lost,
            "ended and changed again": self.rerun,
            "odd answers": self.odd,
            "task": self.tasks,
            "task and provider": self.against_provider,
            "an attempt that no fault of the provider has cost": self.attempts,
            "submitted once, stored twice": self.twins,
            "ended wrongly": self.ends,
            "follower": self.followers,
            "result and joined chunks differ": self.results,
            "limit": self.limits,
            "integrity check": self.integrity,
            "not done in time": self.late,
            "the service's log": self.log,
        }
        return [line for name, faults in named.items() for line in shortened(faults, name)]


def judge(evidence: Evidence) -> Findings:
    """Return every contradiction of a run that is over."""
    tasks, most = evidence.tasks, evidence.most_attempts
    calls: dict[str, list[Call]] = defaultdict(list)
    for call in evidence.calls:
        if call["marker"]:
            calls[call["marker"]].append(call)
    return Findings(
        lost=evidence.lives.lost,
        rerun=evidence.lives.rerun,
        odd=evidence.ledger.odd,
        tasks=[fault for task in tasks for fault in inspect(task, most)],
        against_provider=[f for task in tasks for f in against_calls(task, calls[task.marker])],
        attempts=[fault for task in tasks for fault in uncaused(task, calls[task.marker])],
        twins=_twins(tasks),
        ends=_ends(evidence),
        followers=_followers(evidence),
        results=evidence.differing,
        limits=_limits(evidence.figures),
        integrity=[] if evidence.integrity == "ok" else [evidence.integrity],
        late=evidence.late,
        log=evidence.log_faults,
    )


def inspect(task: Life, most_attempts: int) -> list[str]:
    """What is wrong with one task that has ended, seen by itself."""
    wrong = []
    ids = [event[0] for event in task.events]
    if [event[1] for event in task.events] != list(range(1, len(task.events) + 1)):
        wrong.append(f"seq has gaps: {[event[1] for event in task.events]}")
    if any(late <= early for early, late in pairwise(ids)):
        wrong.append(f"ids do not grow: {ids}")
    if task.text != (task.result or ""):
        found = f"its chunks give {task.text!r}, its result is {task.result!r}"
        wrong.append(f"{task.state} by {task.events[-1][3] if task.events else None}: {found}")
    if task.attempts > most_attempts:
        wrong.append(f"{task.attempts} attempts, allowed are {most_attempts}")
    if task.causes("completed") > 1:
        wrong.append("it was completed more than once")
    if task.starts != sum(kind == "attempt" for _, _, kind, _ in task.events):
        wrong.append(f"{task.starts} starts are not its attempt events")
    used = task.causes("started") - task.causes("interrupted", "deferred")
    if task.attempts != used:
        wrong.append(f"{task.attempts} attempts are counted, its events say {used}")
    return [f"{task.task_id} ({task.marker}): {fault}" for fault in wrong]


def against_calls(task: Life, calls: Sequence[Call]) -> list[str]:
    """What is wrong with one task, held against the provider's record of its calls."""
    wrong = []
    accepted = [call for call in calls if call["outcome"] != "rejected"]
    if len(calls) > task.starts:
        wrong.append(f"{len(calls)} calls were made for {task.starts} starts")
    if task.state == "completed":
        if not accepted or accepted[-1]["text"] != task.result:
            sent = accepted[-1]["text"] if accepted else None
            wrong.append(f"its result is {task.result!r}, the provider's last text {sent!r}")
        elif accepted[-1]["outcome"] != "completed":
            wrong.append(f"its last call ended as {accepted[-1]['outcome']}")
    return [f"{task.task_id} ({task.marker}): {fault}" for fault in wrong]


def uncaused(task: Life, calls: Sequence[Call]) -> list[str]:
    """Attempts that were counted as failed although the provider has not failed them: of a kill,
    say. A request to slow down costs none, nor does a call that was cut."""
    failed = task.causes("retrying", "failed")
    own = [c["outcome"] for c in calls if c["outcome"] not in CAUSELESS]
    faults = [kind for kind in own if not kind.startswith("429")]
    if failed <= len(faults):
        return []
    return [f"{task.task_id}: {failed} failed attempts, the provider's faults are {faults}"]


def shortened(faults: Iterable[str], what: str) -> list[str]:
    """The first few of many, with their number."""
    all_ = list(faults)
    shown = [f"{what}: {fault[:600]}" for fault in all_[:MOST_SHOWN]]
    return [f"{what}: {len(all_)} in all", *shown] if len(all_) > MOST_SHOWN else shown


# Limits, as the provider saw them ---------------------------------------------------------------


def most_within(arrivals: Sequence[float], window_s: float) -> int:
    """The most arrivals in any half-open window of that length."""
    inside: deque[float] = deque()
    most = 0
    for at in sorted(arrivals):
        inside.append(at)
        while at - inside[0] >= window_s:
            inside.popleft()
        most = max(most, len(inside))
    return most


def most_at_once(calls: Sequence[Call]) -> int:
    """The most calls under way at one moment. Where the client has left, the provider knows of
    it a moment later than the client, who may have started the next call in between."""
    ends: list[float] = []
    most = 0
    for call in sorted(calls, key=lambda call: float(call["arrived_at"])):
        while ends and ends[0] <= call["arrived_at"]:
            heapq.heappop(ends)
        end = float("inf") if call["finished_at"] is None else float(call["finished_at"])
        heapq.heappush(ends, end - NOTICE_S if call["client_left"] else end)
        most = max(most, len(ends))
    return most


def _limits(figures: dict[str, Any]) -> list[str]:
    return [
        f"{count} violations of {name}'s {kind} limit"
        for name, model in figures.get("models", {}).items()
        for kind, count in model["violations"].items()
        if count
    ]


# All tasks together -----------------------------------------------------------------------------


def _twins(tasks: Sequence[Life]) -> list[str]:
    ids = defaultdict(set)
    for task in tasks:
        ids[task.marker].add(task.task_id)
    return [f"{marker}: {found}" for marker, found in ids.items() if len(found) > 1]


def _ends(evidence: Evidence) -> list[str]:
    """Tasks that have not ended, or in a way that neither the provider nor a client has caused."""
    wrong = []
    for task in evidence.tasks:
        code = (task.error or {}).get("code")
        if task.task_id in evidence.ledger.cancelled and task.state != "cancelled":
            wrong.append(f"{task.task_id} was cancelled and is {task.state}")
        elif task.state == "failed" and task.attempts != evidence.most_attempts:
            wrong.append(f"{task.task_id} failed with {code} after {task.attempts} attempts")
        elif task.state not in ("completed", "failed", "cancelled"):
            wrong.append(f"{task.task_id} is {task.state}")
    return wrong


def _followers(evidence: Evidence) -> list[str]:
    """What a client has not received, or twice, or otherwise than it is stored."""
    feed, wrong = evidence.feed, list(evidence.feed.odd)
    stored_seqs = {task.task_id: [event[1] for event in task.events] for task in evidence.tasks}
    for followed in evidence.followed:
        wrong += followed.odd
        seqs = [seq for seq, _ in followed.events]
        if seqs != stored_seqs.get(followed.task_id):
            wrong.append(f"{followed.task_id}: received {seqs}")
    stored = {event[0]: (task.task_id, event) for task in evidence.tasks for event in task.events}
    if stored.keys() != feed.events.keys():
        missing = sorted(stored.keys() - feed.events.keys())[:10]
        unknown = sorted(feed.events.keys() - stored.keys())[:10]
        wrong.append(f"the feed lacks {missing} and has {unknown} which are not stored")
    for number, text in feed.events.items():
        event = orjson.loads(text)
        sent = (event["task_id"], (number, event["seq"], event["type"], event["data"]))
        if number in stored and sent != stored[number]:
            wrong.append(f"the feed sent {sent}, stored is {stored[number]}")
    return wrong
