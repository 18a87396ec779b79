"""The limiter of one provider account: how many calls may be under way, and when the next starts.

`AccountLimiter` puts the parts together: semaphore, smoothing, rate window, token budget, breaker,
cooldown, learned limits. The parts know nothing of each other. There are never more than
`concurrency` calls at once, never more than `rpm` in any window nor `tpm` by its estimates; the
breaker counts the provider's own failures only. `Permit` is the right to one call; each is given
back once, and a call that was never made leaves no trace. Tasks, lanes and priorities are unknown
here.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
)
from asyncsvc.limits.adaptive import Adaptive
from asyncsvc.limits.breaker import Breaker, BreakerState
from asyncsvc.limits.call_statistics import CallStatistics
from asyncsvc.limits.cooldown import Cooldown, Refusals
from asyncsvc.limits.headers import RateHeaders
from asyncsvc.limits.semaphore import Semaphore
from asyncsvc.limits.sliding_window import Entry, Window
from asyncsvc.limits.smoothing import Smoothing
from asyncsvc.limits.verdict import (
    NOW,
    AccountState,
    Reason,
    Stage,
    Verdict,
    WaitReasons,
    provider_refusal,
    verdict,
)

ERROR_CHARS = 160
"""Characters of the provider's error in a reason."""
STARTS_KEPT = 10_000


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
        self.starts: deque[float] = deque(maxlen=STARTS_KEPT)
        self._listener = listener or Listener()
        self._semaphore = Semaphore(concurrency)
        self._changed = asyncio.Event()
        self._state: tuple[int, AccountState] | None = None
        self._follow(renew=True)

    # The verdict --------------------------------------------------------------------------------

    def state(self) -> AccountState:
        """All that decides about the next call; made once after each change."""
        if self._state is None or self._state[0] != self.changes:
            self._state = self.changes, self._look()
        return self._state[1]

    def _look(self) -> AccountState:
        return AccountState(
            disabled=self.fault is not None,
            paused=self.paused is not None,
            cooldown_until=self.cooldown.until,
            cooldown_error=self.cooldown.why,
            breaker_until=self.breaker.probe_at,
            probing=self.breaker.probing,
            refusal=self.refusals.last,
            refused=self.refusals.resting,
            refused_alike=self.refusals.repeated,
            window_until=self.window.opens_at(self.time()),
            tokens_until=NOW,
            spread_until=NOW if self.standing else self._smoothing.free_at,
            busy=self.busy,
            long_busy=self.long_busy,
            concurrency=self.concurrency,
        )

    def verdict(
        self, stage: Stage, *, tokens: int = 0, long: bool = False, probe: bool = False
    ) -> Verdict:
        """Whether a call may go on; see `asyncsvc.limits.verdict`. `tokens`: what the call will
        use; 0 where that is not asked yet."""
        state, now = self.state(), self.time()
        if tokens and self.budget.limit:
            state = state._replace(tokens_until=self.budget.opens_at(now, tokens))
        return verdict(state, stage, now, long=long, probe=probe)

    def wait(self, tokens: int = 0, *, spread: bool = False) -> float:
        """Seconds until the provider's side allows a call of so many tokens; inf: until something
        changes. `spread`: and until the evening-out of bursts lets it begin."""
        seconds, now = self.verdict(Stage.PERMIT, tokens=tokens).wait_s(self.time()), self.time()
        return max(seconds, self.state().spread_until - now) if spread else seconds

    def refusal(self) -> ProviderError | None:
        """The provider's answer for which no call may start now; None: for none."""
        return provider_refusal(self.state(), self.time())

    def describe(self, stage: Stage = Stage.START, tokens: int = 1) -> str | None:
        """Why no call of so many tokens may go on, for people; None where one may."""
        found = self.verdict(stage, tokens=tokens)
        if found.reason is None:
            return None
        if stage is Stage.SUBMIT:
            return str(self.fault or self.refusals.last)
        return self.paused if found.reason == "held" else f"{self.name}: {self.text(found)}"

    def text(self, found: Verdict) -> str:
        """What a verdict that is not ready says, without the account's name."""
        now = self.time()
        match found.reason:
            case "disabled":
                return f"disabled until the next start or reload: {self.fault}"
            case "held":
                return str(self.paused)
            case "slow_down" | "quota":
                return self._cooldown_text(found, now)
            case "breaker":
                return f"breaker open after {self.breaker.failures} failures"
            case "tokens":
                return f"{self.budget.used(now)} of {self.budget.limit} tokens used"
            case "rate" if self.state().window_until > now:
                when = "" if found.until == math.inf else f", next in {found.until - now:.0f} s"
                return f"{self.window.used(now)} of {self.window.limit} calls used{when}"
            case "rate":
                return f"calls are spread over time, next in {found.until - now:.1f} s"
        return f"{self.busy} of {self.concurrency} calls under way"

    def _cooldown_text(self, found: Verdict, now: float) -> str:
        if (left := self.cooldown.left(now)) > 0:
            if self.cooldown.exhausted:
                words = str(self.cooldown.why)[:ERROR_CHARS]
                return f"quota used up, next in {left:.0f} s: {words}"
            return f"asked to slow down, next in {left:.0f} s"
        left = found.until - now
        when = "a probe is under way" if left == math.inf else f"a probe in {left:.0f} s"
        return f"rests after a refusal, {when}: {str(self.refusals.last)[:ERROR_CHARS]}"

    # Figures ------------------------------------------------------------------------------------

    @staticmethod
    def time() -> float:
        """The event loop's time, in which all moments of the limits are given."""
        return asyncio.get_running_loop().time()

    @property
    def concurrency(self) -> int:
        """Calls at once, at this moment."""
        return self._semaphore.limit

    @property
    def breaker_state(self) -> BreakerState:
        """Closed, open or half open, at this moment."""
        return self.breaker.state(self.time())

    @property
    def remembers(self) -> bool:
        """Whether calls are under way or still count."""
        now = self.time()
        return bool(self.busy or self.window.used(now) or self.budget.used(now))

    def recent(self, span_s: float) -> int:
        """The number of calls begun in the last `span_s` seconds, 10,000 at most."""
        since = self.time() - span_s
        while self.starts and self.starts[0] < since:
            self.starts.popleft()
        return len(self.starts)

    def burst(self) -> tuple[int, float]:
        """How many calls the window has room for, and how many a second may start; (0, 0) where
        the window is full or there is no limit."""
        left = self.window.limit - self.window.used(self.time())
        return (left, self._smoothing.per_s) if left > 0 else (0, 0.0)

    def room(self) -> float:
        """How many calls may begin in this moment, all else being ready."""
        slots = self.concurrency - self.busy
        return min(slots, self.standing + self._smoothing.room(self.time()))

    # Workers ------------------------------------------------------------------------------------

    async def acquire(self) -> "Permit":
        """Wait for a slot and for a moment in which a call may start.

        The permit counts in the rate window only when `reserve` is called, which must follow
        without another `acquire` in between.
        """
        self.waits_for("concurrency")
        await self._semaphore.acquire()
        try:
            smoothed = False
            while True:
                found = self.verdict(Stage.PERMIT)
                if not found.ready:
                    self.waits_for(found.reason)
                    await self.sleep(found.wait_s(self.time()))
                elif smoothed or self._smoothing.free:
                    self.waits_for(None)
                    return Permit(self, self.breaker.enter())
                else:
                    # It may take a while, so the verdict is asked once more after it.
                    self.waits_for("rate")
                    await self._smoothing.acquire()
                    smoothed = True
        except BaseException:
            self._semaphore.release()
            raise

    def waits_for(self, reason: Reason | None) -> None:
        """Note what the next call waits for; None: for nothing but a task."""
        self.wait_reasons.note(reason, self.time())

    async def sleep(self, delay: float) -> None:
        """Sleep that long, or until something has changed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if delay == math.inf else delay):
                await self._changed.wait()

    def wake(self) -> None:
        """Let all that wait for the account ask again: something has changed."""
        self.changes += 1
        self._changed.set()
        self._changed = asyncio.Event()
        if self.budget.limit:
            self._listener.on_room()

    def _close(self) -> None:
        self.changes += 1
        self._listener.on_close(self)

    # Outcomes of calls --------------------------------------------------------------------------

    def sent(self) -> None:
        """A call is on its way."""
        self.under_way += 1
        self.starts.append(self.time())
        self.wake()

    def freed(self) -> None:
        """A permit came back."""
        self._semaphore.release()
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
        if not self.verdict(Stage.PERMIT).ready:
            self._close()
        self.wake()

    def _learn(self, error: ProviderError, permit: "Permit", now: float) -> bool:
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

    # Operators, settings, restart ---------------------------------------------------------------

    def disable(self, error: ProviderError) -> None:
        """Take no calls any more, until the next start or reload."""
        self.fault = error
        self._close()
        self.wake()

    @staticmethod
    def pause(limiters: "Sequence[AccountLimiter]", reason: str | None) -> None:
        """Begin no calls at these accounts until the reason is None; calls under way go on. All are
        paused at once: a task that leaves the first must not go to the second."""
        for limiter in limiters:
            limiter.paused = reason
            limiter.changes += 1
        for limiter in limiters:
            if reason is not None:
                limiter._close()
            limiter.wake()

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
        if adaptive.span_s != self.window.span_s:
            self.window.span(adaptive.span_s)
            self.budget.span(adaptive.span_s)
        self.window.limit, self.budget.limit = rate, tokens
        self._semaphore.resize(at_once)
        self._follow(renew=True)
        self.wake()

    def _follow(self, renew: bool = False) -> None:
        """Take over what has been learned; `renew`: the limits were set just now."""
        at_once, rate = self.adaptive.concurrency, self.adaptive.rate
        found = (
            at_once.value if at_once is not None else self.concurrency,
            rate.value if rate is not None else self.window.limit,
        )
        changed = found != (self.concurrency, self.window.limit)
        if changed:
            self.window.limit = found[1]
            self._semaphore.resize(found[0])
        if changed or renew:
            self._smoothing = Smoothing(*found, self.window.span_s)
        if changed:
            self._listener.on_learn(self)
            self.wake()

    def restore_learned(self, kept: dict[str, Any]) -> None:
        """Go on with what an earlier process had learned; what makes no sense is left out."""
        with suppress(LookupError, TypeError, ValueError):
            self.adaptive.restore(kept)
        self._follow()

    def restore_calls(self, calls: list[tuple[float, int]]) -> None:
        """Enter the calls of an earlier process: seconds ago, tokens; oldest first."""
        for age, tokens in calls:
            self.window.restore(age, self.time())
            self.budget.restore(age, self.time(), tokens)
        self.changes += 1


class Permit:
    """The right to one call. `release` gives it back; more than once does no harm."""

    def __init__(self, limiter: AccountLimiter, probe: bool) -> None:
        self.limiter = limiter
        self._probe = probe
        self._place: Entry | None = None
        self._tokens: Entry | None = None
        self._released = False
        self._answered = False
        self._at_work = False
        self._under_way = False
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
        """Ask once more before the call, which must follow at once. Raises GateClosed.

        Between the permit and the call lie the reading of the body and a commit. Workers that wait
        are sent back when the account closes meanwhile; a worker on its way finds out here.
        """
        limiter = self.limiter
        if not self._probe and limiter.breaker.wait(limiter.time()) == 0:
            self._become_probe()
        if not (found := limiter.verdict(Stage.CALL, probe=self._probe)).ready:
            text = limiter.text(found)
            raise GateClosed(text if found.reason == "held" else f"{limiter.name}: {text}")

    def _become_probe(self) -> None:
        self._probe = self._probe or self.limiter.breaker.enter()
        self.limiter.changes += 1

    def sent(self) -> None:
        """Note that the call is on its way."""
        if self._place is None or self._tokens is None:
            return
        limiter, now = self.limiter, self.limiter.time()
        self.sent_at, self._under_way = now, True
        limiter.window.sent(self._place, now)
        limiter.budget.sent(self._tokens, now)
        limiter.sent()

    def head(self, accepted: bool = True) -> None:
        """Note that the provider has begun to answer."""
        if self._place is None or self._tokens is None:
            return
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
        self._become_probe()
        self.sent_at = None

    def release(self) -> None:
        """Give the permit back; a call that was never made counts no more."""
        if self._released:
            return
        self._released = True
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
        limiter.freed()
