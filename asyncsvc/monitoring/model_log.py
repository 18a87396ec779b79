"""What the log says about models: which take no calls, why, for how long, and which are back.

`closed` is called by the limiters whenever an account stops taking calls, `look` once a second.
Both read the account's verdict and decide nothing. Of one reason there is one line, however many
calls were refused for it; the account is back when a call was answered, or an operator says so. The
limits that the settings give an account are no news.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from asyncsvc.config.settings import Log
from asyncsvc.errors import ProviderError
from asyncsvc.limits.account import AccountLimiter
from asyncsvc.limits.verdict import Reason, Stage

log = logging.getLogger(__name__)

STILL_S = 600.0
"""After so long a refusal for the same reason is worth another line."""
WORDS_CHARS = 200
"""Characters of a provider's words in a line."""


@dataclass(slots=True)
class _Noted:
    """What was logged of an account. Times are the event loop's, in seconds."""

    reason: Reason
    began: float
    logged: float
    answered: int
    """Calls that had been answered when it began."""
    over: bool = False
    """Calls were allowed again since the line was logged."""


class ModelLog:
    """`settings` gives the section `[log]` that is in force, `gates` the accounts that there
    are."""

    def __init__(
        self, settings: Callable[[], Log], gates: Callable[[], Iterable[AccountLimiter]]
    ) -> None:
        self._settings = settings
        self._gates = gates
        self._noted: dict[AccountLimiter, _Noted] = {}

    def closed(self, gate: AccountLimiter) -> None:
        """An account takes no calls now: log it where that is news."""
        found, now = gate.verdict(Stage.CALL), gate.time()
        if found.reason is None:
            return  # its own limits, as the settings have them
        noted = self._noted.get(gate)
        if noted is not None and noted.reason == found.reason:
            anew = noted.over and found.reason in ("disabled", "quota", "held")
            if not anew and now - noted.logged < STILL_S:
                return
            noted.logged, noted.over = now, False
        else:
            began = now if noted is None else noted.began
            self._noted[gate] = _Noted(found.reason, began, now, _answered(gate))
        self._log(gate, found.reason, _seconds(gate, found.until - now))

    def look(self) -> None:
        """Log which accounts are back."""
        if not self._noted:
            return
        there = set(self._gates())
        for gate in list(self._noted):
            if gate not in there:
                del self._noted[gate]  # the settings have it no more
            elif gate.verdict(Stage.CALL).ready:
                self._look_at(gate, self._noted[gate])

    def _look_at(self, gate: AccountLimiter, noted: _Noted) -> None:
        noted.over = True
        if noted.reason != "held" and _answered(gate) <= noted.answered:
            return  # nothing shows yet that the provider takes calls again
        del self._noted[gate]
        seconds = gate.time() - noted.began
        fields = _fields(gate, noted.reason) | {"seconds": round(seconds, 1)}
        log.info("model %s takes calls again, after %.0f s", gate.name, seconds, extra=fields)

    def _log(self, gate: AccountLimiter, reason: Reason, seconds: float | None) -> None:
        fields = _fields(gate, reason)
        if seconds is not None:
            fields["seconds"] = round(seconds, 1)
        rest = "rests" if seconds is None else f"rests for {seconds:.0f} s"
        if reason == "held":
            log.info("model %s takes no calls: an operator has paused it", gate.name, extra=fields)
        elif reason == "disabled":
            words = self._words(gate.fault)
            text = "model %s is disabled until the next start or reload: %s"
            log.warning(text, gate.name, words, extra=fields | _code(gate.fault))
        elif reason == "quota":
            words = self._words(gate.cooldown.why)
            text = "model %s %s: its quota is used up: %s"
            log.warning(text, gate.name, rest, words, extra=fields | _code(gate.cooldown.why))
        elif reason == "breaker":
            code = gate.statistics.latest_failure
            text = "model %s %s: %d calls in a row have failed, the last with %s; then one tries it"
            failures = gate.breaker.failures
            log.warning(text, gate.name, rest, failures, code, extra=fields | {"code": code})
        elif gate.refusals.resting:
            text = "model %s %s: a call was refused (%s) for no reason that was named; then one"
            words = self._words(gate.refusals.last, about_request=True)
            extra = fields | _code(gate.refusals.last)
            log.warning(f"{text} tries it", gate.name, rest, words, extra=extra)
        else:
            text = "model %s %s: its provider asks for fewer calls"
            log.warning(text, gate.name, rest, extra=fields | _code(gate.cooldown.why))

    def _words(self, error: ProviderError | None, about_request: bool = False) -> str:
        """The code and the provider's words, which may repeat what a request holds where they are
        about the request."""
        if error is None:
            return "no reason is known"
        if about_request and not self._settings().prompts:
            return f"HTTP {error.status}" if error.status else error.code
        return f"{error.code}: {str(error)[:WORDS_CHARS]}"


def _answered(gate: AccountLimiter) -> int:
    return gate.statistics.calls - gate.statistics.errors


def _seconds(gate: AccountLimiter, left_s: float) -> float | None:
    """How long an account rests; None: until something changes. A breaker names its probe."""
    until = gate.breaker.probe_at - gate.time()
    left_s = until if left_s == float("inf") else left_s
    return left_s if 0 < left_s < float("inf") else None


def _fields(gate: AccountLimiter, reason: Reason) -> dict[str, Any]:
    model = gate.name.partition("#")[0]
    return {"model": model, "account": gate.name, "reason": reason}


def _code(error: ProviderError | None) -> dict[str, Any]:
    return {} if error is None else {"code": error.code}
