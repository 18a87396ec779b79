"""The limiter of one provider account: how many calls may be under way, and when the next starts.

`AccountLimiter` puts the parts together: semaphore, smoothing, rate window, token budget, breaker,
cooldown, learned limits. The parts know nothing of each other. There are never more than
`concurrency` calls at once, never more than `rpm` in any window nor `tpm` by its estimates; the
breaker counts the provider's own failures only. `Permit` is the right to one call; each is given
back once, and a call that was never made leaves no trace.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from asyncsvc.errors import (
    ConcurrencyLimited,
    GateClosed,
    KeptConnectionLost,
    ProviderError,
    QuotaExhausted,
    RequestTooCostly,
    Unexplained,
    UpstreamAuth,
    without_frames,
)
from asyncsvc.limits.adaptive import Adaptive
from asyncsvc.limits.breaker import Breaker
from asyncsvc.limits.call_statistics import CallStatistics
from asyncsvc.limits.cooldown import Cooldown, Refusals
from asyncsvc.limits.headers import RateHeaders
from asyncsvc.limits.semaphore import Semaphore
from asyncsvc.limits.sliding_window import Entry, Window
from asyncsvc.limits.smoothing import Smoothing
from asyncsvc.limits.verdict import READY, AccountState, Stage, Verdict, WaitReasons, verdict


@dataclass(slots=True)
class Listener:
    """The callbacks of the limiters that share it; each does nothing until it is set."""

    on_close: Callable[["AccountLimiter"], None] = lambda _: None
    """The account takes no calls now: a worker that holds a permit steps back."""
    on_room: Callable[[], None] = lambda: None
    """What counts in a token budget has changed."""
    on_learn: Callable[["AccountLimiter"], None] = lambda _: None
    """A learned limit has changed."""


class AccountLimiter:
    """The limits of one account. Workers `acquire` permits; the outcome of each call comes back
    through `accepted`, `succeeded` and `failed`; `verdict` answers whether a call may go on."""

    def __init__(
        self,
        name: str,
        *,
        concurrency: int,
        window: Window,
        breaker: Breaker,
        budget: Window | None = None,
        adaptive: Adaptive | None = None,
        retry_base_s: float = 1.0,
        retry_max_s: float = 60.0,
        listener: Listener | None = None,
    ) -> None:
        self.name = name
        self.window = window
        """The rate window, in calls."""
        self.budget = budget or Window(0)
        """The token budget: a window too, in tokens."""
        self.breaker = breaker
        self.cooldown = Cooldown(retry_base_s, retry_max_s, window.span_s)
        self.refusals = Refusals()
        self.adaptive = adaptive or Adaptive.of(False, False, window.span_s)
        self.statistics = CallStatistics()
        self.wait_reasons = WaitReasons()
        self.fault: ProviderError | None = None
        """Why the account is disabled, until the next start or reload."""
        self.paused: str | None = None
        """Why an operator lets it take no calls."""
        self.changes = 0
        """Counts all that may change a verdict, but for time."""
        self.standing = 0
        """Permits for which no task has been found yet."""
        self.busy = 0
        """Permits with a task."""
        self.long_busy = 0
        self.under_way = 0
        """Calls that were sent and are not known to be refused or over."""
        self.at_work = 0
        """Those of them that the provider is known to have accepted."""
        self._listener = listener or Listener()
        self.slots = Semaphore(concurrency)
        self._changed: asyncio.Event | None = None
        """Set at the next change; None: nothing waits for that."""
        self._state: AccountState | None = None
        self._state_of = 0
        """The number of changes that the state knows of."""
        self._follow(renew=True)

    def _look(self, now: float) -> AccountState:
        """All that decides about the next call; asked for once after each change."""
        opens_at, spread = self.window.opens_at(now), READY
        if not self.standing and (free_at := self.smoothing.free_at) > now:
            spread = Verdict("rate", free_at)
        # A breaker that an unexplained refusal has opened counts as the provider's cooldown.
        return AccountState(
            self.fault is not None,
            self.paused is not None,
            self.refusals.repeated,
            self.cooldown.verdict(now),
            self.breaker.verdict("slow_down" if self.refusals.resting else "breaker"),
            self.breaker.probing,
            Verdict("rate", opens_at) if opens_at > now else READY,
            spread,
            self.busy,
            self.long_busy,
            self.slots.limit,
        )

    def verdict(
        self, stage: Stage, *, tokens: int = 0, long: bool = False, probe: bool = False
    ) -> Verdict:
        """Whether a call may go on; see `asyncsvc.limits.verdict`. `tokens`: what the call will
        use; 0 where that is not asked yet."""
        now, room = self.time(), READY
        if self._state is None or self._state_of != self.changes:
            self._state, self._state_of = self._look(now), self.changes
        if tokens and self.budget.limit:
            room = Verdict("tokens", self.budget.opens_at(now, tokens))
        return verdict(self._state, stage, now, long, probe, room)

    def wait(self, tokens: int = 0, *, spread: bool = False) -> float:
        """Seconds until the provider's side allows a call of so many tokens; inf: until something
        changes. `spread`: and until the evening-out of bursts lets the call begin."""
        until = self.verdict(Stage.PERMIT, tokens=tokens).until
        if spread and not self.standing:
            until = max(until, self.smoothing.free_at)
        return max(until - self.time(), 0.0)

    def refusal(self) -> ProviderError | None:
        """The provider's answer for which no call may start now; None: for none."""
        now = self.time()
        if self.cooldown.until > now:
            return self.cooldown.why
        resting = self.refusals.resting and self.breaker.wait(now) > 0
        return self.refusals.last if resting else None

    def describe(
        self, stage: Stage = Stage.START, *, tokens: int = 1, probe: bool = False
    ) -> str | None:
        """Why no call of so many tokens may go on, for people; None where one may."""
        found = self.verdict(stage, tokens=tokens, probe=probe)
        if found.ready:
            return None
        if stage is Stage.SUBMIT:
            return str(self.fault or self.refusals.last)
        return _text(self, found)

    @cached_property
    def time(self) -> Callable[[], float]:
        """The event loop's time, in which all moments of the limits are given."""
        return asyncio.get_running_loop().time

    @property
    def concurrency(self) -> int:
        """Calls at once, at this moment."""
        return self.slots.limit

    async def acquire(self) -> "Permit":
        """Wait for a slot and for a moment in which a call may start. The permit counts in the rate
        window from `reserve` on, which must follow without another `acquire` in between."""
        self.wait_reasons.note("concurrency", self.time())
        await self.slots.acquire()
        try:
            smoothed = False
            while True:
                found = self.verdict(Stage.PERMIT)
                if not found.ready:
                    self.wait_reasons.note(found.reason, self.time())
                    await self.sleep(found.wait_s(self.time()))
                elif smoothed or self.smoothing.free:
                    self.wait_reasons.note(None, self.time())
                    return Permit(self, self.breaker.enter())
                else:
                    # It may take a while, so the verdict is asked once more after it.
                    self.wait_reasons.note("rate", self.time())
                    await self.smoothing.acquire()
                    smoothed, self.changes = True, self.changes + 1
        except BaseException:
            self.slots.release()
            raise

    async def sleep(self, delay: float) -> None:
        """Sleep that long, or until something has changed."""
        if self._changed is None:
            self._changed = asyncio.Event()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if delay == math.inf else delay):
                await self._changed.wait()

    def wake(self) -> None:
        """Let all that wait for the account ask again: something has changed."""
        self.changes += 1
        if self._changed is not None:
            self._changed.set()
            self._changed = None
        if self.budget.limit:
            self._listener.on_room()

    def _close(self) -> None:
        """Send workers with a permit back, then let all others ask again."""
        self.changes += 1
        self._listener.on_close(self)
        self.wake()

    def accepted(self) -> None:
        """A call was accepted by the provider."""
        if self.refusals.passed():
            # A proxy or a wrong key would have shown by now: the others need not wait for its end.
            self.breaker.succeeded()
        if self.adaptive.learns:
            now = self.time()
            self.cooldown.answered()
            self.adaptive.accepted(self.at_work, self.window.accepted(now), now)
            self._follow()

    def read(self, headers: RateHeaders, rest: bool = True) -> None:
        """The provider says in headers how much of its limit is left; `rest`: wait until the limit
        is whole where nothing is left."""
        if rest and headers.wait_s > 0:
            self.cooldown.asked(headers.wait_s, self.time())
            self._close()
        if headers.limit is not None:
            self.adaptive.named(headers.limit, headers.reset_s)
            self._follow()

    def succeeded(self, seconds: float) -> None:
        """A call was answered in that time."""
        self.cooldown.answered()
        self.refusals.answered()
        self.statistics.succeeded(seconds)
        self.breaker.succeeded()
        self.wake()

    def failed(
        self, error: ProviderError, permit: "Permit | None" = None, request: str | None = None
    ) -> None:
        """A call failed; the error's class says what that means for the account. `request` tells
        two tasks apart."""
        self.statistics.failed(error)
        now = self.time()
        if isinstance(error, UpstreamAuth):
            self.fault = error
        elif isinstance(error, Unexplained):
            # It names neither key, account nor model: rest, then let one probe pass.
            sent_at = permit.sent_at if permit is not None else None
            seconds = self.refusals.refused(error, request, sent_at, now)
            if seconds is not None:
                self.breaker.open_for(seconds, now)
        elif isinstance(error, QuotaExhausted):
            if not isinstance(error, RequestTooCostly):
                self.cooldown.used_up(error.retry_after, now, error)
        elif isinstance(error, KeptConnectionLost):
            pass  # the next call opens a connection: nothing to wait for
        elif error.slow_down:
            learned = permit is not None and self._learn(error, permit, now)
            self.cooldown.refused(error.retry_after, now, learned, error)
        elif error.trips:
            self.breaker.failed(now)
        self.changes += 1
        if self.verdict(Stage.PERMIT).ready:
            self.wake()
        else:
            self._close()

    def _learn(self, error: ProviderError, permit: "Permit", now: float) -> bool:
        """Lower the limit that explains the refusal; False where none does."""
        permit.refused()
        if not self.adaptive.learns or permit.sent_at is None:
            return False
        named, in_window = isinstance(error, ConcurrencyLimited), self.window.accepted(now)
        found = self.adaptive.refused(named, permit.beside, in_window, permit.sent_at, now)
        self._follow()
        return found

    def disable(self, error: ProviderError) -> None:
        """Take no calls any more, until the next start or reload."""
        without_frames(error)  # it is kept, and they hold the task's body
        self.fault = error
        self._close()

    def pause(self, reason: str | None) -> None:
        """Begin no calls until the reason is None; calls under way go on."""
        self.paused = reason
        if reason is None:
            self.wake()
        else:
            self._close()

    def reset(self) -> None:
        """Try again what the provider had refused for good, or until its quota is renewed."""
        self.fault = None
        self.cooldown.reset()
        if self.refusals.resting:
            self.breaker.succeeded()
        self.refusals.answered()
        self.wake()

    def configure(self, at_once: int, rate: int, tokens: int, adaptive: Adaptive) -> None:
        """Set other limits: no call under way is cut, and what was called still counts."""
        self.adaptive = adaptive
        self.window.span(adaptive.span_s)
        self.budget.span(adaptive.span_s)
        self.window.limit, self.budget.limit = rate, tokens
        self.slots.resize(at_once)
        self._follow(renew=True)
        self.wake()

    def _follow(self, renew: bool = False) -> None:
        """Take over what has been learned; `renew`: the limits were set just now."""
        found = at_once, rate = self.adaptive.limits(self.concurrency, self.window.limit)
        changed = found != (self.concurrency, self.window.limit)
        if changed or renew:
            self.smoothing = Smoothing(at_once, rate, self.window.span_s)
        if changed:
            self.window.limit = rate
            self.slots.resize(at_once)
            self._listener.on_learn(self)
            self.wake()

    def restore_learned(self, kept: dict[str, Any]) -> None:
        """Go on with what an earlier process had learned; what makes no sense is left out."""
        self.adaptive.restore(kept)
        self._follow()

    def restore_calls(self, calls: list[tuple[float, int]]) -> None:
        """Enter the calls of an earlier process: seconds ago, tokens; oldest first."""
        for age, tokens in calls:
            self.window.restore(age, self.time())
            self.budget.restore(age, self.time(), tokens)
        self.changes += 1


def _text(limiter: AccountLimiter, found: Verdict) -> str:
    """What a verdict that is not ready says, for people."""
    now = limiter.time()
    left_s = found.until - now
    match found.reason:
        case "held":
            return str(limiter.paused)
        case "disabled":
            text = f"disabled until the next start or reload: {limiter.fault}"
        case "slow_down" | "quota" if limiter.cooldown.until > now:
            text = limiter.cooldown.describe(now)
        case "slow_down":
            text = limiter.refusals.describe(left_s)
        case "breaker":
            text = f"breaker open after {limiter.breaker.failures} failures"
        case "tokens":
            text = f"{limiter.budget.used(now)} of {limiter.budget.limit} tokens used"
        case "rate" if limiter.window.opens_at(now) > now:
            when = "" if left_s == math.inf else f", next in {left_s:.0f} s"
            text = f"{limiter.window.used(now)} of {limiter.window.limit} calls used{when}"
        case "rate":
            text = f"calls are spread over time, next in {left_s:.1f} s"
        case _:
            text = f"{limiter.busy} of {limiter.concurrency} calls under way"
    return f"{limiter.name}: {text}"


class Permit:
    """The right to one call. `release` gives it back; more than once does no harm."""

    def __init__(self, limiter: AccountLimiter, probe: bool) -> None:
        self.limiter = limiter
        self._probe = probe
        self._place: Entry | None = None
        self._tokens: Entry | None = None
        self.released = self._answered = self._at_work = self._under_way = False
        self.long = False
        self.sent_at: float | None = None
        limiter.standing += 1
        limiter.changes += 1
        self.beside = 0
        """How many other calls were under way when this one was refused."""

    def reserve(self, long: bool, tokens: int = 0) -> None:
        """Let the permit count in the rate window and the budget: a task was found for it."""
        limiter = self.limiter
        self._place = limiter.window.reserve()
        self._tokens = limiter.budget.reserve(tokens)
        self.long = long
        limiter.standing -= 1
        limiter.busy += 1
        limiter.long_busy += long
        limiter.changes += 1

    def confirm(self) -> None:
        """Ask once more before the call, which must follow at once: between the permit and the call
        lie the reading of the body and a commit. Raises GateClosed."""
        limiter = self.limiter
        if limiter.breaker.wait(limiter.time()) == 0:
            self._become_probe()
        if (why := limiter.describe(Stage.CALL, probe=self._probe)) is not None:
            raise GateClosed(why)

    def _become_probe(self) -> None:
        if not self._probe and self.limiter.breaker.enter():
            self._probe = True
            self.limiter.changes += 1

    def sent(self) -> None:
        """Note that the call is on its way."""
        assert self._place is not None
        assert self._tokens is not None
        limiter, now = self.limiter, self.limiter.time()
        self.sent_at, self._under_way = now, True
        limiter.window.sent(self._place, now)
        limiter.budget.sent(self._tokens, now)
        limiter.under_way += 1
        limiter.statistics.started()
        limiter.wake()

    def head(self, accepted: bool = True) -> None:
        """Note that the provider has begun to answer."""
        assert self._place is not None
        assert self._tokens is not None
        limiter, now = self.limiter, self.limiter.time()
        limiter.window.head(self._place, now)
        limiter.budget.head(self._tokens, now)
        if not self._answered and self._under_way:
            self._answered = True
            if accepted:
                self._at_work = True
                limiter.at_work += 1
                limiter.accepted()
            else:
                self.refused()
        # Workers that wait for the window may now have an earlier moment to wait for.
        limiter.wake()

    def refused(self) -> None:
        """Note that the provider has turned the call away."""
        if self._under_way and self._place is not None:
            self.limiter.window.refuse(self._place)
            self._end()
            self.beside = self.limiter.under_way

    def _end(self) -> None:
        """The call is no longer under way."""
        self.limiter.under_way -= self._under_way
        self.limiter.at_work -= self._at_work
        self._under_way = self._at_work = False

    def used(self, tokens: int) -> None:
        """Note what the call has cost, as the provider says."""
        if self._tokens is not None:
            self.limiter.budget.settle(self._tokens, tokens, self.limiter.time())

    async def again(self) -> None:
        """Reserve one more call under the same slot, as soon as the rate allows it; the call before
        must be over. Where the breaker has opened meanwhile, the new call may become the probe."""
        limiter = self.limiter
        self._end()
        self._answered = False
        while not (found := limiter.verdict(Stage.PERMIT, probe=self._probe)).ready:
            await limiter.sleep(found.wait_s(limiter.time()))
        self._place = limiter.window.reserve()
        limiter.changes += 1
        self._become_probe()
        self.sent_at = None

    def release(self) -> None:
        """Give the permit back; a call that was never made counts no more."""
        if self.released:
            return
        self.released = True
        limiter = self.limiter
        self._end()
        if self._place is None or self._tokens is None:
            limiter.standing -= 1
        else:
            limiter.busy -= 1
            limiter.long_busy -= self.long
            if self.sent_at is None:
                limiter.window.refund(self._place)
                limiter.budget.refund(self._tokens)
        if self._probe:
            limiter.breaker.leave()
        limiter.slots.release()
        limiter.wake()

    async def until_released(self) -> None:
        """Wait until the permit is given back."""
        while not self.released:
            await self.limiter.sleep(math.inf)
