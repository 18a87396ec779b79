"""How the writes to the database have gone lately.

Owns the knowledge whether the disk takes writes. Promises that it is what the last real commit
showed, never a guess. Never writes anything itself. Times are the event loop's.
"""

import asyncio
import math
from time import perf_counter
from types import TracebackType

from asyncsvc.histogram import Histogram

COMMIT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Writes:
    """The journal does each commit within `with writes:`."""

    def __init__(self) -> None:
        self.refusal: str | None = None
        """Why the last commit was refused; None where it went well."""
        self.refusals = 0
        self.refused_at = -math.inf
        """When the last one was refused."""
        self.seconds = Histogram(COMMIT_S)
        """How long those took that went well."""
        self.ended = asyncio.get_running_loop().time()
        """When the last one ended, however it did."""
        self._began: float | None = None
        self._clocked = 0.0

    def __enter__(self) -> None:
        self._began = asyncio.get_running_loop().time()
        self._clocked = perf_counter()  # the loop's clock may be too coarse for a commit

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        self.ended = asyncio.get_running_loop().time()
        if error is None:
            self.refusal = None
            self.seconds.observe(perf_counter() - self._clocked)
        else:
            self.refusal = str(error) or type(error).__name__
            self.refusals += 1
            self.refused_at = self.ended
        self._began = None

    def under_way_s(self) -> float:
        """How long the commit has been going on that is under way; 0 where there is none."""
        if self._began is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._began
