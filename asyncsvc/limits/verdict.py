"""The verdict: whether an account may take a call at this moment, and if not, why and until when.

`verdict` is the one answer to that question. The scheduler, forecasts, routing, `/explain`,
`/models`, `/health` and the metrics read it and decide nothing of the kind themselves. Its input,
`AccountState`, holds moments instead of durations, so that a state is right until something
changes. `WaitReasons` adds up what the verdicts of an account have been. Times are the event
loop's seconds.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator
from enum import Enum, auto
from typing import Literal, NamedTuple, get_args

from asyncsvc.errors import ProviderError, QuotaExhausted, RateLimited, Unexplained

Reason = Literal[
    "concurrency",  # all slots are busy
    "rate",  # the rate window is full, or filling too fast
    "slow_down",  # the provider has asked to slow down
    "quota",  # the provider's quota is used up
    "breaker",  # the breaker is open
    "held",  # an operator has paused the model
    "disabled",  # the account is disabled by a fault
    "tokens",  # the token budget has no room
    "patience",  # hold-back: the slot is left free for a faster account
]
REASONS: tuple[Reason, ...] = get_args(Reason)
NOW, ON_CHANGE = -math.inf, math.inf
LONG_COOLDOWN_S = 30.0
"""A longer cooldown is worth asking another model."""


class Stage(Enum):
    """How far a task has come; each stage asks with a strictness of its own."""

    SUBMIT = auto()
    """A task comes: does the account take new tasks? It takes none while it is disabled, or cools
    down after the same refusal of two requests."""
    QUEUE = auto()
    """A task waits: is the account in service, that is, worth waiting for?"""
    PERMIT = auto()
    """A worker waits: does the provider's side allow one more call?"""
    SLOT = auto()
    """A worker has a permit: may it take a task?"""
    CALL = auto()
    """A task has a permit: may its request be sent?"""
    START = auto()
    """A task that waits alone: could its call begin at once?"""


class AccountState(NamedTuple):
    """All that decides about the next call of an account. A moment gone by is no obstacle; inf
    stands for "until something changes"."""

    disabled: bool
    paused: bool
    cooldown_until: float
    cooldown_error: ProviderError | None
    """The refusal for which the account cools down or last did; None: a header asked for it."""
    breaker_until: float
    """When an open breaker lets a probe pass; `NOW` while it is closed."""
    probing: bool
    """Whether the probe of an open breaker is under way."""
    refusal: Unexplained | None
    """The latest unexplained refusal since the last success."""
    refused: bool
    """Whether the breaker is open because of such refusals."""
    refused_alike: bool
    """Whether two different requests were refused alike."""
    window_until: float
    tokens_until: float
    """For the tokens of the request; `NOW` where it names none."""
    spread_until: float
    """When the evening-out of bursts lets the next call begin."""
    busy: int
    long_busy: int
    concurrency: int


class Verdict(NamedTuple):
    """`READY`, or why not and until when; `until` inf: until something changes."""

    reason: Reason | None
    until: float

    @property
    def ready(self) -> bool:
        """Whether the call may go on."""
        return self.reason is None

    @property
    def never(self) -> bool:
        """Whether waiting is of no use: the account is disabled until the next start or reload."""
        return self.reason == "disabled"

    def wait_s(self, now: float) -> float:
        """Seconds to wait; 0 where it is ready."""
        return max(self.until - now, 0.0)


READY = Verdict(None, NOW)
DISABLED = Verdict("disabled", ON_CHANGE)
PAUSED = Verdict("held", ON_CHANGE)
BUSY = Verdict("concurrency", ON_CHANGE)


def verdict(
    state: AccountState, stage: Stage, now: float, *, long: bool = False, probe: bool = False
) -> Verdict:
    """Whether a task at that stage may go on. `long`: it is a long task, and long tasks leave one
    slot to the others where there is more than one; `probe`: its call is the breaker's probe."""
    if state.disabled:
        return DISABLED
    if stage is Stage.SUBMIT:
        return _longest(now, _breaker(state)) if state.refused_alike else READY
    if state.paused:
        return PAUSED
    if stage is Stage.SLOT:
        return _slot(state, now, long)
    if stage is Stage.PERMIT:
        return _permit(state, now, probe)
    if stage is Stage.START:
        return _start(state, now)
    if stage is Stage.QUEUE:
        long_cooldown = state.cooldown_until - now > LONG_COOLDOWN_S
        return _longest(now, _cooldown(state) if long_cooldown else READY, _breaker(state))
    allowed = state.breaker_until == NOW or (probe and now >= state.breaker_until)
    return _longest(now, READY if allowed else _breaker(state), _cooldown(state))


def _slot(state: AccountState, now: float, long: bool) -> Verdict:
    """The breaker's probe takes a task too, so only a breaker that is open forbids it."""
    breaker = READY if state.probing else _breaker(state)
    if max(breaker.until, state.cooldown_until, state.window_until) > now:
        return _longest(now, breaker, _cooldown(state), Verdict("rate", state.window_until))
    if state.busy >= state.concurrency:
        return BUSY
    if long and state.long_busy >= state.concurrency - 1 > 0:
        return BUSY
    return Verdict("tokens", state.tokens_until) if state.tokens_until > now else READY


def _permit(state: AccountState, now: float, probe: bool) -> Verdict:
    breaker = READY if probe else _breaker(state)
    tokens = Verdict("tokens", state.tokens_until)
    rate = Verdict("rate", state.window_until)
    return _longest(now, breaker, _cooldown(state), rate, tokens)


def _start(state: AccountState, now: float) -> Verdict:
    if not (found := _permit(state, now, False)).ready:
        return found
    if state.busy >= state.concurrency:
        return BUSY
    return _longest(now, Verdict("rate", state.spread_until))


def _longest(now: float, *found: Verdict) -> Verdict:
    """What lasts longest of that which is in the way."""
    longest = max(found, key=lambda each: each.until)
    return longest if longest.until > now else READY


def _cooldown(state: AccountState) -> Verdict:
    exhausted = isinstance(state.cooldown_error, QuotaExhausted)
    return Verdict("quota" if exhausted else "slow_down", state.cooldown_until)


def _breaker(state: AccountState) -> Verdict:
    """A breaker that an unexplained refusal has opened counts as the provider's cooldown."""
    until = ON_CHANGE if state.probing else state.breaker_until
    return Verdict("slow_down" if state.refused else "breaker", until)


def provider_refusal(state: AccountState, now: float) -> ProviderError | None:
    """The provider's answer for which no call may start now; None: for none."""
    if state.cooldown_until > now:
        header = "a header says that nothing is left of the limit"
        return state.cooldown_error or RateLimited(header)
    return state.refusal if state.refused and _breaker(state).until > now else None


KEPT = 4096
FINE = 100
"""Of what is long past, one state is kept for each hundredth of its age."""


class WaitReasons:
    """What has kept an account from beginning its next call, and for how long.

    There is one clock for each reason, of which at most one runs. `between` costs the same
    however long a task has waited and however many wait, and is exact but for a hundredth of how
    long ago the beginning was.
    """

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self._since = 0.0
        self._totals = dict.fromkeys(REASONS, 0.0)
        self._times: list[float] = []
        self._states: list[tuple[float, ...]] = []

    def note(self, reason: Reason | None, now: float) -> None:
        """Note what the next call waits for from now on; None: for nothing but a task."""
        if reason is self.reason:
            return
        if self.reason is not None:
            self._totals[self.reason] += now - self._since
        self.reason, self._since = reason, now
        self._times.append(now)
        self._states.append(tuple(self._totals.values()))
        if len(self._times) > KEPT:
            self._thin(now)

    def between(self, start: float, now: float) -> dict[str, float]:
        """Seconds since `start` by reason, without the reasons that did not occur."""
        then = self._at(start, now)
        waited = zip(REASONS, self._current(now), then, strict=True)
        return {name: after - before for name, after, before in waited if after > before}

    def _current(self, now: float) -> tuple[float, ...]:
        running = self.reason
        extra = now - self._since
        return tuple(v + extra if name is running else v for name, v in self._totals.items())

    def _at(self, time: float, now: float) -> tuple[float, ...]:
        """What the clocks showed at that time."""
        index = bisect_right(self._times, time)
        if index == 0:
            return (0.0,) * len(REASONS)
        before, state = self._times[index - 1], self._states[index - 1]
        last = index == len(self._times)
        after = now if last else self._times[index]
        other = self._current(now) if last else self._states[index]
        share = (time - before) / (after - before) if after > before else 0.0
        return tuple(a + share * (b - a) for a, b in zip(state, other, strict=True))

    def _thin(self, now: float) -> None:
        kept = sorted(self._worth_keeping(now))
        self._times = [self._times[i] for i in kept]
        self._states = [self._states[i] for i in kept]

    def _worth_keeping(self, now: float) -> Iterator[int]:
        """The indexes of the first state, the last, and those far enough from their neighbour."""
        yield 0
        last = now + 1.0
        for index in range(len(self._times) - 1, 0, -1):
            time = self._times[index]
            if last - time >= (now - time) / FINE:
                last = time
                yield index
