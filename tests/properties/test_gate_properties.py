"""The two promises of a gate under anything that may happen: the rate and the concurrency."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from asyncsvc.errors import (
    GateClosed,
    ProviderError,
    RateLimited,
    UpstreamOverloaded,
    UpstreamRejected,
)
from asyncsvc.limits.account import AccountLimiter
from asyncsvc.limits.breaker import Breaker, BreakerState
from asyncsvc.limits.sliding_window import Window
from asyncsvc.limits.verdict import Stage
from tests.limits.test_sliding_window import most_in
from tests.virtual_time import loop, run_virtual

SPAN_S, LAG_S = 60.0, 2.0


# What happens in one step: seconds before it, then the network's delay of the request as a
# share of the lag, then how long until the head is back (None: never), then what is done.
step = st.tuples(
    st.floats(0, 20),
    st.floats(0, 1),
    st.one_of(st.none(), st.floats(0, 90)),
    st.sampled_from(["call", "call", "call", "call", "burst", "cancel", "restart"]),
)


@dataclass
class World:
    """A window over a network with jitter, whose process may die at any time."""

    limit: int
    now: float = 0.0
    arrivals: list[float] = field(default_factory=list)
    noted: list[float] = field(default_factory=list)
    heads: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.window = Window(self.limit, SPAN_S, LAG_S)

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        for at, head in sorted(self.heads, key=lambda item: item[0]):
            if at <= until:
                self.now = max(self.now, at)
                head()
        self.heads = [item for item in self.heads if item[0] > until]
        self.now = until

    def call(self, network: float, head_after: float | None) -> None:
        if (delay := self.window.wait(self.now)) > 0:
            self.pass_time(delay)
            if self.window.wait(self.now) > 0:
                return
        stamp = self.window.reserve()
        self.noted.append(self.now)
        self.window.sent(stamp, self.now)
        arrival = self.now + network * LAG_S
        self.arrivals.append(arrival)
        if head_after is not None:
            seen = arrival + head_after
            self.heads.append((seen, lambda: self.window.head(stamp, seen)))

    def restart(self) -> None:
        self.window = Window(self.limit, SPAN_S, LAG_S)
        self.heads.clear()
        for at in self.noted:
            if self.now - at < SPAN_S * 1.1 + 1:
                self.window.restore(self.now - at, self.now)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 6), st.lists(step, max_size=60))
def test_no_window_as_the_provider_sees_it_holds_more_than_the_limit(
    limit: int, steps: list[tuple[float, float, float | None, str]]
) -> None:
    world = World(limit)
    for before, network, head_after, what in steps:
        world.pass_time(before)
        match what:
            case "restart":
                world.restart()
            case "cancel":
                world.window.refund(world.window.reserve())
            case "burst":
                for share in (network, 0.0, 1.0, network / 2):
                    world.call(share, head_after)
            case _:
                world.call(network, head_after)
    assert not world.arrivals or most_in(world.arrivals, SPAN_S) <= limit


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5), st.lists(st.floats(0, 1), min_size=30, max_size=60))
def test_a_wait_is_always_enough_and_never_a_span_too_long(limit: int, shares: list[float]) -> None:
    world = World(limit)
    for share in shares:
        delay = world.window.wait(world.now)
        assert 0 <= delay <= SPAN_S + LAG_S + 0.01
        world.pass_time(delay + 1e-9)
        assert world.window.wait(world.now) == 0
        world.call(share, share)


ERRORS: dict[str, Callable[[], ProviderError]] = {
    "slow": lambda: RateLimited("x"),
    "after": lambda: RateLimited("x", retry_after=5.0),
    "overloaded": lambda: UpstreamOverloaded("x"),
    "rejected": lambda: UpstreamRejected("x"),
}
# When a caller comes, how long it holds what it got, how that ends, when it gives up.
caller = st.tuples(
    st.floats(0, 30),
    st.floats(0, 20),
    st.sampled_from(["ok", "unused", "unsent", *ERRORS]),
    st.one_of(st.none(), st.floats(0, 60)),
    st.booleans(),
    st.sampled_from([0.0, 0.0, 1.0, 15.0]),
)
Caller = tuple[float, float, str, float | None, bool, float]
"""The last: how long it prepares its call when it has its permit, as with a slow disk."""
COOLDOWN_S = 10.0


@dataclass
class Crowd:
    """Callers of one gate as the engine has them: one at a time stands at it."""

    gate: AccountLimiter
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: int = 0
    probes: int = 0
    most: int = 0
    most_probes: int = 0
    sent: list[float] = field(default_factory=list)
    failed_at: float = -math.inf

    async def caller(self, plan: Caller) -> None:
        arrives, holds, end, waits, long, prepares = plan
        await asyncio.sleep(arrives)
        with suppress(TimeoutError):
            async with asyncio.timeout(waits):
                await self._call(holds, end, long, prepares)

    async def _call(self, holds: float, end: str, long: bool, prepares: float) -> None:
        gate = self.gate
        async with self.turn:
            permit = await gate.acquire()
            if not gate.verdict(Stage.SLOT, long=long).ready:
                end = "unused"
            if end != "unused":
                permit.reserve(long)
        probing = False
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if end not in ("unused", "unsent"):
                await asyncio.sleep(prepares)
                permit.confirm()
                probing = gate.breaker.state(gate.time()) is not BreakerState.CLOSED
                self._goes(probing)
                permit.sent()
                self.sent.append(loop().time())
                permit.head()
            await asyncio.sleep(holds)
            if end == "ok":
                gate.succeeded(holds)
            elif end in ERRORS:
                gate.failed(ERRORS[end]())
                if end == "overloaded":
                    self.failed_at = loop().time()
        except GateClosed:
            assert gate.describe() is not None
        finally:
            self.running -= 1
            self.probes -= probing
            permit.release()
            permit.release()

    def _goes(self, probing: bool) -> None:
        """A call is made."""
        self.probes += probing
        self.most_probes = max(self.most_probes, self.probes)
        assert self.gate.cooldown.until <= loop().time()
        if probing:
            assert loop().time() >= self.failed_at + COOLDOWN_S


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 4),
    st.sampled_from([0, 1, 3, 20]),
    st.lists(caller, min_size=1, max_size=25),
)
def test_whatever_callers_do_the_gate_keeps_its_limits_and_ends_empty(
    concurrency: int, rpm: int, plans: list[Caller]
) -> None:
    async def check() -> None:
        gate = AccountLimiter(
            "m", concurrency=concurrency, window=Window(rpm), breaker=Breaker(3, COOLDOWN_S)
        )
        crowd = Crowd(gate)
        await asyncio.gather(*(crowd.caller(plan) for plan in plans))
        assert crowd.most <= concurrency
        assert crowd.most_probes <= 1
        assert (gate.busy, gate.long_busy) == (0, 0)
        if rpm and crowd.sent:
            assert most_in(crowd.sent, SPAN_S) <= rpm
        await _all_slots_are_back(gate)

    run_virtual(check())


async def _all_slots_are_back(gate: AccountLimiter) -> None:
    await asyncio.sleep(200)
    gate.breaker.succeeded()
    async with asyncio.timeout(3600):
        permits = [await gate.acquire() for _ in range(gate.concurrency)]
    for permit in permits:
        permit.release()
    assert gate.wait() < math.inf


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.lists(st.floats(0, 5), min_size=2, max_size=12))
def test_a_cancelled_caller_takes_nothing_with_it(concurrency: int, waits: list[float]) -> None:
    async def check() -> None:
        gate = AccountLimiter(
            "m", concurrency=concurrency, window=Window(2), breaker=Breaker(5, 30.0)
        )
        gate.restore_calls([(1.0, 0), (1.0, 0)])
        waiting: list[Awaitable[object]] = [
            asyncio.wait_for(gate.acquire(), seconds) for seconds in waits
        ]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, TimeoutError) for result in results)
        await _all_slots_are_back(gate)

    run_virtual(check())
