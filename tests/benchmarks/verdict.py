"""What a run with kills has shown, once everything is over.

Owns the comparison of three accounts of the same tasks: what clients received, what the
database holds, what the provider was asked. Promises to put every contradiction into the
report. Never starts, stops or asks anything.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.benchmarks import audit, clients
from tests.benchmarks.report import Report, percentile

READY_TARGET_S = 10.0


@dataclass
class Kills:
    """What is seen between two lives of the service."""

    ready_s: list[float] = field(default_factory=list)
    finished: dict[str, audit.Finished] = field(default_factory=dict)
    rerun: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def look(self, database: Path, accepted: set[str]) -> None:
        """Hold a dead service's database against what was known before."""
        now = audit.finished(database)
        self.rerun += audit.changed(self.finished, now)
        self.lost += sorted(accepted - audit.known(database))
        self.finished = now


def blamed(life: audit.Life, calls: list[dict[str, Any]]) -> list[str]:
    """Attempts that were counted as failed although the provider has not failed them: of a kill,
    say. A request to slow down costs none, nor does a call that was cut."""
    failed = life.causes("retrying", "failed")
    own = [c["outcome"] for c in calls if c["outcome"] not in ("completed", "disconnected")]
    faults = [kind for kind in own if kind != "rejected" and not kind.startswith("429")]
    if failed <= len(faults):
        return []
    return [f"{life.task_id}: {failed} failed attempts, the provider's faults are {faults}"]


def failures(lives: Sequence[audit.Life]) -> list[str]:
    """What the tasks that failed have failed of, for people."""
    failed = [life for life in lives if life.state == "failed"]
    return [
        f"failed: {life.task_id} ({life.marker}) after {life.attempts} attempts, "
        f"{life.causes('interrupted')} kills: {(life.error or {}).get('code')}: "
        f"{(life.error or {}).get('message')}; before: "
        + (", ".join(e[3]["why"]["code"] for e in life.events if e[2] == "retry") or "nothing")
        for life in failed[: audit.MOST_FAULTS_SHOWN * 2]
    ]


@dataclass
class Verdict:
    """`judge` once, once no process uses the database any more."""

    report: Report
    ledger: clients.Ledger
    seen: Kills
    followers: Sequence[clients.Follower]
    feed: clients.FeedFollower
    most_attempts: int

    def judge(self, database: Path, calls: list[dict[str, Any]], figures: dict[str, Any]) -> None:
        report, ledger, seen = self.report, self.ledger, self.seen
        seen.look(database, set(ledger.accepted.values()))
        lives = audit.lives(database)
        by_marker: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for call in calls:
            if call["marker"]:
                by_marker[call["marker"]].append(call)
        report.broken += audit.shortened(seen.lost, "accepted and lost")
        report.broken += audit.shortened(seen.rerun, "ended and changed again")
        report.broken += audit.shortened(ledger.odd, "odd answers")
        report.broken += audit.shortened(
            [fault for life in lives for fault in audit.inspect(life, self.most_attempts)], "task"
        )
        report.broken += audit.shortened(
            [f for life in lives for f in audit.against_calls(life, by_marker[life.marker])],
            "task and provider",
        )
        report.broken += audit.shortened(
            [fault for life in lives for fault in blamed(life, by_marker[life.marker])],
            "an attempt that no fault of the provider has cost",
        )
        report.broken += audit.shortened(self._twins(lives), "submitted once, stored twice")
        report.broken += audit.shortened(self._ends(lives), "ended wrongly")
        report.broken += audit.shortened(self._followed(lives), "follower")
        checked = audit.integrity(database)
        report.require(checked == "ok", f"integrity check: {checked}")
        for name, model in figures["models"].items():
            for kind, count in model["violations"].items():
                report.require(not count, f"{count} violations of {name}'s {kind} limit")
        self._tell(lives, calls)

    def _twins(self, lives: list[audit.Life]) -> list[str]:
        ids = defaultdict(set)
        for life in lives:
            ids[life.marker].add(life.task_id)
        return [f"{marker}: {found}" for marker, found in ids.items() if len(found) > 1]

    def _ends(self, lives: list[audit.Life]) -> list[str]:
        """Every task has ended, and in a way that the provider or a client has caused."""
        wrong = []
        for life in lives:
            code = (life.error or {}).get("code")
            if life.task_id in self.ledger.cancelled and life.state != "cancelled":
                wrong.append(f"{life.task_id} was cancelled and is {life.state}")
            elif life.state == "failed" and life.attempts != self.most_attempts:
                wrong.append(f"{life.task_id} failed with {code} after {life.attempts} attempts")
            elif life.state not in ("completed", "failed", "cancelled"):
                wrong.append(f"{life.task_id} is {life.state}")
        return wrong

    def _followed(self, lives: list[audit.Life]) -> list[str]:
        """Each follower has received each event once, and the feed's client all of all tasks."""
        wrong = list(self.feed.odd)
        by_id = {life.task_id: life for life in lives}
        for follower in self.followers:
            wrong += follower.odd
            seqs = [seq for seq, _ in follower.events]
            if seqs != [event[1] for event in by_id[follower.task_id].events]:
                wrong.append(f"{follower.task_id}: received {seqs}")
        stored = {event[0]: (life.task_id, event) for life in lives for event in life.events}
        if stored.keys() != self.feed.events.keys():
            missing = sorted(stored.keys() - self.feed.events.keys())[:10]
            unknown = sorted(self.feed.events.keys() - stored.keys())[:10]
            wrong.append(f"the feed lacks {missing} and has {unknown} which are not stored")
        for number, text in self.feed.events.items():
            event = orjson.loads(text)
            sent = (event["task_id"], (number, event["seq"], event["type"], event["data"]))
            if number in stored and sent != stored[number]:
                wrong.append(f"the feed sent {sent}, stored is {stored[number]}")
        return wrong

    def _tell(self, lives: list[audit.Life], calls: list[dict[str, Any]]) -> None:
        report, ready = self.report, self.seen.ready_s
        ends: dict[str, int] = defaultdict(int)
        for life in lives:
            ends[life.state] += 1
        cut = sum(life.causes("interrupted") for life in lives)
        report.notes += failures(lives)
        report.row("accepted", len(self.ledger.accepted))
        report.row("submits without an answer", self.ledger.unsure)
        for state, count in sorted(ends.items()):
            report.row(state, count)
        report.row("interrupted by kills", cut)
        report.row("calls at the provider", len(calls))
        report.row("events, all received by the feed's client", len(self.feed.events))
        report.row("tasks followed by a client of their own", len(self.followers))
        report.row("ready, median s", percentile(ready, 0.5))
        report.row("ready, max s", max(ready))
        report.require(cut > 0, "no kill has hit a running task: the run proves nothing")
        report.target(
            max(ready) < READY_TARGET_S,
            f"ready after {max(ready):.1f} s, target {READY_TARGET_S} s",
        )
