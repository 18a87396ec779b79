"""What providers really send, over real sockets: each case of the table at each of its doors.

All cases of a group run at once against one service. A group is run by the worker that needs it
first and read by the others.
"""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncsvc.errors import StartError
from asyncsvc.storage.lock import FileLock
from tests.wild.cases import Run, grouped, load, runs
from tests.wild.runner import judged

GROUPS = grouped(load())
RUNS = [(name, run) for name, group in GROUPS.items() for run in runs(group)]
POLL_S = 0.1

pytestmark = pytest.mark.timeout(300)

Verdicts = dict[str, list[str]]


@pytest.fixture(scope="session")
def verdicts(
    tmp_path_factory: pytest.TempPathFactory, testrun_uid: str
) -> Callable[[str], Verdicts]:
    """What does not hold, by run, for a group of that name."""
    # The workers of one test run have folders beside each other.
    shared = tmp_path_factory.getbasetemp().parent / f"wild-{testrun_uid}"
    shared.mkdir(exist_ok=True)

    def of_group(name: str) -> Verdicts:
        found = shared / f"{name}.json"
        while not found.exists():
            try:
                with FileLock(shared / name):
                    if not found.exists():
                        _judge(name, found)
            except StartError:  # another worker runs this group
                time.sleep(POLL_S)
        verdicts: Verdicts = json.loads(found.read_text(encoding="utf-8"))
        return verdicts

    return of_group


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
