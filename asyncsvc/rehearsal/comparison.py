"""A comparison of replays: waits by lane and owner, use of each limit, refusals.

`rehearse` gives it as JSON; the command line makes tables of that.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asyncsvc.clock import rfc3339
from asyncsvc.rehearsal.past import CallTimes, PastTask, past_of
from asyncsvc.rehearsal.replay import AccountUse, Replayed, replay
from asyncsvc.rehearsal.scenario import Scenario
from asyncsvc.tasks.state import State, Task

ALL = "all"
OWNERS_MOST = 50
"""Owners that have a row of their own: those with the most tasks."""

ASSUMED = (
    "tasks come when they came, also where they were sent because of an earlier answer",
    "a provider refuses nothing that the limits of the settings allow: slow-downs, quotas, outages "
    "and the breaker are not repeated",
    "failed attempts are repeated after the same delay, and tasks that clients cancelled are "
    "cancelled as long after they came; pauses, restarts and reloads are not repeated",
    "a task that goes to the model that served it takes as long as it took; at another model it "
    "takes as long as a call of about as many tokens that was measured there",
    "an agent's calls and tools take as long as they took, at whatever model",
    "tasks keep the class that was chosen for them; the rate windows and the measurements of the "
    "service are empty at the beginning",
    "submits that were refused are not in the database, nor are tasks that were deleted since",
)


def past_since(tasks: Iterable[Task], since: int, now: int) -> list[PastTask]:
    """The tasks in the order in which they came; those from before `since` come at `since`. Those
    that are paused, or whose time has not come, are left out."""
    past = [past_of(task, now) for task in tasks if _takes_part(task, now)]
    for one in past:
        one.carried = one.at < since
        one.at = max(one.at, since)
    return sorted(past, key=lambda one: (one.at, one.task.n))


def _takes_part(task: Task, now: int) -> bool:
    request = task.request
    ahead = task.started_at is None and not task.finished and (request.run_at or 0) > now
    return task.state is not State.PAUSED and not ahead


def served_models(past: Iterable[PastTask]) -> set[str]:
    """The models that have served tasks."""
    return {one.task.name for one in past if one.task.name is not None and not one.task.cached}


def compare(
    past: Sequence[PastTask],
    now: Scenario,
    new: Scenario | None,
    learned: Mapping[str, Any],
    since: int,
    until: int,
) -> dict[str, Any]:
    """Replay the past under the settings of today and under the new ones, as JSON. Raises
    SettingsError."""
    times = CallTimes(past)
    replays = {
        name: replay(past, times, scenario.settings, scenario.environ, learned, since)
        for name, scenario in (("now", now), ("new", new))
        if scenario is not None
    }
    return {
        "since": rfc3339(since),
        "until": rfc3339(until),
        "tasks": len(past),
        "carried_over": sum(one.carried for one in past),
        "waits": _waits(past, replays),
        "accounts": _accounts(replays),
        "ends": {name: _ends(found) for name, found in replays.items()},
        "refused": {name: _refused(found) for name, found in replays.items()},
        "measured_calls": {name: times.count(name) for name in sorted(_models(replays))},
        "notes": _notes(replays),
        "assumed": list(ASSUMED),
    }


def spread(seconds: Sequence[float]) -> dict[str, Any]:
    """p50, p95 and the most of some times, in seconds; None: there are none."""
    ordered = sorted(seconds)
    if not ordered:
        return {"count": 0, "p50_s": None, "p95_s": None, "max_s": None}
    return {
        "count": len(ordered),
        "p50_s": round(_quantile(ordered, 0.5), 3),
        "p95_s": round(_quantile(ordered, 0.95), 3),
        "max_s": round(ordered[-1], 3),
    }


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The value that so large a share of all does not exceed."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


Group = tuple[str, str | None]
"""A lane and an owner; ALL stands for any."""


def _groups(one: PastTask, owners: set[str | None]) -> list[Group]:
    request = one.task.request
    groups: list[Group] = [(ALL, ALL), (request.lane, ALL)]
    return [*groups, (request.lane, request.owner)] if request.owner in owners else groups


def _waits(past: Sequence[PastTask], replays: Mapping[str, Replayed]) -> list[dict[str, Any]]:
    """Waits for the first start, by lane and owner: measured, and in each replay."""
    counted = Counter(one.task.request.owner for one in past)
    owners = {owner for owner, _ in counted.most_common(OWNERS_MOST)}
    if len(owners) == 1:
        owners.clear()  # the rows of the lanes say it all
    waits: dict[str, defaultdict[Group, list[float]]] = {
        name: defaultdict(list) for name in ("measured", *replays)
    }
    rows: Counter[Group] = Counter()
    for one in past:
        for group in () if one.carried else _groups(one, owners):
            rows[group] += 1
            if one.wait_s is not None and not one.task.cached:
                waits["measured"][group].append(one.wait_s)
    for name, found in replays.items():
        for outcome in found.tasks:
            if outcome.wait_s is None or outcome.one.carried:
                continue
            for group in _groups(outcome.one, owners):
                waits[name][group].append(outcome.wait_s)
    order = sorted(rows, key=lambda group: (_LANES[group[0]], group[1] != ALL, group[1] or ""))
    return [
        {"lane": lane, "owner": owner, "tasks": rows[lane, owner]}
        | {name: spread(found[lane, owner]) for name, found in waits.items()}
        for lane, owner in order
    ]


_LANES = {ALL: 0, "priority": 1, "short": 2, "long": 3}


def _accounts(replays: Mapping[str, Replayed]) -> list[dict[str, Any]]:
    """The use of each limit of each account, in each replay; None where it takes no part."""
    names = dict.fromkeys(name for found in replays.values() for name in found.accounts)
    return [
        {"account": name}
        | {which: _use(found.accounts.get(name), found.span_s) for which, found in replays.items()}
        for name in names
    ]


def _use(use: AccountUse | None, span_s: float) -> dict[str, Any] | None:
    if use is None:
        return None
    room = use.concurrency * span_s
    return {
        "model": use.model,
        "calls": use.calls,
        "concurrency": use.concurrency,
        "most_at_once": use.most_at_once,
        "busy_share": round(use.busy_s / room, 4) if room else 0.0,
        "rpm": use.limit,
        "rpm_window_s": use.span_s,
        "most_in_window": use.most_in_window,
        "tpm": use.tokens_limit,
        "most_tokens_in_window": use.most_tokens,
        "waited_s": {why: round(s, 3) for why, s in use.waited_s.most_common()},
    }


def _ends(found: Replayed) -> dict[str, int]:
    """How many tasks ended how: by state, or by the code of their error."""
    ends = Counter(o.ended or "not ended" for o in found.tasks if o.refused is None)
    return dict(ends.most_common())


def _refused(found: Replayed) -> dict[str, int]:
    """How many tasks would have been refused, by the code of the answer."""
    return dict(Counter(o.refused for o in found.tasks if o.refused is not None).most_common())


def _models(replays: Mapping[str, Replayed]) -> set[str]:
    return {use.model for found in replays.values() for use in found.accounts.values()}


def _notes(replays: Mapping[str, Replayed]) -> list[str]:
    """What the reader must know of these replays, in sentences."""
    unknown = set[str]().union(*(found.unknown for found in replays.values()))
    slow = "none of its calls was measured; it is taken to be as fast as the others"
    notes = [f"{name}: {slow}" for name in sorted(unknown)]
    for which, found in replays.items():
        notes += [f"{which}: {name} takes no part: {why}" for name, why in found.lacking.items()]
    return notes
