"""The lines of the page: what was tried, what was found, and whether it holds.

Owns the shape of a line and the lines of a run with kills. Pure: the measurements of disk, clock
and sandbox make lines of their own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from asyncsvc.limits.sliding_window import LAG
from asyncsvc.selftest import oracle
from asyncsvc.selftest.agents import Seen
from asyncsvc.selftest.crashes import Load
from asyncsvc.selftest.oracle import Findings, shortened
from asyncsvc.selftest.records import Evidence


class Outcome(StrEnum):
    """How a line counts: `look` is a hint that does not decide the verdict."""

    OK = "ok"
    LOOK = "look"
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """One line. `details` are what is wrong, or hints, a sentence each."""

    name: str
    tried: str
    found: str
    outcome: Outcome = Outcome.OK
    details: Sequence[str] = ()
    done: bool = True
    """Whether it could be tried to its end."""


def check(name: str, tried: str, found: str, faults: Sequence[str] = ()) -> Check:
    """A line that fails where there are faults."""
    return Check(name, tried, found, Outcome.FAILED if faults else Outcome.OK, tuple(faults))


def hint(name: str, tried: str, found: str, details: Sequence[str] = ()) -> Check:
    """A line that asks for a look where there are details."""
    return Check(name, tried, found, Outcome.LOOK if details else Outcome.OK, tuple(details))


def of_run(evidence: Evidence, load: Load, stall_s: float) -> list[Check]:
    """The lines of a run with kills; `stall_s` is how long this machine stood still at most."""
    found = oracle.judge(evidence)
    return [
        _kills(evidence),
        _accepted(evidence, found),
        _finished(evidence, found),
        _ends(evidence, found),
        _events(evidence, found),
        _limits(evidence, found, load, stall_s),
        check(
            "log",
            "the service logs no fault of its own, and stops when asked",
            f"{len(found.log)} faults" if found.log else "none",
            shortened(found.log, "log"),
        ),
    ]


def _kills(evidence: Evidence) -> Check:
    lives = evidence.lives
    cut = sum(task.causes("interrupted") for task in evidence.tasks)
    early = f", {lives.early} of them while it started" if lives.early else ""
    ready = f"back after {median(lives.ready_s):.1f} s (median), {max(lives.ready_s):.1f} s (most)"
    return hint(
        "kills",
        "the service killed at random moments under load",
        f"{counted(lives.kills, 'kill')}{early}; {counted(cut, 'running call')} cut; {ready}",
        [] if cut else ["no kill has cut a running call: try more with --kills"],
    )


def _accepted(evidence: Evidence, found: Findings) -> Check:
    faults = shortened(found.lost, "lost") + shortened(found.twins, "stored twice")
    accepted, lost, twins = len(evidence.ledger.accepted), len(found.lost), len(found.twins)
    ends = f"{lost or 'none'} lost, {twins or 'none'} stored twice"
    return check(
        "tasks",
        "each task that was acknowledged is there, once",
        f"{accepted} acknowledged: {ends}",
        faults + shortened(found.odd, "answer"),
    )


def _finished(evidence: Evidence, found: Findings) -> Check:
    starts = sum(task.starts for task in evidence.tasks)
    faults = shortened(found.rerun, "changed") + shortened(found.against_provider, "called")
    return check(
        "finished",
        "a finished task does not change or run again",
        f"{counted(len(evidence.calls), 'call')} at the provider for {counted(starts, 'start')}; "
        f"{len(found.rerun) or 'none'} changed",
        faults,
    )


def _ends(evidence: Evidence, found: Findings) -> Check:
    states = Counter(task.state for task in evidence.tasks)
    faults = shortened(found.ends, "end") + shortened(found.late, "late")
    faults += shortened(found.attempts, "a kill has cost an attempt")
    return check(
        "ends",
        "each task ends, and a kill costs no attempt",
        ", ".join(f"{count} {state}" for state, count in states.most_common()),
        faults,
    )


def _events(evidence: Evidence, found: Findings) -> Check:
    faults = shortened(found.followers, "client") + shortened(found.tasks, "task")
    faults += shortened(found.results, "result")
    stored = sum(len(task.events) for task in evidence.tasks)
    received = counted(len(evidence.followed), "client of one task", "clients of one task each")
    return check(
        "events",
        "each event reaches each client once and in order",
        f"{counted(stored, 'event')}, to a client of all and {received}: "
        + ("faults" if faults else "no gap, none twice"),
        faults,
    )


def _limits(evidence: Evidence, found: Findings, load: Load, stall_s: float) -> Check:
    mine = [call for call in evidence.calls if call["model"] == "limited"]
    most = oracle.most_within([float(call["arrived_at"]) for call in mine], load.window_s)
    at_once = oracle.most_at_once(mine)
    faults = shortened(found.limits, "limit")
    if at_once > load.concurrency:
        faults.append(f"{at_once} calls at once, allowed are {load.concurrency}")
    if most > load.rpm:
        faults.append(f"{most} calls in {load.window_s:g} s, allowed are {load.rpm}")
    tried = "the provider never sees more calls than it allows"
    seen = f"{most} of {load.rpm} in any {load.window_s:g} s, {at_once} of {load.concurrency} "
    seen += f"at once ({counted(len(mine), 'call')})"
    allowed_s = load.window_s / LAG / 2
    if faults and stall_s > allowed_s:
        faults.append(
            f"this machine stood still for {stall_s:.1f} s, and a rate of {load.window_s:g} s "
            f"allows for {allowed_s:.1f} s: run it again when the machine has less to do"
        )
        return Check("limits", tried, seen, Outcome.LOOK, tuple(faults))
    return check("limits", tried, seen, faults)


def of_database(integrity: str, settings: Mapping[str, str], mac: bool) -> Check:
    """The line of SQLite: its check of the file, and its settings in a durable commit."""
    wrong = [] if integrity == "ok" else [f"integrity check: {integrity}"]
    for key, wanted in (("journal_mode", "wal"), ("synchronous", "full")):
        if settings.get(key) != wanted:
            wrong.append(f"{key} is {settings.get(key)} in a durable commit, not {wanted}")
    shown = ", ".join(f"{key} {settings.get(key)}" for key in ("journal_mode", "synchronous"))
    tried, found = "SQLite's settings in a durable commit, and its own check", shown
    found += f"; integrity check {'ok' if integrity == 'ok' else 'failed'}"
    if not wrong and mac and settings.get("fullfsync") != "1":
        loose = "fullfsync is off: on macOS a sync leaves the data in the disk's cache"
        return hint("database", tried, found, [loose])
    return check("database", tried, found, wrong)


def of_agents(seen: Seen, log_faults: Sequence[str]) -> Check:
    """The line of agents that were killed."""
    faults = shortened(seen.faults, "agent") + shortened(log_faults, "log")
    return check(
        "agents",
        "agents killed while their tools run: each effect once",
        f"{counted(seen.agents, 'agent')}, {counted(seen.lives, 'kill')}; "
        f"{counted(seen.rollbacks, 'workspace')} put back, "
        f"{counted(seen.asked_again, 'step')} asked again",
        faults,
    )


def of_failure(name: str, tried: str, error: BaseException) -> Check:
    """The line of what could not be carried out."""
    detail = str(error) or type(error).__name__
    return Check(name, tried, "could not be tried to its end", Outcome.FAILED, (detail,), False)


def counted(number: int, thing: str, things: str | None = None) -> str:
    """A number with its noun."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"
