"""Kill -9 at random moments under load, and an audit of what is left.

The long form of a release: `python -m tests.benchmarks.crash --kills 200 --rate 50`.
Promises to end by itself and to leave nothing behind. Broken is whatever a client received and
the database does not hold, whatever ran again after it had ended, whatever came twice or not
at all. The run and the oracle are those of `selftest`.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

import uvloop

from asyncsvc.selftest import oracle
from asyncsvc.selftest.crashes import Crashes, Load
from asyncsvc.selftest.records import Evidence
from asyncsvc.storage.audit import Life
from tests.benchmarks import stage
from tests.benchmarks.report import Report, percentile, progress

READY_TARGET_S = 10.0


def failures(tasks: Sequence[Life]) -> list[str]:
    """What the tasks that failed have failed of, for people."""
    failed = [task for task in tasks if task.state == "failed"]
    return [
        f"failed: {task.task_id} ({task.marker}) after {task.attempts} attempts, "
        f"{task.causes('interrupted')} kills: {(task.error or {}).get('code')}: "
        f"{(task.error or {}).get('message')}; before: "
        + (", ".join(e[3]["why"]["code"] for e in task.events if e[2] == "retry") or "nothing")
        for task in failed[: oracle.MOST_SHOWN * 2]
    ]


def judge(report: Report, evidence: Evidence) -> None:
    """Put every contradiction and the figures of a run into the report."""
    ready, tasks = evidence.lives.ready_s, evidence.tasks
    report.broken += oracle.judge(evidence).all()
    report.notes += failures(tasks)
    report.row("accepted", len(evidence.ledger.accepted))
    report.row("submits without an answer", evidence.ledger.unsure)
    for state, count in sorted(Counter(task.state for task in tasks).items()):
        report.row(state, count)
    cut = sum(task.causes("interrupted") for task in tasks)
    report.row("interrupted by kills", cut)
    report.row("calls at the provider", len(evidence.calls))
    report.row("events, all received by the feed's client", len(evidence.feed.events))
    report.row("tasks followed by a client of their own", len(evidence.followed))
    report.row("ready, median s", percentile(ready, 0.5))
    report.row("ready, max s", max(ready))
    report.require(cut > 0, "no kill has hit a running task: the run proves nothing")
    report.target(
        max(ready) < READY_TARGET_S, f"ready after {max(ready):.1f} s, target {READY_TARGET_S} s"
    )


async def run(kills: int, rate: float, seed: int) -> Report:
    """The whole benchmark."""
    report = Report(f"crash: {kills} kills at {rate:g} submits/s, seed {seed}", ("what", "value"))
    began = time.monotonic()
    async with stage.workplace() as (folder, client):
        load = Load(kills, rate, seed)
        judge(report, await Crashes(stage.PROGRAM, folder, client, load, progress).go())
    report.row("whole run, s", time.monotonic() - began)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rate", type=float, default=50, help="submits per second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    return uvloop.run(run(options.kills, options.rate, options.seed)).finish()


if __name__ == "__main__":
    sys.exit(main())
