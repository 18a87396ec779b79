"""What closes an account: a fault for good, an operator's hold, a rest, unexplained refusals.

Owns these four, apart from the breaker and the window. Promises that a holder of a permit learns
when the account closes. Never knows how a call went.
"""

import math
from abc import abstractmethod
from collections.abc import Callable

from asyncsvc.errors import ProviderError, RateLimited
from asyncsvc.limits.breaker import Breaker
from asyncsvc.limits.cooldown import Rest
from asyncsvc.limits.permit import Load
from asyncsvc.limits.refusals import Refusals
from asyncsvc.limits.sliding_window import Window
from asyncsvc.limits.token_budget import Budget


class Closures(Load):
    """The gate is built upon it."""

    def __init__(
        self, name: str, window: Window, budget: Budget, breaker: Breaker, rest: Rest
    ) -> None:
        Load.__init__(self, window, budget, breaker)
        self.name = name
        self.fault: ProviderError | None = None
        """Why it takes no call any more, until the next start or reload."""
        self.held: str | None = None
        """Why it takes no call until somebody says otherwise."""
        self.rest = rest
        self.refusals = Refusals()
        # Called when it has closed, so that whoever stands in it with a permit steps back.
        self.on_close: Callable[[], None] = lambda: None

    def rate_wait(self) -> float:
        """Seconds until a call may start as far as all but the breaker are concerned."""
        now = self.time()
        if self.fault is not None or self.held is not None:
            return math.inf
        return max(self.rest.left(now), self.window.wait(now), 0.0)

    def closed(self, probe: bool) -> str | None:
        """Why a call that has its permit must not be made now; None where it may be."""
        now = self.time()
        resting = self.fault is not None or self.held is not None or self.rest.left(now) > 0
        if not resting and self.breaker.allows(probe, now):
            return None
        return self.describe() or f"{self.name}: the breaker waits for its probe"

    @abstractmethod
    def describe(self, tokens: int = 1) -> str | None:
        """Why no call of so many tokens may start now, for people; None where one may."""

    def disable(self, error: ProviderError) -> None:
        """Take no call any more, until the next start or reload."""
        self.fault = error
        self.on_close()
        self.wake()

    def pardon(self) -> None:
        """Try again what the provider had refused for good, or until its quota is renewed."""
        self.fault = None
        self.rest.pardoned()
        if self.refusals.resting:
            self.breaker.succeeded()
        self.refusals.answered()
        self.wake()

    def closed_to_new(self) -> str | None:
        """Why the account takes no new task, for people; None where it does.

        After the same refusal of two different requests it takes none while it rests. Tasks that
        wait go on waiting: each rest ends in a probe, and a success opens the account again.
        """
        if self.fault is not None:
            return str(self.fault)
        if self.refusals.repeated and self.breaker.wait(self.time()) > 0:
            return str(self.refusals.last)
        return None

    def rest_left(self) -> float:
        """Seconds for which an answer of the provider keeps the account from its next call; inf
        while a probe is under way, not above 0: none does."""
        left = self.rest.left(self.time())
        return max(left, self.breaker.wait(self.time())) if self.refusals.resting else left

    def refusal(self) -> ProviderError | None:
        """For which answer of the provider no call may start at this moment; None: for none."""
        if self.rest.left(self.time()) > 0:
            return self.rest.why or RateLimited("a header says that nothing is left of the limit")
        return self.refusals.last if self.rest_left() > 0 else None

    def hold(self, reason: str | None) -> None:
        """Begin no call until it is told None; those under way go on."""
        self.held = reason
        if reason is not None:
            self.on_close()
        self.wake()
