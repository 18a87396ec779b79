"""`cancel`, `pause`, `resume` and `retry`: one task, several, or all that the filters let through.

Promises that a filter reaches each task that it lets through when the command begins, however many
there are, and none without a yes: typed at a terminal, or `--yes`.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Annotated, Any, Literal

from asyncsvc.cli.arguments import Argument, Commands, Option
from asyncsvc.cli.client import Api, Unreachable, reach
from asyncsvc.cli.filters import ALL, Filters
from asyncsvc.cli.options import FAILED, MISUSED, THERE, Failure, Json, Url, print_json
from asyncsvc.cli.tables import print_answer
from asyncsvc.cli.terminal import has_person, one_line, say

app = Commands()
AT_ONCE = 8
"""Requests at once: the service writes those that come together in one commit."""
TaskIds = Annotated[
    list[str] | None, Argument(metavar="[ID]...", help="Ids of tasks, or their ends.")
]
Yes = Annotated[bool, Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True, slots=True)
class Verb:
    """A command: its word once it is done, the states that it is for without `--status`, in the
    order in which it takes them, and those that it takes with `--status` only."""

    done: str
    states: tuple[str, ...]
    asked: tuple[str, ...] = ()
    oldest_first: bool = False


VERBS = {
    # What waits goes first, or it would start in the place of what runs.
    "cancel": Verb("cancelled", ("scheduled", "pending", "paused", "running")),
    "pause": Verb("paused", ("scheduled", "pending", "running")),
    "resume": Verb("resumed", ("paused",), oldest_first=True),
    "retry": Verb("retried", ("failed", "cancelled"), ("completed",), oldest_first=True),
}


@app.command(group=THERE)
def cancel(
    task_ids: TaskIds = None,
    which: Filters = ALL,
    yes: Yes = False,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Cancel tasks; running ones are cut off at once.

    With filters in place of ids, such as --status pending --session s: all that are not finished.
    """
    return steer("cancel", Chosen(task_ids, which, yes), as_json, url)


@app.command(group=THERE)
def pause(
    task_ids: TaskIds = None,
    which: Filters = ALL,
    yes: Yes = False,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Hold tasks until `resume`.

    With filters in place of ids, such as --model zhipu: all that wait or run.
    """
    return steer("pause", Chosen(task_ids, which, yes), as_json, url)


@app.command(group=THERE)
def resume(
    task_ids: TaskIds = None,
    decision: Annotated[
        Literal["rerun", "skip", "fail"] | None,
        Option(help="Of an agent whose tool was cut off: what to do with that call."),
    ] = None,
    which: Filters = ALL,
    yes: Yes = False,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Let paused tasks go on.

    With filters in place of ids, such as --session s: all that are paused.
    """
    fields = None if decision is None else {"decision": decision}
    return steer("resume", Chosen(task_ids, which, yes), as_json, url, fields)


@app.command(group=THERE)
def retry(
    task_ids: TaskIds = None,
    which: Filters = ALL,
    yes: Yes = False,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Start finished tasks anew, under the same ids.

    With filters in place of ids, such as --model zhipu: all failed and cancelled ones.
    """
    return steer("retry", Chosen(task_ids, which, yes), as_json, url)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The tasks that a command line names: ids, or filters with a yes or without one."""

    ids: list[str] | None
    filters: Filters
    yes: bool


@dataclass
class Outcome:
    """What became of the tasks of one command."""

    done: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)

    def add(self, task_id: str, answer: dict[str, Any] | Failure) -> None:
        """Take the answer to the command for one task."""
        if isinstance(answer, Failure):
            self.refused.append({"task_id": task_id, "message": str(answer)})
        else:
            self.done.append({name: answer[name] for name in ("task_id", "status")})


def steer(
    verb: str, chosen: Chosen, as_json: bool, url: str | None, fields: dict[str, Any] | None = None
) -> int:
    """Send a command for the chosen tasks, say what became of them, return the exit code."""
    by_filter = chosen.filters != ALL
    if bool(chosen.ids) == by_filter:
        wrong = "ids and filters do not go together" if by_filter else "name tasks"
        raise Failure(f"{wrong}: give ids, or filters such as --status or --session", MISUSED)
    if chosen.ids and len(chosen.ids) == 1:
        return command(chosen.ids[0], verb, as_json, url, fields)
    states = _states(verb, chosen.filters.status)
    if by_filter and not chosen.yes and not has_person():
        raise Failure(
            f"{verb} by a filter asks first, and there is no terminal: add --yes", MISUSED
        )
    with reach(url) as api:
        if not by_filter:
            outcome = _sent(api, verb, [chosen.ids or []], fields)
            return _report(outcome, None, as_json)
        found = _matching(api, VERBS[verb], states, chosen.filters.query)
        if found and not chosen.yes and not _agreed(verb, found):
            say("nothing was changed", sys.stderr)
            return FAILED
        groups = [[i for i, its in found.items() if its == state] for state in states]
        outcome = _sent(api, verb, groups, fields)
    done = f"{VERBS[verb].done} {len(outcome.done)} of {_tasks(len(found))}"
    return _report(outcome, done if found else "no task is let through by the filters", as_json)


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"


def command(
    task_id: str, verb: str, as_json: bool, url: str | None, fields: dict[str, Any] | None = None
) -> int:
    """Send a command for one task and print the state that it then has."""
    with reach(url) as api:
        task = api.command(api.resolve(task_id), verb, fields)
    return print_answer(task, as_json, lambda found: f"{found['task_id']}  {found['status']}")


def _states(verb: str, status: str | None) -> tuple[str, ...]:
    """The states whose tasks are meant. Raises Failure for one that the command is not for."""
    known = VERBS[verb]
    if status is None:
        return known.states
    if status not in (*known.states, *known.asked):
        able = ", ".join((*known.states, *known.asked))
        raise Failure(f"{verb} is not for {status} tasks, but for {able} ones", MISUSED)
    return (status,)


def _matching(
    api: Api, verb: Verb, states: tuple[str, ...], given: Mapping[str, Any]
) -> dict[str, str]:
    """The tasks that the filters let through, with their states, in the order to take those of a
    state.

    A task that moves from one state to another while they are read could be missed in both, so
    several states are read again until nothing is new.
    """
    found: dict[str, str] = {}
    new = True
    while new:
        read = {
            item["task_id"]: state
            for state in states
            for item in api.listed({**given, "status": state})
        }
        new = len(states) > 1 and not read.keys() <= found.keys()
        found |= read
    return dict(sorted(found.items(), reverse=not verb.oldest_first))  # ids begin with the time


def _agreed(verb: str, found: Mapping[str, str]) -> bool:
    """Whether a person says yes to so many tasks."""
    counts = ", ".join(f"{count} {state}" for state, count in Counter(found.values()).items())
    print(
        one_line(f"{verb} {_tasks(len(found))} ({counts})? [y/N] "),
        end="",
        file=sys.stderr,
        flush=True,
    )
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _sent(api: Api, verb: str, groups: list[list[str]], fields: dict[str, Any] | None) -> Outcome:
    """Send the command for each task, several at a time, and a group only when the one before is
    done. A refusal stops none of the others, a service that has gone all of them."""
    outcome, gone = Outcome(), Event()

    def send(task_id: str) -> dict[str, Any] | Failure:
        if gone.is_set():
            return Failure("not tried, as the service has gone")
        try:
            return api.command(api.resolve(task_id), verb, fields)
        except Failure as failure:
            if isinstance(failure, Unreachable):
                gone.set()
            return failure

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for group in groups:
                for task_id, answer in zip(group, pool.map(send, group), strict=True):
                    outcome.add(task_id, answer)
        except KeyboardInterrupt:
            gone.set()
            say(f"stopped; {VERBS[verb].done} {_tasks(len(outcome.done))}", sys.stderr)
            raise
    return outcome


def _report(outcome: Outcome, line: str | None, as_json: bool) -> int:
    """Print what became of the tasks: one line for all, or (None) one for each; refusals to
    stderr."""
    if as_json:
        print_json({"tasks": outcome.done, "refused": outcome.refused})
    elif line is not None:
        say(line)
    else:
        for task in outcome.done:
            say(f"{task['task_id']}  {task['status']}")
    if not as_json:
        for task in outcome.refused:
            say(f"asyncsvc: {task['task_id']}: {task['message']}", sys.stderr)
    return FAILED if outcome.refused else 0
