"""The wall clock held against the monotonic clock while a run lasts, and how long it stood still.

Owns the samples and their judgement. The service counts waits and limits on the monotonic clock
and dates tasks by the wall clock: a jump of it breaks neither, but dates tasks wrongly.
"""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from time import monotonic

from asyncsvc.clock import Now, now_ms
from asyncsvc.selftest.checks import Check, counted, hint

EVERY_S = 0.2
STEP_MS = 100.0
DRIFT_PPM = 500.0
"""What NTP may slew at most; a clock alone drifts by some tens."""
SHARP_S = 0.002
"""Both clocks are read within this time, or again."""
TRIES = 20


class ClockWatch:
    """Samples of both clocks. `run` takes them until it is cancelled."""

    def __init__(self, now: Now = now_ms, steady: Callable[[], float] = monotonic) -> None:
        self.samples: list[tuple[float, int]] = []
        """Monotonic seconds and wall-clock milliseconds."""
        self.stall_s = 0.0
        """How late this process was at most, for lack of processor time."""
        self._now = now
        self._steady = steady

    async def run(self) -> None:
        """Take samples until cancelled."""
        while True:
            self.sample()
            due = self._steady() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self.stall_s = max(self.stall_s, self._steady() - due)

    def sample(self) -> None:
        """Read both clocks at one moment."""
        for _ in range(TRIES):
            before = self._steady()
            wall = self._now()
            after = self._steady()
            if after - before < SHARP_S:
                break
        self.samples.append(((before + after) / 2, wall))

    def judge(self) -> Check:
        """The line of the clock."""
        self.sample()
        seconds = self.samples[-1][0] - self.samples[0][0]
        ahead = [wall - steady * 1000 for steady, wall in self.samples]
        moves = [late - early for early, late in pairwise(ahead)]
        steps = [move for move in moves if abs(move) > STEP_MS]
        drift_ppm = (ahead[-1] - ahead[0] - sum(steps)) / max(seconds, 1) * 1000
        details = []
        if steps:
            largest = max(steps, key=abs) / 1000
            details.append(
                f"the wall clock jumped by {largest:+.1f} s: it was set, or the machine slept; "
                "waits and limits do not follow it, the times of tasks do"
            )
        if abs(drift_ppm) > DRIFT_PPM:
            details.append("the wall clock runs too fast or too slow: is it kept by NTP?")
        found = f"{counted(len(steps), 'jump')}, {round(drift_ppm):+d} ppm in {seconds:.0f} s"
        return hint("clock", "the wall clock beside the monotonic clock", found, details)
