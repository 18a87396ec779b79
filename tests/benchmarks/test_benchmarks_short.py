"""The benchmarks in short: what they call broken must not be, whatever the speed."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asyncsvc.limits.sliding_window import LAG
from asyncsvc.selftest.crashes import Load
from tests.benchmarks import (
    agents,
    checkpoint,
    commands,
    crash,
    crowd,
    faults,
    gatekeeping,
    isolation,
    rate,
    rate_audit,
    sandbox,
    slow_readers,
    soak,
    start,
    stream,
    submit,
)
from tests.benchmarks.report import BROKEN, MISSED, Report, percentile
from tests.selftest.stories import life

OF_TIME = re.compile(
    r"(violations of|turned away by) \S+ rate limit|arrivals in one window|no call was answered 429"
)
"""Faults that a machine can cause which stands still, or has time for a few calls only."""


async def unbroken(run: Callable[[], Awaitable[Report]], window_s: float) -> None:
    """A rate is kept as long as a call reaches the provider within a 30th of its window.

    A run on a machine that stood still for longer shows nothing about the rate, and is repeated.
    All else that is broken counts in any run.
    """
    for last in (False, False, True):
        stalls = asyncio.create_task(longest_stall_s())
        broken = (await run()).broken
        stalls.cancel()
        assert [fault for fault in broken if not OF_TIME.search(fault)] == []
        if not broken or last or await stalls < window_s / LAG / 2:
            assert broken == []
            return


async def longest_stall_s() -> float:
    """How late a timer of this process was at most, until it is cancelled."""
    loop, longest = asyncio.get_running_loop(), 0.0
    try:
        while True:
            due = loop.time() + 0.01
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - due)
    except asyncio.CancelledError:
        return longest


async def test_kills_lose_nothing() -> None:
    await unbroken(lambda: crash.run(kills=2, rate=40, seed=7), Load.window_s)


async def test_agents_that_are_killed() -> None:
    report = await agents.run(every=30, kills=1, calls=1, seed=3)
    assert not report.broken, report.text()


async def test_restarts_keep_the_rate() -> None:
    scenario = rate.Scenario("restarts", window_s=4, tasks=85, restarts=2)
    await unbroken(lambda: rate.run([scenario]), scenario.window_s)


async def test_kills_cancellations_and_refusals_keep_the_limits() -> None:
    plan = rate_audit.Plan(window_s=4, windows=3, kills=2)
    await unbroken(lambda: rate_audit.run(plan), plan.window_s)


async def test_every_fault_has_its_end() -> None:
    broken = (await faults.run(tasks=3)).broken
    if broken:
        # Its deadlines are fractions of a second: unlike a machine that stands still for one, a
        # fault comes again.
        broken = (await faults.run(tasks=3)).broken
    assert broken == []


async def test_thousands_of_short_tasks_are_done() -> None:
    assert (await soak.run(soak.Plan(tasks=2000))).broken == []


async def test_a_crowd_comes_back_without_gaps_and_slow_ones_are_closed() -> None:
    plan = crowd.Plan(40, stream_s=3, slow=5, pairs=1, round_tokens=1000, large_tokens=120_000)
    assert (await crowd.run(plan)).broken == []


async def test_every_submit_is_answered_and_stored() -> None:
    plan = submit.Plan(rounds=1, count=300, offered=50, streams=5, seconds=1)
    assert (await submit.run(plan)).broken == []


async def test_a_hanging_model_breaks_no_other() -> None:
    assert (await isolation.run(isolation.Plan(rounds=1, tasks=15))).broken == []


async def test_programs_in_a_sandbox_end_at_their_limits() -> None:
    assert (await sandbox.run(1)).broken == []


async def test_a_workspace_is_put_back_to_its_checkpoint() -> None:
    assert (await checkpoint.run(checkpoint.Plan(files=100, total_mb=2, rounds=1))).broken == []


async def test_it_starts_and_stops() -> None:
    assert (await start.run(1)).broken == []


async def test_every_client_hears_all() -> None:
    assert (await stream.run(stream.Plan(tasks=15, rate=40, seconds=1))).broken == []


def test_an_ideal_schedule_is_held_up_by_slots_and_window() -> None:
    scenario = rate.Scenario("ideal", window_s=20, tasks=0)
    assert rate.ideal(100, 5, scenario, ()) == 100
    assert rate.ideal(100, 6, scenario, ()) == 101
    assert rate.ideal(100, 41, scenario, ()) == 120
    assert rate.ideal(100, 41, scenario, [(119, 123)]) == 123


def call(at: float, until: float, status: int = 200, left: bool = False) -> dict[str, Any]:
    return {"arrived_at": at, "finished_at": until, "status": status, "client_left": left}


def test_what_is_allowed_leaves_out_pauses_and_outages() -> None:
    calls = [call(0, 1), call(5, 6), call(9, 10)]
    assert rate_audit.allowed(calls, 1, 40, 60, 2, ()) == 2
    assert rate_audit.allowed(calls, 2, 40, 60, 2, ()) == 1
    assert rate_audit.allowed(calls, 2, 2, 60, 2, ()) == 60
    assert rate_audit.allowed(calls, 1, 40, 60, 2, [(0.5, 4)]) == 5
    refused = [call(0, 0.5, 429), call(5, 6), call(9, 10)]
    assert rate_audit.allowed(refused, 1, 40, 60, 2, ()) == pytest.approx(3.5)


def gone(start: float, end: float, refused: bool = False) -> gatekeeping.Run:
    return gatekeeping.Run(start, end, start + 0.01, refused)


def failures(*times: tuple[float, float], silence_s: float = 0.0) -> list[str]:
    return gatekeeping.of_breaker([gone(*each) for each in times], 5, 5, 0.3, silence_s)


def test_a_breaker_opens_at_the_fifth_failure_and_probes_alone() -> None:
    five = [(0.0, 0.1)] * 5
    under_way = [(0.05, 9.0)] * 4  # their ends are not their failures'
    assert failures(*five, *under_way, (1, 1.1), (2, 2.1)) == []
    assert "too few" in failures(*five)[0]
    assert "a probe 0.110 s after" in failures(*five, (1, 1.5), (1.1, 1.2))[0]
    assert "a probe 0.260 s after" in failures(*five, (1, 1.1), (1.25, 1.3))[0]
    assert "a probe 1.210 s after" in failures(*five, (2, 3), (3.2, 4.3), silence_s=1.0)[0]
    assert "the first probe 0.210 s after" in failures(*five, (0.2, 0.3))[0]
    assert "before the breaker" in failures(*five * 2)[0]


def test_a_machine_that_stands_still_is_no_fault_of_the_breaker() -> None:
    five = [(0.0, 5.0)] * 5
    assert failures(*five, *[(0.4 * n, 5.0) for n in range(1, 12)], (5.1, 5.2)) == []


def test_a_pause_that_was_asked_for_is_kept() -> None:
    refused = gone(0, 0.1, refused=True)
    assert gatekeeping.of_pause([refused, gone(0.05, 3), gone(1.02, 3)], 1) == []
    assert gatekeeping.of_pause([refused, gone(0.5, 3)], 1) != []


def test_a_start_that_the_gate_sent_back_makes_no_call() -> None:
    sent_back = gatekeeping.Start(0, 1, "deferred", "overloaded")
    refused = gatekeeping.Start(0, 1, "deferred", "rate_limited")
    assert gatekeeping.of_calls([sent_back, refused], [call(0, 1)]) == []
    assert gatekeeping.of_calls([sent_back, refused], [call(0, 1)] * 2) != []


def test_the_slope_of_memory_is_per_ten_thousand_tasks() -> None:
    grows = [soak.Sample(n, n * 1000, 80 + n * 0.2, 3, 60) for n in range(20)]
    assert soak.slope_mb(grows) == pytest.approx(2.0)
    assert soak.slope_mb(grows[:1]) == 0


def test_a_client_is_held_against_what_is_stored() -> None:
    stored = life((7, 1, "attempt", {}), (9, 2, "chunk", {"text": "ab"}))
    first = '{"id":7,"task_id":"t","seq":1,"type":"attempt","ts":"","data":{}}'
    last = '{"id":9,"task_id":"t","seq":2,"type":"chunk","ts":"","data":{"text":"ab"}}'
    participant = crowd.Participant("t", [(1, first), (2, last)])
    assert crowd.compared(participant, stored) == []
    for wrong in ([(1, first)], [(1, first), (1, first), (2, last)], [(2, last), (1, first)]):
        assert crowd.compared(crowd.Participant("t", wrong), stored) != []


@pytest.mark.parametrize("size", [0, 5, 125, 126, 65_535, 65_536])
def test_frames_are_found_whole(size: int) -> None:
    if size < 126:
        head = b"\x81" + bytes([size])
    elif size < 65_536:
        head = b"\x81\x7e" + size.to_bytes(2)
    else:
        head = b"\x81\x7f" + size.to_bytes(8)
    whole = head + b"x" * size
    assert slow_readers.frame_in(whole + b"\x88\x02") == (len(head), len(whole))
    assert [n for n in range(len(whole)) if slow_readers.frame_in(whole[:n])] == []


def test_a_fault_outweighs_a_missed_target() -> None:
    report = Report("title", ("what", "value"))
    report.row("tasks", 1234)
    assert report.finish() == 0
    report.target(False, "slow")
    assert report.finish() == MISSED
    report.require(False, "lost")
    assert report.finish() == BROKEN
    assert "1,234" in report.text()
    assert "BROKEN: lost\nMISSED TARGET: slow" in report.text()


def test_percentiles() -> None:
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(range(100), 0.95) == 95
    assert percentile([1, 2], 1.0) == 2


def test_commands_in_short() -> None:
    report = commands.run(1)
    assert report.broken == []
    assert len(report.rows) == len(commands.COMMANDS)
