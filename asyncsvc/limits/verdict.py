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


SUBMIT, QUEUE, PERMIT, SLOT, CALL, START = Stage
"""The stages by a short way: the verdict is asked for often."""


class AccountState(NamedTuple):
    """All that decides about the next call of an account. A part that may be in the way is a
    verdict with the moment from which it no longer is; `READY` stands for one that is not."""

    disabled: bool
    paused: bool
    refused_alike: bool
    """Whether two different requests were refused alike, for no reason that was named."""
    cooldown: Verdict
    breaker: Verdict
    """Until a probe may pass."""
    probing: bool
    """Whether the probe of an open breaker is under way."""
    window: Verdict
    spread: Verdict
    """Until the evening-out of bursts lets the next call begin."""
    busy: int
    long_busy: int
    concurrency: int


def verdict(
    state: AccountState,
    stage: Stage,
    now: float,
    long: bool = False,
    probe: bool = False,
    tokens: Verdict = READY,
) -> Verdict:
    """Whether a task at that stage may go on. `long`: it is a long task, and long tasks leave one
    slot to the others where there is more than one; `probe`: its call is the breaker's probe;
    `tokens`: what the token budget says to its tokens."""
    if state.disabled:
        return DISABLED
    if stage is SUBMIT:
        return _longest(now, _breaker(state)) if state.refused_alike else READY
    if state.paused:
        return PAUSED
    free = state.cooldown is READY and state.breaker is READY and state.window is READY
    found = READY if free and tokens is READY else _provider(state, stage, now, probe, tokens)
    if found is not READY or (stage is not SLOT and stage is not START):
        return found
    if state.busy >= state.concurrency:
        return BUSY
    if stage is START:
        return _longest(now, state.spread)
    return BUSY if long and state.long_busy >= state.concurrency - 1 > 0 else _longest(now, tokens)


def _provider(
    state: AccountState, stage: Stage, now: float, probe: bool, tokens: Verdict
) -> Verdict:
    """What is in the way on the provider's side. At `SLOT` the tokens come after the slots."""
    if stage is QUEUE:
        long_cooldown = state.cooldown.until - now > LONG_COOLDOWN_S
        return _longest(now, state.cooldown if long_cooldown else READY, _breaker(state))
    if stage is CALL:
        allowed = state.breaker is READY or (probe and now >= state.breaker.until)
        forbidden = Verdict(state.breaker.reason, ON_CHANGE)  # but for the probe
        return _longest(now, state.cooldown, READY if allowed else forbidden)
    if stage is SLOT:
        # The breaker's probe takes a task too, so only a breaker that is open forbids it.
        breaker = READY if state.probing else state.breaker
        return _longest(now, state.cooldown, breaker, state.window)
    breaker = READY if probe else _breaker(state)
    return _longest(now, state.cooldown, breaker, state.window, tokens)


def _breaker(state: AccountState) -> Verdict:
    """While a probe is under way, its end is waited for."""
    return Verdict(state.breaker.reason, ON_CHANGE) if state.probing else state.breaker


def _longest(now: float, *found: Verdict) -> Verdict:
    """What lasts longest of that which is in the way."""
    longest, until = READY, now
    for each in found:
        if each is not READY and each.until > until:
            longest, until = each, each.until
    return longest


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

    def __len__(self) -> int:
        """The number of changes that are kept; `KEPT` at most."""
        return len(self._times)

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
