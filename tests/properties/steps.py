"""What can happen to a service, as data: a story is a list of steps.

Owns the steps and how hypothesis draws them. Promises that a step means something wherever it
stands in a story (tasks are named by their place, the newest being 0, counted round), so
that any part of a story is a story, and that its repr can be pasted as an example.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal

from hypothesis import strategies as st

How = Literal["wait", "later", "leave"]
"""Wait for the answer; go on meanwhile; or hang up before it comes."""


class _Step:
    def __repr__(self) -> str:
        fields_set = [
            f"{field.name}={value!r}"
            for field in fields(self)  # type: ignore[arg-type]
            if (value := getattr(self, field.name)) != field.default
        ]
        return f"{type(self).__name__}({', '.join(fields_set)})"


@dataclass(frozen=True, repr=False)
class Submit(_Step):
    """`count` above 1 is a batch. `shared` ones ask all the same, and take each other's answer."""

    model: str | None = "a"
    lane: str = "short"
    priority: int = 5
    session: str | None = None
    delay_s: float | None = None
    max_retries: int | None = None
    timeout_s: float | None = None
    shared: bool = False
    keyed: bool = False
    owner: str | None = None
    count: int = 1
    how: How = "wait"


@dataclass(frozen=True, repr=False)
class Repeat(_Step):
    """A submit once more with its Idempotency-Key; `other`: with another body."""

    task: int = 0
    other: bool = False
    how: How = "wait"


@dataclass(frozen=True, repr=False)
class Do(_Step):
    """A verb on a task: 0 is the one that was submitted last."""

    verb: str = "cancel"
    task: int = 0
    how: How = "wait"


@dataclass(frozen=True, repr=False)
class Hold(_Step):
    """A model is paused; `free`: let go."""

    model: str = "a"
    free: bool = False
    how: How = "wait"


@dataclass(frozen=True, repr=False)
class Tick(_Step):
    """Time passes."""

    seconds: float = 1.0


@dataclass(frozen=True, repr=False)
class Turn(_Step):
    """No time passes, but the loop turns so often: whatever is under way comes a little further."""

    times: int = 1


@dataclass(frozen=True, repr=False)
class Fault(_Step):
    """The next `count` calls of the provider go wrong in this way."""

    kind: str = "overloaded"
    count: int = 1


@dataclass(frozen=True, repr=False)
class Crash(_Step):
    """The process is gone; `power`: and what was not synced with it."""

    power: bool = False


@dataclass(frozen=True, repr=False)
class Restart(_Step):
    """SIGTERM, and started again."""

    grace_s: float = 0.0


Step = Submit | Repeat | Do | Hold | Tick | Turn | Fault | Crash | Restart


@dataclass(frozen=True)
class Story:
    """`turns`: how many turns of the loop the database lets pass before it answers."""

    steps: list[Step]
    turns: int = 1


KINDS = [
    "slow_down", "slow_down_7", "overloaded", "overloaded_3", "hang", "stall", "cut", "empty",
    "filtered", "rejected", "slow", "thinking", "bug", "denied", "page", "quota_9",
]  # fmt: skip

_how = st.sampled_from(["wait", "wait", "later", "leave"])
_models = st.sampled_from(["a", "b", None])
_sessions = st.sampled_from([None, "s"])


def _submits(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(Submit, model=_models, how=_how, **fields)


def _verb(verb: str) -> st.SearchStrategy[Any]:
    return st.builds(Do, verb=st.just(verb), task=st.integers(0, 3), how=_how)


def _ticks(*seconds: float) -> st.SearchStrategy[Any]:
    return st.builds(Tick, seconds=st.sampled_from(seconds))


def _faults(*counts: int) -> st.SearchStrategy[Any]:
    return st.builds(Fault, kind=st.sampled_from(KINDS), count=st.sampled_from(counts))


_first = _submits(
    lane=st.sampled_from(["short", "priority", "long"]), priority=st.sampled_from([5, 0, 9])
)
_steps: st.SearchStrategy[Any] = st.one_of(
    _first,
    _submits(session=st.sampled_from(["s", "t"]), max_retries=st.sampled_from([None, 0, 1])),
    _submits(delay_s=st.sampled_from([5.0, 40.0]), session=_sessions),
    _submits(timeout_s=st.sampled_from([3.0, 20.0]), max_retries=st.sampled_from([None, 5])),
    _submits(keyed=st.just(True), session=_sessions),
    _submits(count=st.integers(2, 4), session=_sessions, owner=st.sampled_from([None, "u"])),
    st.builds(Submit, shared=st.just(True), max_retries=st.sampled_from([None, 0]), how=_how),
    st.builds(Submit, shared=st.just(True), session=st.just("s"), how=_how),
    st.builds(Repeat, task=st.integers(0, 3), other=st.booleans(), how=_how),
    *[_verb(verb) for verb in ("cancel", "pause", "resume", "retry", "resume", "retry", "delete")],
    st.builds(Hold, model=st.sampled_from(["a", "b"]), free=st.booleans(), how=_how),
    _ticks(1.0, 0.25, 0.5),
    _ticks(3.0, 7.0),
    _ticks(3.0, 21.0, 70.0),
    st.builds(Turn, times=st.integers(1, 12)),
    _faults(1),
    _faults(1, 2, 4),
    st.builds(Crash, power=st.booleans()),
    st.builds(Restart, grace_s=st.sampled_from([0.0, 2.0, 30.0])),
)
"""Each line is drawn as often as any other."""
_part = st.lists(_steps, max_size=14)
stories: st.SearchStrategy[Story] = st.builds(
    lambda parts, turns: Story([step for part in parts for step in part], turns),
    st.tuples(st.lists(_first, min_size=1, max_size=3), _part, _part, _part),
    st.integers(0, 3),
)
