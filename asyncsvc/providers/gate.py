"""The gate of one provider account: how many calls may be under way, and when the next starts.

Owns the semaphore, the smoothing limiter, the rate window, the breaker and the cool-down of
one key of one model. Promises never more than `concurrency` calls at once and never more
than `rpm` in any window; that each permit is given back once; that the breaker hears only of
the provider's own failures. Never knows about tasks, lanes or priorities.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable

from aiolimiter import AsyncLimiter

from asyncsvc.errors import ProviderError, QuotaExhausted, UpstreamAuth
from asyncsvc.providers.breaker import Breaker, BreakerState
from asyncsvc.providers.retry import backoff
from asyncsvc.providers.window import Stamp, Window

BURST = 4
"""The limiter refills this many times faster than the window allows on average: it evens out
bursts above the concurrency, while the window decides. At 1 a burst of 40 short calls would
take a minute although the account allows it at once."""
EWMA = 0.2
STARTS_KEPT = 10_000
QUOTA_S = 3600.0
"""A quota that is used up comes back at a time that few providers tell."""
COOLING_S = 30.0
"""A pause longer than this is worth asking another model."""
STALE_S = 600.0
"""What was measured longer ago says nothing about the next call."""


class Permit:
    """The right to one call. `release` gives it back; more than once does no harm."""

    def __init__(self, gate: "Gate", probe: bool) -> None:
        self._gate = gate
        self._probe = probe
        self._stamp: Stamp | None = None
        self._sent = False
        self._released = False
        self.long = False

    def reserve(self, long: bool) -> None:
        """A task was found for it: from now on it counts in the rate window."""
        self._stamp = self._gate.window.reserve()
        self.long = long
        self._gate.busy += 1
        self._gate.long_busy += long

    def sent(self) -> None:
        """The call is on its way."""
        if self._stamp is not None:
            self._sent = True
            now = self._gate.time()
            self._gate.window.sent(self._stamp, now)
            self._gate.starts.append(now)
            self._gate.wake()

    def head(self) -> None:
        """The provider has begun to answer."""
        if self._stamp is not None:
            self._gate.window.head(self._stamp, self._gate.time())
            # Whoever waits for the window can now be told an earlier time.
            self._gate.wake()

    def release(self) -> None:
        if self._released:
            return
        self._released = True
        gate = self._gate
        if self._stamp is not None:
            gate.busy -= 1
            gate.long_busy -= self.long
            if not self._sent:
                gate.window.refund(self._stamp)
        if self._probe:
            gate.breaker.leave()
        gate.freed()


class Gate:
    """Calls to one account. Reports of how a call went come through `succeeded` and `failed`."""

    def __init__(
        self,
        name: str,
        *,
        concurrency: int,
        window: Window,
        breaker: Breaker,
        retry_base_s: float = 1.0,
        retry_max_s: float = 60.0,
    ) -> None:
        self.name = name
        self.concurrency = concurrency
        self.window = window
        self.breaker = breaker
        self.busy = 0
        self.long_busy = 0
        self.errors = 0
        self.calls = 0
        self.service_s: float | None = None
        """Average seconds of a call (EWMA); None before the first."""
        self.error_rate = 0.0
        """Share of calls that failed by the provider's fault (EWMA)."""
        self.fault: ProviderError | None = None
        """Why it takes no call any more, until the next start."""
        self.starts: deque[float] = deque(maxlen=STARTS_KEPT)
        """When the latest calls began, for people to look at."""
        self.on_close: Callable[[], None] = lambda: None
        """Called when the gate has closed: whoever stands in it with a permit must step back."""
        self._slots = asyncio.Semaphore(concurrency)
        self._smooth = (
            AsyncLimiter(concurrency, concurrency * window.span_s / (window.limit * BURST))
            if window.limit
            else None
        )
        self._base_s, self._max_s = retry_base_s, retry_max_s
        self._cool_until = -math.inf
        self._slowed = 0
        self._measured_at = -math.inf
        self._exhausted = False
        self._changed = asyncio.Event()

    @staticmethod
    def time() -> float:
        return asyncio.get_running_loop().time()

    async def acquire(self) -> Permit:
        """Wait for a slot and for a moment in which a call may start.

        The permit counts in the rate window only when `reserve` is called, which must follow
        without another `acquire` in between.
        """
        await self._slots.acquire()
        try:
            smoothed = self._smooth is None
            while True:
                if (delay := self.wait()) > 0:
                    await self._sleep(delay)
                elif smoothed:
                    return Permit(self, self.breaker.enter())
                else:
                    # It may take a while, so the rest is judged once more after it.
                    await self._smooth.acquire()  # type: ignore[union-attr]
                    smoothed = True
        except BaseException:
            self._slots.release()
            raise

    def wait(self) -> float:
        """Seconds until a call may start as far as the provider is concerned; inf: on change."""
        now = self.time()
        if self.fault is not None:
            return math.inf
        return max(self._cool_until - now, self.breaker.wait(now), self.window.wait(now), 0.0)

    def admits(self, long: bool) -> bool:
        """Whether a permit already given may still be used, for a task of that kind.

        Long tasks leave one slot to the others where there is more than one.
        """
        now = self.time()
        if self.fault is not None or self._cool_until > now or self.window.wait(now) > 0:
            return False
        if self.breaker.state(now) is BreakerState.OPEN:
            return False
        return not long or self.concurrency == 1 or self.long_busy < self.concurrency - 1

    async def _sleep(self, delay: float) -> None:
        try:
            async with asyncio.timeout(None if delay == math.inf else delay):
                await self._changed.wait()
        except TimeoutError:
            pass

    def freed(self) -> None:
        """A permit came back."""
        self._slots.release()
        self.wake()

    def wake(self) -> None:
        """Something has changed: whoever waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def succeeded(self, seconds: float) -> None:
        """A call was answered in that time."""
        self.calls += 1
        self._slowed = 0
        self._measure(0.0)
        self.breaker.succeeded()
        self.service_s = (
            seconds
            if self.service_s is None
            else self.service_s + EWMA * (seconds - self.service_s)
        )
        self.wake()

    def failed(self, error: ProviderError) -> None:
        """A call failed; the error says what that means for the gate."""
        self.calls += 1
        self.errors += 1
        now = self.time()
        self._exhausted = isinstance(error, QuotaExhausted)
        if isinstance(error, UpstreamAuth):
            self.fault = error
        elif self._exhausted:
            self._cool(error.retry_after or QUOTA_S, now)
        elif error.slow_down:
            self._cool(error.retry_after, now)
        elif error.trips:
            self._measure(1.0)
            self.breaker.failed(now)
        if self.wait() > 0:
            self.on_close()
        self.wake()

    def disable(self, error: ProviderError) -> None:
        """Take no call any more, until the next start."""
        self.fault = error
        self.on_close()
        self.wake()

    def _measure(self, failed: float) -> None:
        self._measured_at = self.time()
        self.error_rate += EWMA * (failed - self.error_rate)

    @property
    def burden(self) -> float:
        """Calls that an answer takes, as things have gone lately."""
        return 1 / (1 - min(self.error_rate, 0.9))

    def expected_s(self) -> float | None:
        """Seconds that a call may take, tries that fail included; None: nothing recent is known."""
        if self.service_s is None or self.time() - self._measured_at > STALE_S:
            return None
        return self.service_s * self.burden

    def out_of_service(self) -> str | None:
        """Why it is not worth waiting for, for people; None where it is."""
        now = self.time()
        closed = self.fault is not None or self._cool_until - now > COOLING_S
        return self.describe() if closed or self.breaker.wait(now) > 0 else None

    def _cool(self, retry_after: float | None, now: float) -> None:
        # Zero and a date gone by are no answer: coming back at once is what was refused.
        if not retry_after:
            # Calls that were under way together are told so together: that is one "slow down".
            if now < self._cool_until:
                return
            retry_after = backoff(self._slowed, self._base_s, self._max_s)
            self._slowed += 1
        self._cool_until = max(self._cool_until, now + retry_after)

    def restore(self, ages_s: list[float]) -> None:
        """Enter the calls of an earlier process, oldest first."""
        for age in ages_s:
            self.window.restore(age, self.time())

    def recent(self, span_s: float) -> int:
        """Calls begun in the last `span_s` seconds."""
        since = self.time() - span_s
        while self.starts and self.starts[0] < since:
            self.starts.popleft()
        return len(self.starts)

    def breaker_state(self) -> BreakerState:
        return self.breaker.state(self.time())

    def describe(self) -> str | None:
        """Why no call may start now, for people; None where one may."""
        now = self.time()
        if self.fault is not None:
            return f"{self.name}: disabled until the next start: {self.fault}"
        if self._exhausted and self._cool_until > now:
            return f"{self.name}: quota used up, next in {self._cool_until - now:.0f} s"
        if self._cool_until > now:
            return f"{self.name}: asked to slow down, next in {self._cool_until - now:.0f} s"
        if self.breaker.wait(now) > 0:
            return f"{self.name}: breaker open after {self.breaker.failures} failures"
        if (delay := self.window.wait(now)) > 0:
            used, limit = self.window.used(now), self.window.limit
            when = "" if delay == math.inf else f", next in {delay:.0f} s"
            return f"{self.name}: {used} of {limit} calls used{when}"
        if self.busy >= self.concurrency:
            return f"{self.name}: {self.busy} of {self.concurrency} calls under way"
        return None
