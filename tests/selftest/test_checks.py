"""The lines of the page: each fault of a run fails the line that speaks of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from asyncsvc.selftest import checks, disk, selftest
from asyncsvc.selftest.agents import FILES, STEPS, Seen, faults_of_files
from asyncsvc.selftest.checks import Check, Outcome
from asyncsvc.selftest.clocks import ClockWatch
from asyncsvc.selftest.crashes import Load
from asyncsvc.selftest.disk import Place, of_disk
from asyncsvc.selftest.records import Evidence
from asyncsvc.selftest.selftest import Plan, Result
from tests.selftest import test_oracle as spoiled
from tests.selftest.stories import calls, story

LOAD = Load(kills=1, per_s=20, seed=1, rpm=2, window_s=6)


def lines(run: Evidence, stall_s: float = 0.0) -> dict[str, Check]:
    return {line.name: line for line in checks.of_run(run, LOAD, stall_s)}


def failing(run: Evidence) -> set[str]:
    return {name for name, line in lines(run).items() if line.outcome is Outcome.FAILED}


def test_a_run_that_holds() -> None:
    found = lines(story())
    assert {line.outcome for line in found.values()} == {Outcome.OK}
    assert found["tasks"].found == "2 acknowledged: none lost, none stored twice"
    assert found["kills"].found.startswith("1 kill; 2 running calls cut; back after")
    assert found["finished"].found.startswith("4 calls at the provider for 4 starts")


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (spoiled.lost, "tasks"),
        (spoiled.stored_twice, "tasks"),
        (spoiled.odd_answer, "tasks"),
        (spoiled.run_again, "finished"),
        (spoiled.paid_again, "finished"),
        (spoiled.left_running, "ends"),
        (spoiled.attempt_counted_for_a_kill, "ends"),
        (spoiled.event_twice_to_the_feed, "events"),
        (spoiled.event_stored_twice, "events"),
        (spoiled.limit_exceeded, "limits"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_fault_fails_its_line(spoil: Callable[[Evidence], None], name: str) -> None:
    run = story()
    spoil(run)
    assert name in failing(run)
    assert lines(run)[name].details


def at(*arrivals: float) -> list[dict[str, object]]:
    """Calls of the limited model."""
    shape = {"marker": "", "model": "limited", "outcome": "completed", "text": ""}
    return [{**shape, "arrived_at": a, "finished_at": a + 0.1, "client_left": 0} for a in arrivals]


def test_the_provider_s_own_times_are_counted_too() -> None:
    run = story()
    run.calls = [*run.calls, *at(0, 1, 7)]
    assert lines(run)["limits"].found == "2 of 2 in any 6 s, 1 of 5 at once (3 calls)"
    run.calls = [*calls(), *calls("mu"), *at(0, 1, 5.9)]
    assert failing(run) == {"limits"}


def test_a_machine_that_stood_still_shows_nothing_about_a_rate() -> None:
    run = story()
    spoiled.limit_exceeded(run)
    assert lines(run, stall_s=0.05)["limits"].outcome is Outcome.FAILED
    stood = lines(run, stall_s=0.5)["limits"]
    assert stood.outcome is Outcome.LOOK
    assert "stood still for 0.5 s" in stood.details[-1]


def test_kills_that_cut_nothing_ask_for_more() -> None:
    run = story()
    for task in run.tasks:
        task.events = [event for event in task.events if event[3].get("cause") != "interrupted"]
    assert lines(run)["kills"].outcome is Outcome.LOOK


SERVER = Place("ext4", "/dev/sda1", "rw,relatime", "write through")


@pytest.mark.parametrize(
    ("times", "where", "outcome", "named"),
    [
        ([0.002] * 9, SERVER, Outcome.OK, ""),
        ([5e-5] * 9, SERVER, Outcome.OK, ""),
        ([5e-5] * 9, Place("ext4", "/dev/sda1", "rw", "write back"), Outcome.LOOK, "50 µs needs"),
        ([3e-6] * 9, SERVER, Outcome.LOOK, "faster than any disk"),
        ([3e-6] * 9, Place("tmpfs", "tmpfs"), Outcome.FAILED, "in memory"),
        ([0.002] * 9, Place("nfs4", "host:/share"), Outcome.LOOK, "on the network"),
        ([0.002] * 9, Place("ext4", "/dev/sda1", "rw,nobarrier"), Outcome.LOOK, "nobarrier"),
        ([0.002] * 9 + [0.5], SERVER, Outcome.LOOK, "500.0 ms or more"),
        ([0.002] * 9, Place(), Outcome.OK, ""),
    ],
)
def test_the_disk(times: list[float], where: Place, outcome: Outcome, named: str) -> None:
    line = of_disk(times, where)
    assert line.outcome is outcome, line
    assert named in " ".join(line.details)


@pytest.mark.parametrize(
    ("acknowledged", "outcome"),
    [
        ([0.001] + [0.009] * 19, Outcome.OK),
        ([0.0005] * 9 + [0.009] * 11, Outcome.FAILED),
        ([], Outcome.FAILED),
    ],
)
def test_an_answer_cannot_be_faster_than_a_sync(
    acknowledged: list[float], outcome: Outcome
) -> None:
    assert disk.of_acknowledgements(acknowledged, [0.002, 0.008]).outcome is outcome


def test_the_disk_is_measured_and_left_as_it_was(tmp_path: Path) -> None:
    times = disk.measure(tmp_path, writes=3)
    assert len(times) == 3
    assert min(times) > 0
    assert list(tmp_path.iterdir()) == []
    assert disk.place(tmp_path).file_system


@pytest.mark.parametrize(
    ("integrity", "settings", "mac", "outcome"),
    [
        ("ok", {"journal_mode": "wal", "synchronous": "full"}, False, Outcome.OK),
        ("ok", {"journal_mode": "wal", "synchronous": "normal"}, False, Outcome.FAILED),
        ("ok", {"journal_mode": "delete", "synchronous": "full"}, False, Outcome.FAILED),
        ("row 1", {"journal_mode": "wal", "synchronous": "full"}, False, Outcome.FAILED),
        ("ok", {"journal_mode": "wal", "synchronous": "full"}, True, Outcome.LOOK),
    ],
)
def test_the_database(
    integrity: str, settings: dict[str, str], mac: bool, outcome: Outcome
) -> None:
    assert checks.of_database(integrity, settings, mac).outcome is outcome


def watched(*samples: tuple[float, float]) -> Check:
    """The clock's line after such samples of monotonic and wall-clock seconds."""
    clock = ClockWatch(lambda: round(samples[-1][1] * 1000), lambda: samples[-1][0])
    clock.samples = [(steady, round(wall * 1000)) for steady, wall in samples[:-1]]
    return clock.judge()


def test_the_clock() -> None:
    assert watched((5, 1000), (5.2, 1000.2), (45, 1040)).outcome is Outcome.OK
    back = watched((5, 1000), (5.2, 1000.2), (5.4, 997.4), (45, 1037))
    assert back.outcome is Outcome.LOOK
    assert "-3.0 s" in back.details[0]
    assert back.found == "1 jump, +0 ppm in 40 s"
    fast = watched(*((5 + n, 1000 + n * 1.002) for n in range(40)))
    assert "too fast" in fast.details[0]


def event(seq: int, kind: str, **data: object) -> dict[str, object]:
    return {"seq": seq, "type": kind, "data": data}


def an_agent() -> list[dict[str, object]]:
    events: list[dict[str, object]] = []
    for number in range(1, STEPS + 1):
        events.append(event(len(events) + 1, "step", number=number))
        events.append(event(len(events) + 1, "message", step=number))
        events.append(event(len(events) + 1, "tool_result", id=f"c{number}", ok=True))
    return events


DONE = {"status": "completed", "result": "Done.", "error": None}


def test_an_agent_that_did_each_thing_once() -> None:
    seen = Seen(agents=1, lives=2)
    assert seen.judge(DONE, an_agent()) == []
    assert checks.of_agents(seen, []).outcome is Outcome.OK
    assert checks.of_agents(seen, ["Traceback"]).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (event(31, "step", number=3), "step 3 was asked for after step 10"),
        (event(31, "tool_result", id="c4", ok=True), "c4 has 2 results"),
        (event(31, "tool_result", id="new", ok=False), "a call failed"),
        (event(31, "approval", id="c4"), "waited for a person"),
        (event(40, "retry"), "gaps"),
    ],
)
def test_an_agent_with_a_fault(more: dict[str, object], named: str) -> None:
    assert any(named in fault for fault in Seen().judge(DONE, [*an_agent(), more]))


def test_files_that_an_agent_left(tmp_path: Path) -> None:
    assert faults_of_files(tmp_path) == ["it has no workspace"]
    work = tmp_path / "work-2"
    for name, text in FILES.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    assert faults_of_files(tmp_path) == []
    (work / "log").write_text(FILES["log"] + "5 begins\n")
    assert "5 begins" in faults_of_files(tmp_path)[0]


def test_the_verdict() -> None:
    result = Result(Path("x"), Plan(), [checks.check("tasks", "", "")], 41.0)
    assert selftest.verdict(result) == "durable on this machine: all 1 hold (20 kills, 41 s)"
    result.checks.append(checks.hint("disk", "", "", ["slow"]))
    assert "look at disk" in selftest.verdict(result)
    result.checks.append(checks.of_failure("kills", "", TimeoutError()))
    not_shown = "NOT shown to be durable on this machine: 1 of 3 fail: kills"
    assert selftest.verdict(result) == not_shown
    assert result.checks[-1].details == ("TimeoutError",)
    result.checks.append(checks.check("tasks", "", "", ["lost"]))
    assert selftest.verdict(result) == "NOT durable on this machine: 2 of 4 fail: kills, tasks"


def test_a_scratch_folder_goes_away(tmp_path: Path) -> None:
    with selftest.scratch(tmp_path, keep=False) as folder:
        (folder / "deep" / "er").mkdir(parents=True)
    assert list(tmp_path.iterdir()) == []
    with selftest.scratch(tmp_path, keep=True):
        pass
    assert len(list(tmp_path.iterdir())) == 1
