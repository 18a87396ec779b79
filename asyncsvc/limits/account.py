"""The gate of one provider account: how many calls may be under way, and when the next starts.

Owns the slots, the smoothing limiter, the rate window, the token budget, the breaker, the rest
and the hold of one key of one model. Promises never more than `concurrency` calls at once, never
more than `rpm` in any window nor `tpm` by its estimates; that each permit is given back once;
that the breaker hears only of the provider's own failures. Limits that are to be learned follow
what `adaptive.py` concludes. Never knows about tasks, lanes or priorities.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from asyncsvc.errors import (
    ConcurrencyLimited,
    KeptConnectionLost,
    ProviderError,
    QuotaExhausted,
    RequestTooCostly,
    Unexplained,
    UpstreamAuth,
)
from asyncsvc.limits.adaptive import Adaptive
from asyncsvc.limits.breaker import Breaker, BreakerState
from asyncsvc.limits.call_statistics import CallStatistics
from asyncsvc.limits.closed import Closures
from asyncsvc.limits.cooldown import Rest
from asyncsvc.limits.headers import RateHeaders
from asyncsvc.limits.permit import Permit
from asyncsvc.limits.semaphore import Slots
from asyncsvc.limits.sliding_window import Window
from asyncsvc.limits.smoothing import Smoothing
from asyncsvc.limits.token_budget import Budget
from asyncsvc.limits.wait_reasons import Reason

COOLING_S = 30.0
"""A pause longer than this is worth asking another model."""
WORDS = 160
"""Characters of the provider's words in a reason."""


class Gate(Closures, CallStatistics):
    """Calls to one account. Reports of how a call went come through `succeeded` and `failed`."""

    def __init__(
        self,
        name: str,
        *,
        concurrency: int,
        window: Window,
        breaker: Breaker,
        budget: Budget | None = None,
        adaptive: Adaptive | None = None,
        retry_base_s: float = 1.0,
        retry_max_s: float = 60.0,
    ) -> None:
        rest = Rest(retry_base_s, retry_max_s, window.span_s)
        Closures.__init__(self, name, window, budget or Budget(0), breaker, rest)
        CallStatistics.__init__(self)
        self.adaptive = adaptive or Adaptive.of(False, False, window.span_s)
        # Called when a learned limit has changed.
        self.on_learn: Callable[[], None] = lambda: None
        self._slots = Slots(concurrency)
        self._smooth = self._smoothing()
        self._follow()

    @property
    def concurrency(self) -> int:
        """Calls at once, at this moment."""
        return self._slots.limit

    @property
    def most(self) -> int:
        """Calls at once that there may ever be."""
        learned = self.adaptive.concurrency
        return learned.ceiling if learned is not None else self._slots.limit

    def _smoothing(self) -> Smoothing:
        return Smoothing(self.concurrency, self.window.limit, self.window.span_s)

    def _follow(self) -> None:
        """Take over what has been learned."""
        at_once, rate = self.adaptive.concurrency, self.adaptive.rate
        found = (
            at_once.value if at_once is not None else self.concurrency,
            rate.value if rate is not None else self.window.limit,
        )
        if found != (self.concurrency, self.window.limit):
            self.window.limit = found[1]
            self._slots.resize(found[0])
            self._smooth = self._smoothing()
            self.on_learn()
            self.wake()

    async def acquire(self) -> Permit:
        """Wait for a slot and for a moment in which a call may start.

        The permit counts in the rate window only when `reserve` is called, which must follow
        without another `acquire` in between.
        """
        self.meets("concurrency")
        await self._slots.acquire()
        try:
            smoothed = False
            while True:
                if (delay := self.wait()) > 0:
                    self.meets(self._obstacle())
                    await self.sleep(delay)
                elif smoothed or self._smooth.free:
                    self.meets(None)
                    return Permit(self, self.breaker.enter())
                else:
                    # It may take a while, so the rest is judged once more after it.
                    self.meets("rate")
                    await self._smooth.acquire()
                    smoothed = True
        except BaseException:
            self._slots.release()
            raise

    def _obstacle(self) -> Reason:
        """Of what the provider's side demands, that which lasts longest."""
        if self.fault is not None or self.held is not None:
            return "disabled" if self.fault is not None else "held"
        now = self.time()
        waits: dict[Reason, float] = {
            "breaker": self.breaker.wait(now) if not self.refusals.resting else 0.0,
            "quota" if self.rest.exhausted else "slow_down": self.rest_left(),
            "rate": self.window.wait(now),
        }
        return max(waits, key=lambda reason: waits[reason])

    def wait(self) -> float:
        """Seconds until a call may start as far as the provider is concerned; inf: on change."""
        return max(self.breaker.wait(self.time()), self.rate_wait())

    def spread_wait(self) -> float:
        """Seconds until a permit can be had as far as the evening out of bursts is concerned."""
        return 0.0 if self.standing else self._smooth.wait(self.time())

    def burst(self) -> tuple[int, float]:
        """How many calls the window has room for, and at how many a second they are let through;
        (0, 0) where it has none or there is no limit."""
        left = self.window.limit - self.window.used(self.time())
        return (left, self._smooth.per_s) if left > 0 else (0, 0.0)

    def room(self) -> float:
        """How many calls may begin in this moment, all else being ready."""
        slots = self.concurrency - self.busy
        return min(slots, self.standing + self._smooth.room(self.time()))

    def admits(self, long: bool) -> bool:
        """Whether a permit already given may still be used, for a task of that kind.

        Long tasks leave one slot to the others where there is more than one.
        """
        if self.rate_wait() > 0 or self.busy >= self.concurrency:
            return False
        if self.breaker_state() is BreakerState.OPEN:
            return False
        return not long or self.concurrency == 1 or self.long_busy < self.concurrency - 1

    def tokens_wait(self, tokens: int) -> float:
        """Seconds until so many tokens fit into the budget; inf: when another call changes."""
        return self.budget.wait(tokens, self.time())

    def freed(self) -> None:
        """A permit came back."""
        self._slots.release()
        self.wake()

    def accepted(self) -> None:
        """A call was taken by the provider."""
        if self.refusals.passed():
            # A proxy or a wrong key would have shown by now: the others need not wait for its end.
            self.breaker.succeeded()
        if self.adaptive.learns:
            now = self.time()
            self.rest.answered()
            self.adaptive.accepted(self.at_work, self.window.accepted(now), now)
            self._follow()

    def told(self, headers: RateHeaders, rest: bool = True) -> None:
        """The provider says in headers how much of its limit is left; `rest`: wait until it is
        whole where nothing is left."""
        if rest and headers.wait_s > 0:
            self.rest.told(headers.wait_s, self.time())
            self.on_close()
        if headers.limit is not None:
            self.adaptive.told(headers.limit, headers.reset_s)
            self._follow()

    def succeeded(self, seconds: float) -> None:
        """A call was answered in that time."""
        self.calls += 1
        self.rest.answered()
        self.refusals.answered()
        self.went_well(seconds)
        self.breaker.succeeded()
        self.wake()

    def failed(
        self, error: ProviderError, permit: Permit | None = None, request: str | None = None
    ) -> None:
        """A call failed; the error says what that means for the gate. `request` tells two tasks
        apart."""
        self.ended_in(error)
        now = self.time()
        if isinstance(error, UpstreamAuth):
            self.fault = error
        elif isinstance(error, Unexplained):
            self._doubt(error, permit, request, now)
        elif isinstance(error, QuotaExhausted):
            if not isinstance(error, RequestTooCostly):
                self.rest.used_up(error.retry_after, now, error)
        elif isinstance(error, KeptConnectionLost):
            pass  # the next call opens a connection: nothing to wait for
        elif error.slow_down:
            learned = permit is not None and self._learn(error, permit, now)
            self.rest.refused(error.retry_after, now, learned, error)
        elif error.trips:
            self.went_wrong()
            self.breaker.failed(now)
        if self.wait() > 0:
            self.on_close()
        self.wake()

    def _doubt(
        self, error: Unexplained, permit: Permit | None, request: str | None, now: float
    ) -> None:
        """A refusal names neither key, account nor model: rest, then let one probe pass."""
        sent_at = permit.sent_at if permit is not None else None
        seconds = self.refusals.refused(error, request, sent_at, now)
        if seconds is not None:
            self.breaker.open_for(seconds, now)

    def _learn(self, error: ProviderError, permit: Permit, now: float) -> bool:
        """Lower the limit that explains the refusal; False where none does."""
        permit.refused()
        if not self.adaptive.learns or permit.sent_at is None:
            return False
        found = self.adaptive.refused(
            isinstance(error, ConcurrencyLimited),
            permit.beside,
            self.window.accepted(now),
            permit.sent_at,
            now,
        )
        self._follow()
        return found

    def configure(self, at_once: int, rate: int, adaptive: Adaptive) -> None:
        """Other limits from now on: no call under way is cut, what was called still counts."""
        self.adaptive = adaptive
        self._slots.resize(at_once)
        self.window.limit = rate
        self._smooth = self._smoothing()
        self._follow()
        self.wake()

    def out_of_service(self) -> str | None:
        """Why it is not worth waiting for, for people; None where it is."""
        now = self.time()
        closed = self.fault is not None or self.held is not None
        resting = self.rest.left(now) > COOLING_S
        return self.describe() if closed or resting or self.breaker.wait(now) > 0 else None

    def learned(self, kept: dict[str, Any]) -> None:
        """Go on with what an earlier process had learned; what makes no sense is left out."""
        with suppress(LookupError, TypeError, ValueError):
            self.adaptive.restore(kept)
        self._follow()

    def restore(self, calls: list[tuple[float, int]]) -> None:
        """Enter the calls of an earlier process: seconds ago, tokens; oldest first."""
        for age, tokens in calls:
            self.window.restore(age, self.time())
            self.budget.restore(age, tokens, self.time())

    def breaker_state(self) -> BreakerState:
        return self.breaker.state(self.time())

    def describe(self, tokens: int = 1) -> str | None:
        """Why no call of so many tokens may start now, for people; None where one may."""
        now = self.time()
        if self.fault is not None:
            return f"{self.name}: disabled until the next start or reload: {self.fault}"
        if self.held is not None:
            return self.held
        if (left := self.rest.left(now)) > 0:
            why = "quota used up" if self.rest.exhausted else "asked to slow down"
            words = f": {str(self.rest.why)[:WORDS]}" if self.rest.exhausted else ""
            return f"{self.name}: {why}, next in {left:.0f} s{words}"
        if (left := self.breaker.wait(now)) > 0:
            if self.refusals.resting and (refusal := self.refusals.last) is not None:
                when = "a probe is under way" if left == math.inf else f"a probe in {left:.0f} s"
                return f"{self.name}: rests after a refusal, {when}: {str(refusal)[:WORDS]}"
            return f"{self.name}: breaker open after {self.breaker.failures} failures"
        if (delay := self.window.wait(now)) > 0:
            used, limit = self.window.used(now), self.window.limit
            when = "" if delay == math.inf else f", next in {delay:.0f} s"
            return f"{self.name}: {used} of {limit} calls used{when}"
        if self.tokens_wait(tokens) > 0:
            return f"{self.name}: {self.budget.used(now)} of {self.budget.limit} tokens used"
        if self.busy >= self.concurrency:
            return f"{self.name}: {self.busy} of {self.concurrency} calls under way"
        if (delay := self.spread_wait()) > 0:
            return f"{self.name}: calls are spread over time, next in {delay:.1f} s"
        return None
