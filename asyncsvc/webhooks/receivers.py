"""The hosts that deliveries go to: how many are under way to each, and which need a rest.

Owns the counts. Promises that one host takes at most its share of the deliveries at once, and
that a host which fails again and again is asked rarely, by one delivery at a time, so that it
takes no place from the others. Never sends anything, never decides what is a failure.
"""

from collections import Counter
from dataclasses import dataclass

FAILURES = 5
"""Failures in a row, of whatever tasks, after which a host is given a rest."""
REST_S = 5.0
LONGEST_S = 300.0
REMEMBERED = 10_000
"""Hosts whose failures are known at most; the one that failed longest ago is forgotten."""


@dataclass(slots=True)
class _Trouble:
    failures: int = 0
    until: float = 0.0


class Receivers:
    """Times are the event loop's, in seconds."""

    def __init__(self, per_host: int) -> None:
        self.per_host = per_host
        self._under_way: Counter[str] = Counter()
        self._troubles: dict[str, _Trouble] = {}

    def has_room(self, host: str, now: float) -> bool:
        """Whether one more delivery may go there."""
        trouble = self._troubles.get(host)
        if trouble is not None and trouble.failures >= FAILURES:
            return trouble.until <= now and not self._under_way[host]
        return self._under_way[host] < self.per_host

    def shut(self, now: float) -> list[str]:
        """The hosts that have no room."""
        known = set(self._under_way) | set(self._troubles)
        return [host for host in known if not self.has_room(host, now)]

    def opens(self, now: float) -> float | None:
        """When the first rest is over that is not yet."""
        ends = [one.until for one in self._troubles.values() if one.until > now]
        return min(ends, default=None)

    def begin(self, host: str) -> None:
        self._under_way[host] += 1

    def end(self, host: str) -> None:
        self._under_way[host] -= 1
        if not self._under_way[host]:
            del self._under_way[host]

    def answered(self, host: str) -> None:
        """It took a delivery, or refused one for good: it works."""
        self._troubles.pop(host, None)

    def failed(self, host: str, now: float) -> None:
        trouble = self._troubles.pop(host, None) or _Trouble()
        trouble.failures += 1
        if trouble.failures >= FAILURES:
            rest = REST_S * 2.0 ** min(trouble.failures - FAILURES, 10)
            trouble.until = now + min(rest, LONGEST_S)
        self._troubles[host] = trouble
        if len(self._troubles) > REMEMBERED:
            self._troubles.pop(next(iter(self._troubles)))
