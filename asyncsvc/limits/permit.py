"""The right to one call, and what such rights add up to.

Owns the bookkeeping of a call from its reservation to its end: window, budget, calls under
way. Promises that each permit is given back once, and that a call which was never made leaves
no trace. Never waits, never decides.
"""

import asyncio
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from asyncsvc.errors import GateClosed
from asyncsvc.limits.breaker import Breaker
from asyncsvc.limits.sliding_window import Stamp, Window
from asyncsvc.limits.token_budget import Budget, Share
from asyncsvc.limits.wait_reasons import Reason, WaitReasons

STARTS_KEPT = 10_000


class Load(ABC):
    """What the calls of one account add up to; the gate is built upon it."""

    def __init__(self, window: Window, budget: Budget, breaker: Breaker) -> None:
        self.window = window
        self.budget = budget
        self.breaker = breaker
        self.changes = 0
        """Counts whatever may change when the next call may begin, but for time."""
        self.standing = 0
        """Permits given for which no task has been found yet."""
        self.busy = 0
        self.long_busy = 0
        self.under_way = 0
        """Calls that were sent and are not known to be refused or over."""
        self.at_work = 0
        """Those of them that the provider is known to have accepted."""
        self.starts: deque[float] = deque(maxlen=STARTS_KEPT)
        """When the latest calls began, for people to look at."""
        self.on_room: Callable[[], None] = lambda: None
        """Called when what counts in the token budget has changed."""
        self.wait_reasons = WaitReasons()
        self._changed = asyncio.Event()

    @staticmethod
    def time() -> float:
        return asyncio.get_running_loop().time()

    def recent(self, span_s: float) -> int:
        """Calls begun in the last `span_s` seconds."""
        since = self.time() - span_s
        while self.starts and self.starts[0] < since:
            self.starts.popleft()
        return len(self.starts)

    def meets(self, reason: Reason | None) -> None:
        """That is what the next call waits for."""
        self.wait_reasons.met(reason, self.time())

    @property
    def remembers(self) -> bool:
        """Whether calls of it are under way or still count."""
        now = self.time()
        return bool(self.busy or self.window.used(now) or self.budget.used(now))

    def wake(self) -> None:
        """Something has changed: whoever waits looks again."""
        self.changes += 1
        self._changed.set()
        self._changed = asyncio.Event()
        if self.budget.limit:
            self.on_room()

    async def sleep(self, delay: float) -> None:
        """That long, or until something has changed."""
        try:
            async with asyncio.timeout(None if delay == math.inf else delay):
                await self._changed.wait()
        except TimeoutError:
            pass

    @abstractmethod
    def rate_wait(self) -> float:
        """Seconds until the rate allows one more call."""

    @abstractmethod
    def closed(self, probe: bool) -> str | None:
        """Why a call that has its permit must not be made now; None where it may be."""

    @abstractmethod
    def freed(self) -> None:
        """A permit came back."""

    @abstractmethod
    def accepted(self) -> None:
        """A call was taken by the provider."""


class Permit:
    """The right to one call. `release` gives it back; more than once does no harm."""

    def __init__(self, gate: "Load", probe: bool) -> None:
        self._gate = gate
        self._probe = probe
        self._stamp: Stamp | None = None
        self._share: Share | None = None
        self._released = False
        self._answered = False
        self._at_work = False
        self._under_way = False
        self.long = False
        self.sent_at: float | None = None
        gate.standing += 1
        gate.changes += 1
        self.beside = 0
        """How many other calls were under way when this one was refused."""

    def reserve(self, long: bool, tokens: int = 0) -> None:
        """A task was found for it: from now on it counts in the rate window and the budget."""
        self._stamp = self._gate.window.reserve()
        self._share = self._gate.budget.reserve(tokens)
        self.long = long
        self._gate.standing -= 1
        self._gate.busy += 1
        self._gate.changes += 1
        self._gate.long_busy += long

    def confirm(self) -> None:
        """The last look before the call, which must follow at once. Raises GateClosed.

        Between the permit and the call lie the reading of the body and a commit. What closes the
        gate meanwhile sends back those who stand in it; those on their way find out here.
        """
        gate = self._gate
        if not self._probe and gate.breaker.wait(gate.time()) == 0:
            self._probe = gate.breaker.enter()
        if (why := gate.closed(self._probe)) is not None:
            raise GateClosed(why)

    def sent(self) -> None:
        """The call is on its way."""
        if self._stamp is not None:
            gate, now = self._gate, self._gate.time()
            self.sent_at, self._under_way = now, True
            gate.under_way += 1
            gate.window.sent(self._stamp, now)
            gate.starts.append(now)
            if self._share is not None:
                gate.budget.sent(self._share, now)
            gate.wake()

    def head(self, accepted: bool = True) -> None:
        """The provider has begun to answer."""
        if self._stamp is None:
            return
        gate, now = self._gate, self._gate.time()
        gate.window.head(self._stamp, now)
        if self._share is not None:
            gate.budget.head(self._share, now)
        if not self._answered and self._under_way:
            self._answered = True
            if accepted:
                self._at_work = True
                gate.at_work += 1
                gate.accepted()
            else:
                self.refused()
        # Whoever waits for the window can now be told an earlier time.
        gate.wake()

    def refused(self) -> None:
        """The provider has turned the call away."""
        if self._under_way and self._stamp is not None:
            self._under_way = False
            self._gate.window.refuse(self._stamp)
            self._gate.under_way -= 1
            self._gate.at_work -= self._at_work
            self._at_work = False
            self.beside = self._gate.under_way

    def used(self, tokens: int) -> None:
        """What the call has cost, as the provider says."""
        if self._share is not None:
            self._gate.budget.used_up(self._share, tokens, self._gate.time())

    async def again(self) -> None:
        """Reserve one more call under the same slot, as soon as the rate allows it; the one
        before must be over. Where the breaker has opened meanwhile, this may become the probe."""
        gate = self._gate
        gate.under_way -= self._under_way
        gate.at_work -= self._at_work
        self._under_way = self._at_work = self._answered = False
        while (delay := max(gate.rate_wait(), self._breaker_wait())) > 0:
            await gate.sleep(delay)
        self._probe = self._probe or gate.breaker.enter()
        self._stamp = gate.window.reserve()
        self.sent_at = None

    def _breaker_wait(self) -> float:
        return 0.0 if self._probe else self._gate.breaker.wait(self._gate.time())

    def release(self) -> None:
        if self._released:
            return
        self._released = True
        gate = self._gate
        gate.under_way -= self._under_way
        gate.at_work -= self._at_work
        if self._stamp is None:
            gate.standing -= 1
        else:
            gate.busy -= 1
            gate.long_busy -= self.long
            if self.sent_at is None:
                gate.window.refund(self._stamp)
                if self._share is not None:
                    gate.budget.refund(self._share)
        if self._probe:
            gate.breaker.leave()
        gate.freed()
