"""Why tasks are slow: what they waited for, by reason, model and owner, and what would help most.

Computed from the marks of the tasks and the reasons that each start has recorded, so that it is the
same after a restart. The help is no forecast: it is about the limit for which tasks have waited
longest. A rehearsal says what another limit would really save. Nothing is read here.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from asyncsvc.config.settings import Settings
from asyncsvc.storage.entries import Waited, loads
from asyncsvc.tasks.marks import began_at, trace

OTHER = "other"
SCHEDULED = "scheduled"
"""Waiting for its own time is what the client asked for, and no slowness."""
WAITING = {"pending": None, "retry": "retry", "paused": "paused", "approval": "approval"}
"""Spans in which a task waits, with their reason; None: the start says."""
LEAST_S = 0.0005
GROUPS_MOST = 20
Group = tuple[str | None, str | None]
"""A model and an owner."""


class WaitSummary:
    """The waits between two moments (ms): `add` each task, then ask for the `summary`."""

    def __init__(self, since: int, now: int) -> None:
        self._since = since
        self._now = now
        self._waited: defaultdict[Group, Counter[str]] = defaultdict(Counter)
        self._tasks: Counter[str] = Counter()
        """The tasks that waited, by reason."""
        self._count = 0
        self._slowed = 0

    def add(self, row: Waited, waited: Mapping[str, float] | None = None) -> None:
        """Add a task; `waited`: the reasons of a wait that goes on, in seconds."""
        found = self._reasons(row, waited)
        self._count += 1
        self._slowed += bool(found)
        self._waited[row.model, row.owner].update(found)
        self._tasks.update(found.keys())

    def _reasons(self, row: Waited, waited: Mapping[str, float] | None) -> dict[str, float]:
        """Seconds by reason that the task has waited within the time."""
        lengths = self._lengths(row)
        pending = lengths.pop("pending", 0.0)
        if waited is None:
            waited = {} if row.waited is None else loads(row.waited)
        known = sum(waited.values())
        # The wait may have begun before the time, or have been longer by another clock.
        share = min(pending / known, 1.0) if known > 0 else 0.0
        found = {reason: seconds * share for reason, seconds in waited.items()}
        found[OTHER] = pending - known * share
        found |= {str(WAITING[kind]): seconds for kind, seconds in lengths.items()}
        return {reason: seconds for reason, seconds in found.items() if seconds > LEAST_S}

    def _lengths(self, row: Waited) -> dict[str, float]:
        """Seconds of each kind of waiting within the time."""
        marks = () if row.marks is None else tuple((kind, at) for kind, at in loads(row.marks))
        end = self._now if row.finished_at is None else row.finished_at
        lengths: dict[str, float] = {}
        at = began_at(marks, row.created_at)
        for kind, ms in trace(marks, row.created_at, row.run_at, row.started_at, end):
            within = min(at + ms, self._now) - max(at, self._since)
            at += ms
            if kind in WAITING and within > 0:
                lengths[kind] = lengths.get(kind, 0.0) + within / 1000
        return lengths

    def summary(self, settings: Settings) -> dict[str, Any]:
        """What the tasks waited for, the longest first."""
        totals, models, owners = _sums(self._waited)
        of_models = Counter[tuple[str, str]]()
        for (model, _), reasons in self._waited.items():
            of_models.update({(model or "", why): seconds for why, seconds in reasons.items()})
        return {
            "tasks": self._count,
            "waited_tasks": self._slowed,
            "waited_s": round(totals.total(), 3),
            "reasons": [
                {"reason": why, "waited_s": round(s, 3), "tasks": self._tasks[why]}
                for why, s in totals.most_common()
            ],
            "models": _rows("model", models),
            "owners": _rows("owner", owners),
            "change": best_change(settings, of_models),
        }


def _sums(
    waited: Mapping[Group, Counter[str]],
) -> tuple[Counter[str], dict[str | None, Counter[str]], dict[str | None, Counter[str]]]:
    totals = Counter[str]()
    models: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
    owners: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
    for (model, owner), reasons in waited.items():
        totals.update(reasons)
        models[model].update(reasons)
        owners[owner].update(reasons)
    return totals, models, owners


def _rows(name: str, groups: Mapping[str | None, Counter[str]]) -> list[dict[str, Any]]:
    """The groups that waited longest, each with its reasons."""
    longest = sorted(groups.items(), key=lambda group: -group[1].total())
    return [
        {
            name: group,
            "waited_s": round(reasons.total(), 3),
            "reasons": {why: round(s, 3) for why, s in reasons.most_common()},
        }
        for group, reasons in longest[:GROUPS_MOST]
        if reasons
    ]


LIMITS = {"rate": "rpm", "tokens": "tpm", "concurrency": "concurrency"}
"""The key of a model by which a reason is bounded."""
REMEDIES = {
    "slow_down": ("api_key_envs", "another key, or a lower rpm: the provider asked to slow down"),
    "quota": ("api_key_envs", "another key with a quota of its own, or a larger quota"),
    "breaker": ("good_at", "another model for these tasks: this one failed again and again"),
}
"""What helps where no number does, by reason."""


def best_change(
    settings: Settings, waited: Mapping[tuple[str, str], float]
) -> dict[str, Any] | None:
    """The one change of settings that is likely to save most: of the limit for which tasks have
    waited longest. None where no setting bounds what they waited for. `waited`: seconds by (model,
    reason)."""
    for (name, reason), seconds in sorted(waited.items(), key=lambda each: -each[1]):
        found = _change(settings, name, reason)
        if found is not None:
            return found | {
                "reason": reason,
                "model": name or None,
                "waited_s": round(seconds, 3),
            }
    return None


def _change(settings: Settings, name: str, reason: str) -> dict[str, Any] | None:
    if reason == "patience":
        why = "free models are used at once, though a faster one is soon free"
        return {"setting": "routing.balance", "from": True, "to": False, "why": why}
    model = settings.models.get(name)
    if model is None:
        return None
    if reason in REMEDIES:
        key, why = REMEDIES[reason]
        return {"setting": f"models.{name}.{key}", "from": None, "to": None, "why": why}
    if reason not in LIMITS:
        return None
    now = getattr(model, LIMITS[reason])
    more = 2 * now if isinstance(now, int) and now else None
    why = "twice as much, as far as the provider allows it; another key does the same"
    if more is None:
        why = "more, as far as the provider allows it; another key does the same"
    return {"setting": f"models.{name}.{LIMITS[reason]}", "from": now, "to": more, "why": why}
