"""How late the event loop is.

Owns one cheap timer. Promises that a loop which stands still counts for as long as it stood, not
as one late timer among many punctual ones. Never blocks, never judges. Times are the loop's.
"""

import asyncio
from collections import deque
from itertools import islice

EVERY_S = 0.1
SPAN_S = 60.0


class LoopLag:
    """`start` it; `quantile` tells of the last minute or less."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._lags: deque[float] = deque(maxlen=max(round(SPAN_S / every_s), 1))
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._set(asyncio.get_running_loop().time() + self._every_s)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def quantile(self, q: float, span_s: float = SPAN_S) -> float:
        """Seconds of lateness that the share `q` of the last `span_s` seconds was within."""
        wanted = max(round(span_s / self._every_s), 1)
        lags = sorted(islice(reversed(self._lags), wanted))
        # Of what was before the start nothing is known: it was punctual. Otherwise the stop of a
        # start on a busy machine would be all there is.
        place = min(int(q * wanted), wanted - 1) - (wanted - len(lags))
        return lags[place] if place >= 0 else 0.0

    def _set(self, due: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(due, self._tick, due)

    def _tick(self, due: float) -> None:
        now = asyncio.get_running_loop().time()
        late = max(now - due, 0.0)
        # The ticks that the stop has swallowed would have been late as well, each a bit less.
        for missed in range(min(int(late / self._every_s), self._lags.maxlen or 0), -1, -1):
            self._lags.append(max(late - missed * self._every_s, 0.0))
        self._set(now + self._every_s)
