"""The next calls of tasks that are under way: an agent's calls after its first one.

They go before all waiting tasks of their account, in the order in which they come. A call gets the
permit of the account's ready worker, which goes back to wait for another one.
"""

import asyncio
import math
from collections import defaultdict, deque
from dataclasses import dataclass

from asyncsvc.errors import GateClosed
from asyncsvc.limits.account import Permit
from asyncsvc.limits.verdict import Stage, Verdict
from asyncsvc.scheduling.candidates import PASSED_ON, AccountSlot


@dataclass(eq=False, slots=True)
class NextCall:
    """A call that waits for a permit."""

    long: bool
    tokens: int
    granted: "asyncio.Future[Permit]"

    async def permit(self) -> Permit:
        """Wait for the permit; one that comes too late is given back."""
        try:
            return await self.granted
        except asyncio.CancelledError:
            done = self.granted.done() and not self.granted.cancelled()
            if done and self.granted.exception() is None:
                self.granted.result().release()
            raise


class NextCalls:
    """The calls that wait, by account slot."""

    def __init__(self) -> None:
        self.waiting: defaultdict[AccountSlot, deque[NextCall]] = defaultdict(deque)
        """By account slot; empty where no call waits."""

    def enter(self, slot: AccountSlot, long: bool, tokens: int) -> NextCall:
        """A call waits for a permit of the account."""
        call = NextCall(long, tokens, asyncio.get_running_loop().create_future())
        self.waiting[slot].append(call)
        return call

    def match(self) -> None:
        """Give the permits of ready workers to the calls that wait, as far as their tokens fit."""
        for slot, calls in list(self.waiting.items()):
            call = self._first(slot)
            if call is None or not slot.ready or not self._verdict(slot, call).ready:
                continue
            assert slot.permit is not None
            assert slot.offer is not None
            calls.popleft()
            slot.permit.reserve(call.long, call.tokens)
            call.granted.set_result(slot.permit)
            slot.offer.set_result(PASSED_ON)

    def short_of_tokens(self) -> tuple[set[AccountSlot], float]:
        """The ready account slots where a call waits for tokens, so that no task may overtake it,
        and the seconds until the first of them has room."""
        found, soonest = set[AccountSlot](), math.inf
        for slot in list(self.waiting):
            if (call := self._first(slot)) is not None and slot.ready:
                found.add(slot)
                wait_s = self._verdict(slot, call).wait_s(slot.gate.time())
                soonest = min(soonest, wait_s)
        return found, soonest

    def close(self, slot: AccountSlot) -> None:
        """The account takes no calls for now: the calls that wait for it fail."""
        for call in self.waiting.pop(slot, ()):
            if not call.granted.done():
                call.granted.set_exception(GateClosed(f"{slot.gate.name} takes no calls for now"))

    def _first(self, slot: AccountSlot) -> NextCall | None:
        """The call that is next; those that wait no longer are dropped."""
        calls = self.waiting[slot]
        while calls and calls[0].granted.done():
            calls.popleft()
        if not calls:
            del self.waiting[slot]
            return None
        return calls[0]

    @staticmethod
    def _verdict(slot: AccountSlot, call: NextCall) -> Verdict:
        # A long task that is under way needs no room beside the long tasks.
        return slot.gate.verdict(Stage.SLOT, tokens=max(call.tokens, 1))
