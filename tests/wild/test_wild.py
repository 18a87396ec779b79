"""What providers really send, over real sockets: each case of the table at each of its doors.

All cases of a group run at once against one service. A group is run by the worker that needs it
first and read by the others; while one is run, a worker that needs it runs another.
"""

import asyncio
import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from asyncsvc.errors import StartError
from asyncsvc.storage.lock import FileLock
from tests.wild.cases import Run, grouped, load, runs
from tests.wild.runner import judged

GROUPS = grouped(load())
RUNS = [(name, run) for name, group in GROUPS.items() for run in runs(group)]
POLL_S = 0.1
CORES = os.cpu_count() or 1
"""So many groups are run at once at most: their deadlines are seconds."""

pytestmark = pytest.mark.timeout(300)

Verdicts = dict[str, list[str]]


@pytest.fixture(scope="session")
def verdicts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, testrun_uid: str
) -> Callable[[str], Verdicts]:
    """What does not hold, by run, for a group of that name."""
    # The workers of one test run have folders beside each other.
    shared = tmp_path_factory.getbasetemp().parent / f"wild-{testrun_uid}"
    shared.mkdir(exist_ok=True)
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    asked = {call.params.get("group") for call in calls if call is not None}
    wanted = [name for name in GROUPS if name in asked]

    def of_group(name: str) -> Verdicts:
        found = shared / f"{name}.json"
        while not found.exists():
            # While another worker runs this group, run one that none has begun.
            if not any(_run_alone(shared, each) for each in (name, *wanted)):
                time.sleep(POLL_S)
        verdicts: Verdicts = json.loads(found.read_text(encoding="utf-8"))
        return verdicts

    return of_group


def _run_alone(shared: Path, name: str) -> bool:
    """Run the group unless it has been run; False where it has, or others use all cores."""
    found = shared / f"{name}.json"
    with ExitStack() as locks:
        if not any(_locked(locks, shared / f"core {n}") for n in range(CORES)):
            return False
        if not _locked(locks, shared / name) or found.exists():
            return False
        _judge(name, found)
        return True


def _locked(locks: ExitStack, path: Path) -> bool:
    """Take the lock, if no other worker has it."""
    try:
        locks.enter_context(FileLock(path))
    except StartError:
        return False
    return True


def _judge(name: str, found: Path) -> None:
    folder = found.with_suffix("")
    folder.mkdir(exist_ok=True)
    faults: Verdicts = {}
    for verdict in asyncio.run(judged(GROUPS[name], folder)):
        faults.setdefault(verdict.run.name, []).extend(verdict.faults)
    partial = found.with_suffix(".partial")
    partial.write_text(json.dumps(faults), encoding="utf-8")
    partial.rename(found)


@pytest.mark.parametrize(("group", "run"), [pytest.param(g, r, id=r.name) for g, r in RUNS])
def test_case(group: str, run: Run, verdicts: Callable[[str], Verdicts]) -> None:
    faults = verdicts(group)[run.name]

    assert not faults, f"{run.case.kind}: {run.case.why}\n" + "\n".join(faults)
