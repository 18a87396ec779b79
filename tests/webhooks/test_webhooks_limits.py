"""How many deliveries are under way to each host, and which wait for others."""

import asyncio
from pathlib import Path

import pytest

from asyncsvc.webhooks.deliveries import FAILURES, LARGE, LARGE_BYTES, REST_S
from asyncsvc.webhooks.posting import Answer
from tests.hook_wire import BAD, OK, Wire, delivering, finish, until
from tests.virtual_time import virtual


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


@virtual
async def _slow(folder: Path, wire: Wire) -> None:
    wire.takes = {"slow": 20, "quick": 0.1}
    async with delivering(folder, at_once=6, per_host=3) as (journal, hooks):
        for number in range(40):
            await finish(journal, f"s{number}", "slow")
        for number in range(30):
            await finish(journal, f"q{number}", "quick")
        await until(lambda: len(wire.times("quick")) == 30, 5)
        assert len(wire.times("slow")) == 3
        await until(lambda: hooks.delivered == 70)
        assert wire.most == {"slow": 3, "quick": 3}
        assert sorted(wire.tasks()) == sorted(
            {f"s{i}" for i in range(40)} | {f"q{i}" for i in range(30)}
        )


def test_a_slow_receiver_holds_up_no_other(tmp_path: Path, wire: Wire) -> None:
    _slow(tmp_path, wire)


@virtual
async def _dead(folder: Path, wire: Wire) -> None:
    wire.takes = {f"dead{i}": 20.0 for i in range(3)}
    wire.replies = {host: [Answer(error="no answer within 20 s")] for host in wire.takes}
    async with delivering(folder, at_once=4, per_host=2, retry_s=[5]) as (journal, hooks):
        for number in range(60):
            await finish(journal, f"d{number}", f"dead{number % 3}")
        await asyncio.sleep(300)
        # Each has had its failures and rests most of the time: there is room again.
        assert all(len(wire.times(host)) < FAILURES + 12 for host in wire.takes)
        assert hooks.failures >= 3 * FAILURES
        await finish(journal, "t", "alive")
        await until(lambda: hooks.delivered == 1, 40)
        wire.replies = {}
        wire.takes = {}
        await until(lambda: hooks.under_way == 0 and hooks.delivered + hooks.given_up == 61, 3000)
        assert await journal.store.deliveries.pending() == 0


def test_hosts_that_never_answer_take_no_place_for_good(tmp_path: Path, wire: Wire) -> None:
    _dead(tmp_path, wire)


@virtual
async def _rest(folder: Path, wire: Wire) -> None:
    wire.replies["a"] = [BAD] * FAILURES + [OK]
    async with delivering(folder, at_once=1) as (journal, hooks):
        for number in range(FAILURES + 1):
            await finish(journal, f"t{number}")
        await until(lambda: hooks.delivered > 0, 60)
        assert round(wire.times()[FAILURES] - wire.times()[FAILURES - 1], 1) == REST_S


def test_a_rest_ends_by_itself(tmp_path: Path, wire: Wire) -> None:
    _rest(tmp_path, wire)


@virtual
async def _large(folder: Path, wire: Wire) -> None:
    wire.takes = {"big": 20, "small": 0.1}
    size = LARGE_BYTES // 2 - 1000
    async with delivering(folder, at_once=10, per_host=10) as (journal, hooks):
        for number in range(4):
            await finish(journal, f"b{number}", "big", size)
        await finish(journal, "huge", "big", LARGE_BYTES + 1)
        await finish(journal, "s", "small", LARGE - 100)
        await until(lambda: len(wire.times("small")) == 1, 5)
        await until(lambda: hooks.delivered == 6)
        assert wire.most["big"] == 2


def test_what_large_tasks_hold_is_bounded(tmp_path: Path, wire: Wire) -> None:
    _large(tmp_path, wire)
