import asyncio
from typing import Any

from asyncsvc.clock import Now
from asyncsvc.scheduling.timers import DEAD_MOST, LONGEST_SLEEP_S, Timers
from tests.virtual_time import START_MS, loop, virtual, wall_ms


class _Bell:
    """Notes when it rings."""

    def __init__(self, now: Now = wall_ms) -> None:
        self.timers = Timers(now)
        self.rang: list[float] = []

    def ring(self, _: str) -> None:
        self.rang.append(round(loop().time(), 3))


@virtual
async def test_a_duration_rings_once() -> None:
    bell = _Bell()
    bell.timers.after("t", 90, bell.ring)
    await asyncio.sleep(500)
    assert bell.rang == [90]


@virtual
async def test_a_negative_duration_rings_at_once() -> None:
    bell = _Bell()
    bell.timers.after("t", -5, bell.ring)
    await asyncio.sleep(0.001)
    assert bell.rang == [0]


@virtual
async def test_a_moment_days_away_is_met() -> None:
    bell = _Bell()
    bell.timers.at("t", START_MS + 3 * 86_400_000, bell.ring)
    await asyncio.sleep(4 * 86_400)
    assert bell.rang == [3 * 86_400]


@virtual
async def test_a_past_moment_rings_at_once() -> None:
    bell = _Bell()
    bell.timers.at("t", START_MS - 1, bell.ring)
    await asyncio.sleep(0.001)
    assert bell.rang == [0]


@virtual
async def test_an_alarm_never_rings_within_the_call_that_sets_it() -> None:
    bell = _Bell()
    bell.timers.at("t", 0, bell.ring)
    bell.timers.after("u", 0, bell.ring)
    assert bell.rang == []


@virtual
async def test_a_moment_follows_a_clock_that_is_set_forward() -> None:
    shift = [0]
    bell = _Bell(lambda: wall_ms() + shift[0])
    bell.timers.at("t", START_MS + 86_400_000, bell.ring)
    await asyncio.sleep(100)
    shift[0] = 86_400_000
    await asyncio.sleep(LONGEST_SLEEP_S)
    assert len(bell.rang) == 1


@virtual
async def test_a_moment_follows_a_clock_that_is_set_back() -> None:
    shift = [0]
    bell = _Bell(lambda: wall_ms() + shift[0])
    bell.timers.at("t", START_MS + 100_000, bell.ring)
    await asyncio.sleep(1)
    shift[0] = -3_600_000
    await asyncio.sleep(3_600)
    assert bell.rang == []
    await asyncio.sleep(200)
    assert bell.rang == [3_700]


@virtual
async def test_setting_an_alarm_again_replaces_it() -> None:
    bell = _Bell()
    bell.timers.after("t", 10, bell.ring)
    bell.timers.at("t", START_MS + 20_000, bell.ring)
    await asyncio.sleep(100)
    assert bell.rang == [20]


@virtual
async def test_a_cleared_alarm_is_silent_and_others_are_not() -> None:
    bell = _Bell()
    bell.timers.after("t", 10, bell.ring)
    bell.timers.after("u", 20, bell.ring)
    bell.timers.clear("t")
    bell.timers.clear("unknown")
    await asyncio.sleep(100)
    assert bell.rang == [20]


@virtual
async def test_closing_silences_all() -> None:
    bell = _Bell()
    bell.timers.after("t", 10, bell.ring)
    bell.timers.at("u", START_MS + 90_000, bell.ring)
    bell.timers.close()
    await asyncio.sleep(1000)
    assert bell.rang == []


@virtual
async def test_an_alarm_may_set_itself_again() -> None:
    bell = _Bell()

    def again(name: str) -> None:
        bell.ring(name)
        if len(bell.rang) < 3:
            bell.timers.after("t", 5, again)

    bell.timers.after("t", 5, again)
    await asyncio.sleep(100)
    assert bell.rang == [5, 10, 15]


@virtual
async def test_alarms_ring_in_order_however_they_were_set() -> None:
    bell, rang = _Bell(), list[str]()
    for name, due in (("d", 30), ("a", 10), ("c", 20), ("b", 10)):
        bell.timers.after(name, due, rang.append)
    await asyncio.sleep(100)
    assert "".join(rang) == "abcd"


@virtual
async def test_an_alarm_that_fails_silences_no_other() -> None:
    bell, faults = _Bell(), list[dict[str, Any]]()
    loop().set_exception_handler(lambda _, context: faults.append(context))
    bell.timers.after("bad", 10, list[str]().remove)
    bell.timers.after("good", 10, bell.ring)
    await asyncio.sleep(100)
    assert (bell.rang, len(faults)) == ([10], 1)


@virtual
async def test_cleared_alarms_do_not_pile_up() -> None:
    bell = _Bell()
    bell.timers.after("stays", 90, bell.ring)
    for number in range(10_000):
        bell.timers.after(str(number), 50, bell.ring)
        bell.timers.clear(str(number))
    assert len(bell.timers) <= DEAD_MOST + 3
    await asyncio.sleep(100)
    assert bell.rang == [90]
