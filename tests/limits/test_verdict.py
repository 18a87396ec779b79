"""The laws of the verdict: what each stage asks of an account, and that no snapshot is stale."""

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncsvc.errors import AuthUnexplained, QuotaExhausted, RateLimited, UpstreamOverloaded
from asyncsvc.limits.account import AccountLimiter, Permit
from asyncsvc.limits.adaptive import Adaptive
from asyncsvc.limits.breaker import Breaker
from asyncsvc.limits.sliding_window import Window
from asyncsvc.limits.verdict import (
    LONG_COOLDOWN_S,
    READY,
    AccountState,
    Reason,
    Stage,
    Verdict,
    verdict,
)
from tests.virtual_time import run_virtual

NOW = 100.0
PARTS = ("cooldown", "window", "tokens")
moments = st.sampled_from([0.0, NOW, NOW + 1, NOW + LONG_COOLDOWN_S, NOW + 99, math.inf])


def part(*reasons: Reason) -> st.SearchStrategy[Verdict]:
    return st.just(READY) | st.builds(Verdict, st.sampled_from(reasons), moments)


states = st.builds(
    AccountState,
    disabled=st.booleans(),
    paused=st.booleans(),
    refused_alike=st.booleans(),
    cooldown=part("slow_down", "quota"),
    breaker=part("breaker", "slow_down"),
    probing=st.booleans(),
    window=part("rate"),
    spread=part("rate"),
    busy=st.integers(0, 3),
    long_busy=st.integers(0, 3),
    concurrency=st.integers(1, 3),
).map(lambda state: state._replace(probing=state.probing and state.breaker is not READY))
stages = st.sampled_from(Stage)


def waits(state: AccountState, probe: bool, tokens: Verdict) -> dict[str, float]:
    """Seconds that each part asks for, as the parts see it themselves."""
    breaker = math.inf if state.probing else state.breaker.until - NOW
    seconds = {
        "cooldown": state.cooldown.until - NOW,
        "breaker": breaker,
        "probe": 0.0 if probe else breaker,
        "open": 0.0 if state.probing else state.breaker.until - NOW,
        "window": state.window.until - NOW,
        "spread": state.spread.until - NOW,
        "tokens": tokens.until - NOW,
    }
    return {name: max(s, 0.0) for name, s in seconds.items()}


def allowed(state: AccountState, stage: Stage, long: bool, probe: bool, tokens: Verdict) -> bool:
    """Whether the task may go on, stage by stage and part by part."""
    wait = waits(state, probe, tokens)
    full = state.busy >= state.concurrency
    if state.disabled or (state.paused and stage is not Stage.SUBMIT):
        return False
    match stage:
        case Stage.SUBMIT:
            return not (state.refused_alike and wait["breaker"])
        case Stage.QUEUE:
            return wait["cooldown"] <= LONG_COOLDOWN_S and not wait["breaker"]
        case Stage.PERMIT:
            return not any(wait[name] for name in (*PARTS, "probe"))
        case Stage.CALL:
            is_probe = probe and state.breaker.until <= NOW
            return not wait["cooldown"] and (state.breaker is READY or is_probe)
        case Stage.START:
            return not full and not any(wait[name] for name in (*PARTS, "probe", "spread"))
    too_long = long and state.concurrency > 1 and state.long_busy >= state.concurrency - 1
    return not full and not too_long and not any(wait[name] for name in (*PARTS, "open"))


@settings(max_examples=1000)
@given(states, stages, st.booleans(), st.booleans(), part("tokens"))
def test_each_stage_asks_for_just_its_parts(
    state: AccountState, stage: Stage, long: bool, probe: bool, tokens: Verdict
) -> None:
    found = verdict(state, stage, NOW, long=long, probe=probe, tokens=tokens)
    assert found.ready == allowed(state, stage, long, probe, tokens)
    assert found.never == state.disabled


@given(states, st.booleans(), part("tokens"))
def test_a_permit_waits_for_what_lasts_longest(
    state: AccountState, probe: bool, tokens: Verdict
) -> None:
    state = state._replace(disabled=False, paused=False, probing=False)
    found = verdict(state, Stage.PERMIT, NOW, probe=probe, tokens=tokens)
    wait = waits(state, probe, tokens)
    longest = max(wait[name] for name in (*PARTS, "probe"))
    assert found.wait_s(NOW) == longest
    assert found.ready or found.until > NOW
    later = max(found.until, NOW)
    assert verdict(state, Stage.PERMIT, later, probe=probe, tokens=tokens).ready


@given(states, stages, st.booleans(), part("tokens"))
def test_a_later_moment_never_closes_what_an_earlier_one_opened(
    state: AccountState, stage: Stage, long: bool, tokens: Verdict
) -> None:
    if verdict(state, stage, NOW, long=long, tokens=tokens).ready:
        assert verdict(state, stage, NOW + 50, long=long, tokens=tokens).ready


@given(states, part("tokens"))
def test_a_start_needs_all_that_a_permit_and_a_slot_need(
    state: AccountState, tokens: Verdict
) -> None:
    if verdict(state, Stage.START, NOW, tokens=tokens).ready:
        for stage in (Stage.SUBMIT, Stage.PERMIT, Stage.SLOT):
            assert verdict(state, stage, NOW, tokens=tokens).ready


class Life:
    """A limiter under random use. After each step its verdicts are those of a fresh snapshot."""

    def __init__(self) -> None:
        self.limiter = AccountLimiter(
            "m",
            concurrency=2,
            window=Window(3),
            breaker=Breaker(2, 30.0),
            budget=Window(100),
            adaptive=Adaptive.of(True, True, 60.0),
        )
        self.permits: list[Permit] = []

    async def step(self, kind: str, draw: int) -> None:
        limiter, permit = (
            self.limiter,
            self.permits[draw % len(self.permits)] if self.permits else None,
        )
        match kind:
            case "sleep":
                await asyncio.sleep(draw)
            case "acquire":
                try:
                    async with asyncio.timeout(1.0):
                        new = await limiter.acquire()
                    new.reserve(draw % 2 == 0, draw)
                    self.permits.append(new)
                except TimeoutError:
                    pass
            case "pause":
                limiter.pause(None if draw % 2 else "m is paused")
            case "reset":
                limiter.reset()
            case "fail":
                error = (
                    UpstreamOverloaded("x"),
                    RateLimited("x", retry_after=draw),
                    QuotaExhausted("x", retry_after=draw),
                    AuthUnexplained("x", status=403),
                    RateLimited("x"),
                )[draw % 5]
                limiter.failed(error, permit, str(draw))
            case "configure":
                limiter.configure(1 + draw % 3, draw % 5, draw, limiter.adaptive)
            case _ if permit is not None:
                await self._call(kind, permit, draw)

    async def _call(self, kind: str, permit: Permit, draw: int) -> None:
        match kind:
            case "send" if permit.sent_at is None:
                permit.sent()
                permit.head(accepted=draw % 3 > 0)
            case "succeed":
                permit.used(draw)
                self.limiter.succeeded(1.0)
            case "release":
                permit.release()
                self.permits.remove(permit)

    def verdicts(self) -> list[Any]:
        limiter = self.limiter
        found: list[Any] = [limiter.refusal(), limiter.wait(spread=True)]
        for stage in Stage:
            found.extend(
                limiter.verdict(stage, tokens=10, long=probe, probe=probe)
                for probe in (False, True)
            )
            found.append(limiter.describe(stage))
        return found


KINDS = ("sleep", "acquire", "send", "succeed", "release", "fail", "pause", "reset", "configure")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 40)), max_size=30))
def test_a_snapshot_is_never_stale(steps: list[tuple[str, int]]) -> None:
    async def check() -> None:
        life = Life()
        for kind, draw in steps:
            life.verdicts()
            await life.step(kind, draw)
            kept = life.verdicts()
            life.limiter.changes += 1
            assert kept == life.verdicts()

    run_virtual(check())


@pytest.mark.parametrize("stage", Stage)
def test_a_disabled_account_is_never_ready(stage: Stage) -> None:
    async def check() -> None:
        limiter = AccountLimiter("m", concurrency=1, window=Window(0), breaker=Breaker(5, 30.0))
        limiter.disable(UpstreamOverloaded("gone"))
        assert limiter.verdict(stage).never
        assert "gone" in str(limiter.describe(stage))

    run_virtual(check())
