"""A provider with a temper, who keeps the books on everybody who calls.

Owns what is sent to each call and what is remembered of it. Promises that no two calls are sent
the same text, so that whose text a result is can be seen. Never knows a task.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence

from asyncsvc.errors import (
    AuthUnexplained,
    ContentFiltered,
    ModelUnexplained,
    QuotaExhausted,
    RateLimited,
    UpstreamDisconnected,
    UpstreamOverloaded,
    UpstreamRejected,
)
from asyncsvc.providers.answers.delta import Delta
from tests.scripted import HANG, HEAD, Call, Script, ScriptedClient

_ENDED_WELL = {"", "slow", "thinking"}


class Provider(ScriptedClient):
    """`temper` says how the next calls go."""

    def __init__(self) -> None:
        super().__init__()
        self.watched = True
        self.temper: deque[str] = deque()
        self.kinds: dict[Call, str] = {}
        """How each call was meant to go; '' is well."""
        self.whole: dict[Call, str] = {}
        """The whole text that each call would be sent."""

    def _script(self, call: Call) -> Script:
        kind = self.temper.popleft() if self.temper else ""
        script = _script(kind, len(self.calls))
        self.kinds[call] = kind
        self.whole[call] = "".join(step for step in script if isinstance(step, str))
        return script

    def ended_well(self, call: Call) -> bool:
        return call.ended is not None and not call.cancelled and self.kinds[call] in _ENDED_WELL

    @property
    def denied(self) -> int:
        """How many calls were refused without a name."""
        return sum(kind in ("denied", "page") for kind in self.kinds.values())

    def under_way(self) -> Iterator[Call]:
        return (call for call in self.calls if call.ended is None)


def _script(kind: str, number: int) -> Script:
    begun: Sequence[str | float] = (f"<{number}", " one")
    scripts: dict[str, Script] = {
        "": (*begun, 0.5, " two", 1.0, ">"),
        "slow": (2.0, *begun, 4.0, " two", 4.0, " three", 4.0, ">"),
        "thinking": (Delta("hm", True), 0.5, *begun, Delta("so", True), ">"),
        "slow_down": (RateLimited("slow down"),),
        "slow_down_7": (0.5, RateLimited("slow down", retry_after=7)),
        "overloaded": (UpstreamOverloaded("down"),),
        "overloaded_3": (1.0, UpstreamOverloaded("down", retry_after=3)),
        "hang": (HANG,),
        "stall": (HEAD, 0.5, *begun, HANG),
        "cut": (*begun, 0.5, UpstreamDisconnected("cut")),
        "empty": (0.5,),
        "filtered": (*begun, ContentFiltered("not that")),
        "rejected": (UpstreamRejected("not you"),),
        "denied": (0.5, AuthUnexplained("denied", status=403)),
        "page": (ModelUnexplained("an HTML page: 404 Not Found", status=404),),
        "quota_9": (QuotaExhausted("used up", retry_after=9),),
        "bug": (*begun, RuntimeError("a fault of ours, for the sake of the story")),
    }
    return scripts[kind]


def now() -> float:
    return asyncio.get_running_loop().time()
