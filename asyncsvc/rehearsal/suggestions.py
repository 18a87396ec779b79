"""Suggestions: single changes of settings, each replayed, with what it would save.

The changes are those of the limits for which tasks waited longest under the settings of today:
twice the limit, one more account of that model, or free models that are used at once.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from asyncsvc.clock import rfc3339
from asyncsvc.config.settings import Settings
from asyncsvc.rehearsal.comparison import spread
from asyncsvc.rehearsal.past import CallTimes, PastTask
from asyncsvc.rehearsal.replay import Replayed, replay
from asyncsvc.rehearsal.scenario import Scenario

LIMITS = {"rate": "rpm", "tokens": "tpm", "concurrency": "concurrency"}
"""The key of a model by which a wait reason is bounded."""
TRIED_MOST = 6


class Single(NamedTuple):
    """A change: `value` as KEY=VALUE, or one more account of a model."""

    value: str | None = None
    account: str | None = None

    @property
    def option(self) -> str:
        """The option of the command line that tries it."""
        return f"--model {self.account}" if self.account else f"--set {self.value}"


def suggest(
    past: Sequence[PastTask],
    now: Scenario,
    changed: Callable[[Single], Scenario],
    learned: Mapping[str, Any],
    since: int,
    until: int,
) -> dict[str, Any]:
    """Replay the past under today's settings, and with each single change, as JSON; the change that
    saves most comes first. Raises SettingsError."""
    times = CallTimes(past)

    def waits(scenario: Scenario) -> tuple[Replayed, list[float]]:
        found = replay(past, times, scenario.settings, scenario.environ, learned, since)
        counted = (one for one in found.tasks if not one.one.carried)
        return found, [one.wait_s for one in counted if one.wait_s is not None]

    found, waited = waits(now)
    rows = []
    for change in singles(found, now.settings):
        _, less = waits(changed(change))
        row = {"option": change.option, "setting": change.value, "one_more_account": change.account}
        saved = sum(waited) - sum(less)
        rows.append(
            row | {"waited_s": round(sum(less), 3), "saved_s": round(saved, 3)} | spread(less)
        )
    rows.sort(key=lambda row: -row["saved_s"])
    return {
        "since": rfc3339(since),
        "until": rfc3339(until),
        "tasks": len(past),
        "now": {"waited_s": round(sum(waited), 3)} | spread(waited),
        "changes": rows,
    }


def singles(found: Replayed, settings: Settings) -> list[Single]:
    """The changes that may help, by how long tasks waited for what they change."""
    waited = Counter[tuple[str, str]]()
    for use in found.accounts.values():
        waited.update({(use.model, reason): s for reason, s in use.waited_s.items()})
    changes: dict[Single, None] = {}
    for (name, reason), _ in waited.most_common():
        if reason == "patience":
            changes[Single("routing.balance=false")] = None
        elif reason in LIMITS:
            key = LIMITS[reason]
            limit = getattr(settings.models[name], key)
            if isinstance(limit, int) and limit:
                changes[Single(f"models.{name}.{key}={2 * limit}")] = None
            changes[Single(account=name)] = None
    return list(changes)[:TRIED_MOST]
