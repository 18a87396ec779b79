"""A gate before a provider that says nothing of its limits, in virtual time."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncsvc.errors import ConcurrencyLimited, RateLimited
from asyncsvc.limits.account import AccountLimiter, Permit
from asyncsvc.limits.adaptive import CONCURRENCY_START, RPM_START, Adaptive
from asyncsvc.limits.breaker import Breaker
from asyncsvc.limits.sliding_window import Window
from asyncsvc.limits.verdict import Stage
from tests.virtual_time import loop, run_virtual, virtual

SPAN_S = 60.0
WARM_UP = 5
NETWORK_S = 0.02


@dataclass
class Provider:
    """One with true limits, which says or does not say which of them was hit."""

    rpm: int = 40
    concurrency: int = 2
    call_s: float = 2.0
    says: bool = False
    others: int = 0
    """Calls a window of other users of the same account, who always come first."""
    running: int = 0
    most: int = 0
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    window: deque[float] = field(default_factory=deque)

    def refusal(self) -> RateLimited | None:
        """What keeps a call from being accepted now."""
        now = loop().time()
        while self.window and self.window[0] <= now - SPAN_S:
            self.window.popleft()
        if self.running >= self.concurrency:
            return ConcurrencyLimited("x") if self.says else RateLimited("x")
        if len(self.window) >= self.rpm - self.others:
            return RateLimited("x")
        self.window.append(now)
        return None

    async def call(self, permit: Permit, gate: AccountLimiter) -> None:
        permit.sent()
        await asyncio.sleep(NETWORK_S)
        error = self.refusal()
        permit.head(error is None)
        if error is not None:
            self.refused.append(loop().time())
            gate.failed(error, permit)
            return
        self.accepted.append(loop().time())
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.call_s)
        self.running -= 1
        gate.succeeded(self.call_s)


def auto(
    concurrency: int | None = None, rpm: int | None = None, adaptive: Adaptive | None = None
) -> AccountLimiter:
    """A gate that learns whatever is None."""
    return AccountLimiter(
        "m",
        concurrency=concurrency or CONCURRENCY_START,
        window=Window(RPM_START if rpm is None else rpm, SPAN_S),
        breaker=Breaker(5, 30.0),
        adaptive=adaptive or Adaptive.of(concurrency is None, rpm is None, SPAN_S),
    )


def most_at_once(gate: AccountLimiter) -> int:
    """The most calls at once that there may ever be."""
    learned = gate.adaptive.concurrency
    return gate.concurrency if learned is None else learned.ceiling


async def work(gate: AccountLimiter, provider: Provider, turn: asyncio.Lock) -> None:
    """A worker as the engine has them: one at a time stands at the gate."""
    while True:
        async with turn:
            permit = await gate.acquire()
            while not gate.verdict(Stage.SLOT).ready:
                permit.release()
                permit = await gate.acquire()
            permit.reserve(False)
        await provider.call(permit, gate)
        permit.release()


async def saturate(gate: AccountLimiter, provider: Provider, windows: float) -> None:
    """Always more to do than can be done."""
    turn = asyncio.Lock()
    workers = [asyncio.create_task(work(gate, provider, turn)) for _ in range(most_at_once(gate))]
    await asyncio.sleep(windows * SPAN_S)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    provider.running = 0


def shares(provider: Provider, since: float, true_rate: float) -> tuple[float, float]:
    """(share of calls refused, share of the true rate used) from `since` on."""
    good = sum(at >= since for at in provider.accepted)
    bad = sum(at >= since for at in provider.refused)
    return bad / (good + bad), good / (true_rate * (loop().time() - since) / SPAN_S)


PROVIDERS = {
    "rate only, named": Provider(concurrency=1000, says=True),
    "rate only": Provider(concurrency=1000),
    "a high rate": Provider(rpm=600, concurrency=1000, call_s=1.0),
    "concurrency only, named": Provider(rpm=10_000, concurrency=5, says=True),
    "concurrency only": Provider(rpm=10_000, concurrency=5),
    "one at once": Provider(rpm=10_000, concurrency=1),
    "both, named": Provider(says=True),
    "both": Provider(),
    "both, wide": Provider(rpm=200, concurrency=6, call_s=1.5),
}


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_limits_are_found_kept_and_used(name: str) -> None:
    plan = PROVIDERS[name]
    provider = Provider(plan.rpm, plan.concurrency, plan.call_s, plan.says)
    possible = min(plan.rpm, min(plan.concurrency, 32) * SPAN_S / (plan.call_s + NETWORK_S))

    async def check() -> None:
        await saturate(auto(), provider, WARM_UP + 30)
        refused, used = shares(provider, WARM_UP * SPAN_S, possible)
        assert (round(refused, 4) <= 0.01, used >= 0.85) == (True, True), (refused, used)

    run_virtual(check())


@virtual
async def test_of_a_very_low_rate_each_probe_is_a_larger_share() -> None:
    provider, gate = Provider(rpm=3, concurrency=1000), auto()
    await saturate(gate, provider, 100)
    refused, used = shares(provider, WARM_UP * SPAN_S, 3)
    assert refused <= 0.03
    assert used >= 0.85


@virtual
async def test_a_limit_that_falls_is_followed_and_one_that_rises_again_too() -> None:
    provider, gate = Provider(rpm=40, concurrency=8, says=True), auto()
    await saturate(gate, provider, 8)
    provider.rpm, provider.concurrency = 10, 2
    await saturate(gate, provider, WARM_UP)
    began = loop().time()
    await saturate(gate, provider, 20)
    refused, used = shares(provider, began, 10)
    assert refused <= 0.03
    assert used >= 0.85
    provider.rpm, provider.concurrency = 40, 8
    await saturate(gate, provider, 70)
    began = loop().time()
    await saturate(gate, provider, 20)
    refused, used = shares(provider, began, 40)
    assert refused <= 0.01
    assert used >= 0.85


@virtual
async def test_room_is_made_for_another_user_of_the_account() -> None:
    provider, gate = Provider(concurrency=100, others=25), auto(concurrency=5)
    await saturate(gate, provider, WARM_UP)
    began = loop().time()
    await saturate(gate, provider, 20)
    refused, used = shares(provider, began, 15)
    assert refused <= 0.02
    assert used >= 0.85


@virtual
async def test_what_a_gate_has_learned_another_goes_on_with() -> None:
    provider, gate = Provider(says=True), auto()
    await saturate(gate, provider, WARM_UP)
    after = auto()
    after.restore_learned(gate.adaptive.as_dict())
    assert gate.concurrency == 3, "it should be probing, which no other gate should go on with"
    assert (after.concurrency, after.window.limit) == (2, 40)
    refused = len(provider.refused)
    provider.window.clear()
    await saturate(after, provider, 3)
    assert len(provider.refused) == refused


@virtual
async def test_broken_memory_is_no_fault() -> None:
    gate = auto()
    broken: list[dict[str, Any]] = [{"rpm": {"value": "x"}}, {"rpm": None}, {"concurrency": {}}]
    for kept in broken:
        gate.restore_learned(kept)
    assert (gate.concurrency, gate.window.limit) == (CONCURRENCY_START, RPM_START)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 60),
    st.floats(0.1, 20),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_a_limit_that_was_set_is_never_exceeded_while_the_other_is_learned(
    concurrency: int, rpm: int, call_s: float, says: bool, learn_rate: bool, tight: bool
) -> None:
    provider = Provider(5 if tight else 30, 2 if tight else 4, call_s, says)
    sent: list[float] = []

    async def check() -> None:
        gate = auto(concurrency, None) if learn_rate else auto(None, rpm)
        await saturate(gate, provider, 4)
        sent.extend(gate.statistics.starts)
        assert provider.most <= (concurrency if learn_rate else most_at_once(gate))
        assert 1 <= gate.concurrency <= 32
        if not learn_rate and sent:
            most = max(sum(s <= t < s + SPAN_S for t in sent) for s in sent)
            assert most <= rpm

    run_virtual(check())
