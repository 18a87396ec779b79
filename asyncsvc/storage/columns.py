"""Tasks as rows of the database.

Owns the columns of `tasks`: one table of them makes the inserts, the updates, the selects, the
rows of a task and the task of a row. A new field of a task is declared in three places: the
dataclass in `tasks/state.py`, a line of `COLUMNS` here, and a migration that adds the column.
Never executes anything.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import orjson

from asyncsvc.errors import DatabaseDamaged
from asyncsvc.storage.entries import loads
from asyncsvc.tasks.state import EventType, Request, State, Task


def dumps(value: Any) -> str | None:
    """JSON text, or None for None."""
    return None if value is None else orjson.dumps(value).decode()


_STATES = {state.value: state for state in State}


def _state(text: str) -> State:
    if (state := _STATES.get(text)) is None:
        raise DatabaseDamaged("the database is damaged: a task is in no state that there is")
    return state


class Kind(NamedTuple):
    """How a field's value is written to its column and read from it; None: as it is."""

    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None


PLAIN = Kind()
JSON = Kind(dumps, lambda text: None if text is None else loads(text))
FLAG = Kind(int, bool)
FLAG_OR_NULL = Kind(lambda value: int(value) or None, bool)
"""NULL for False: the column was added to tables that had rows."""
TRI_STATE = Kind(
    lambda value: None if value is None else int(value),
    lambda value: None if value is None else bool(value),
)
STATE = Kind(str, _state)
MARKS = Kind(
    lambda marks: dumps(marks) if marks else None,
    lambda text: () if text is None else tuple(map(tuple, loads(text))),
)

USUAL, RARE = "usual", "rare"
"""What a new task's row is given: a usual column always, a rare one only where some task of the
insert has a value in a rare column. All other columns have a constant in every new row."""


class Column(NamedTuple):
    """A column of `tasks`. `field` is the path of the attribute from the task; `new` is USUAL,
    RARE, or the SQL constant in the row of a new task."""

    name: str
    field: str
    kind: Kind = PLAIN
    new: str = "NULL"
    missing: str = "NULL"
    """The SQL constant of a rare column that is left out."""


COLUMNS = (
    Column("id", "request.id", new=USUAL),
    Column("type", "request.type", new=USUAL),
    Column("lane", "request.lane", new=USUAL),
    Column("priority", "request.priority", new=USUAL),
    Column("wanted_model", "request.model", new=USUAL),
    Column("session_id", "request.session_id", new=RARE),
    Column("owner", "request.owner", new=USUAL),
    Column("run_at", "request.run_at", new=RARE),
    Column("timeout_s", "request.timeout_s", new=RARE),
    Column("max_retries", "request.max_retries", new=RARE),
    Column("retry_unsafe", "request.retry_unsafe", FLAG, new=RARE, missing="0"),
    Column("cache", "request.cache", TRI_STATE, new=RARE),
    Column("cache_key", "request.cache_key", new=RARE),
    Column("user_metadata", "request.user_metadata", JSON, new=RARE),
    Column("preview", "request.preview", new=USUAL),
    Column("decision", "request.route", JSON, new=USUAL),
    Column("need", "request.need", new=USUAL),
    Column("created_at", "request.created_at", new=USUAL),
    Column("tokens", "request.tokens", new=USUAL),
    Column("schedule_id", "request.schedule_id", new=RARE),
    Column("callback_url", "request.callback_url", new=RARE),
    Column("delayed", "request.delayed", FLAG_OR_NULL, new=RARE),
    Column("traceparent", "request.traceparent", new=RARE),
    Column("tracestate", "request.tracestate", new=RARE),
    Column("n", "n", new=USUAL),
    Column("state", "state", STATE, new=USUAL),
    Column("attempts", "attempts", new="0"),
    Column("forgiven", "forgiven", new="0"),
    Column("starts", "starts", new="0"),
    Column("version", "version", new="1"),
    Column("queued_at", "queued_at", new=USUAL),
    Column("updated_at", "updated_at", new=USUAL),
    Column("started_at", "started_at"),
    Column("finished_at", "finished_at"),
    Column("next_run_at", "next_run_at", new=RARE),
    Column("name", "name"),
    Column("model", "model"),
    Column("route", "own_route", JSON),
    Column("usage", "usage", JSON),
    Column("latency", "latency"),
    Column("cached", "cached", FLAG, new="0"),
    Column("error", "error", JSON),
    Column("finish_reason", "finish_reason"),
    Column("finish_reason_raw", "finish_reason_raw"),
    Column("closed_ms", "closed_ms"),
    Column("marks", "marks", MARKS),
    Column("steps", "steps", new="0"),
    Column("tool_calls", "tool_calls", new="0"),
    Column("node", "node"),
    Column("epoch", "epoch", new="0"),
    Column("lease_until", "lease_until"),
)

_REQUEST = "request."
TASK_COLUMNS = tuple(column.name for column in COLUMNS)
CHANGING = tuple(c for c in COLUMNS if c.name != "n" and not c.field.startswith(_REQUEST))
"""The columns that a change of the task may touch."""
_USUAL = tuple(column for column in COLUMNS if column.new is USUAL)
_RARE = tuple(column for column in COLUMNS if column.new is RARE)

INSERT_TASK = f"INSERT INTO tasks ({', '.join(TASK_COLUMNS)})"
UPDATE_TASK = (
    f"UPDATE tasks SET {', '.join(f'{column.name} = ?' for column in CHANGING)} "
    "WHERE n = ? AND version = ? AND epoch = ?"
)
SELECT_TASK = f"SELECT {', '.join(f'tasks.{name}' for name in TASK_COLUMNS)}"
RESULT = (
    "iif(results.rest > 0, result || (SELECT group_concat(part, '') FROM (SELECT part "
    "FROM result_parts WHERE result_parts.task_n = results.task_n ORDER BY at)), result)"
)
"""A whole result, of a row of `results`."""
BODY = (
    "iif(bodies.rest > 0, CAST(CAST(body AS TEXT) || (SELECT group_concat(CAST(part AS TEXT), '') "
    "FROM (SELECT part FROM body_parts WHERE body_parts.task_id = tasks.id ORDER BY at)) AS BLOB), "
    "body)"
)
"""A whole body, of a row of `bodies` beside that of its task."""


class _Values:
    """The values of some columns, of which those of the request come first."""

    def __init__(self, columns: Sequence[Column]) -> None:
        paths = [column.field for column in columns]
        asked = [path.removeprefix(_REQUEST) for path in paths if path.startswith(_REQUEST)]
        # Two getters of short paths: a getter of long ones takes three times as long. A getter
        # of fewer than two names gives no tuple.
        self._of_request = attrgetter(*asked) if asked else lambda request: ()
        own = paths[len(asked) :]
        self._of_task = attrgetter(*own) if len(own) > 1 else lambda task: (getattr(task, own[0]),)
        self._encoders = [
            (i, c.kind.encode) for i, c in enumerate(columns) if c.kind.encode is not None
        ]

    def of(self, task: Task) -> tuple[Any, ...]:
        """As they are in the task."""
        return (*self._of_request(task.request), *self._of_task(task))

    def row(self, task: Task) -> list[Any]:
        """As they are in the database."""
        found = [*self._of_request(task.request), *self._of_task(task)]
        for i, encode in self._encoders:
            found[i] = encode(found[i])
        return found


task_row = _Values(COLUMNS).row
"""The values of TASK_COLUMNS."""
changing_row = _Values(CHANGING).row
"""The values of CHANGING."""
usual_row = _Values(_USUAL).row
_rare_values = _Values(_RARE)
_NOTHING_RARE = _rare_values.of(Task(Request("")))


def rare_row(task: Task) -> list[Any] | None:
    """The values of a new task's rare columns; None where it has none of them."""
    found = _rare_values.of(task)
    return None if found == _NOTHING_RARE else _rare_values.row(task)


_WIDTH = len(COLUMNS)
_DECODERS = [(i, c.kind.decode) for i, c in enumerate(COLUMNS) if c.kind.decode is not None]
_AT = {column.field: i for i, column in enumerate(COLUMNS)}
_AT |= {"route": _AT["own_route"], "request": _WIDTH, "seq": _WIDTH + 1}
_REQUEST_FIELDS = itemgetter(*(_AT[_REQUEST + field.name] for field in fields(Request)))
_TASK_FIELDS = itemgetter(*(_AT[field.name] for field in fields(Task)))


def task_of(row: Any, seq: int) -> Task:
    """The task of a row that begins with TASK_COLUMNS. Raises DatabaseDamaged."""
    values = list(row[:_WIDTH])
    for i, decode in _DECODERS:
        values[i] = decode(values[i])
    request = Request(*_REQUEST_FIELDS(values))
    if values[_AT["route"]] is None:
        values[_AT["route"]] = request.route
    values += (request, seq)
    return Task(*_TASK_FIELDS(values))


# New tasks: many of them, each with its body and its first event, in one statement. ------------

NEW_TASKS = "new_tasks"
_OF_EVENT = ("body", "event_id", "event_data")
_USUAL_NEW = (*(column.name for column in _USUAL), *_OF_EVENT)
_ALL_NEW = (*_USUAL_NEW, *(column.name for column in _RARE))
INSERT_USUAL, INSERT_RARE = (
    f"INSERT INTO {NEW_TASKS} ({', '.join(columns)})" for columns in (_USUAL_NEW, _ALL_NEW)
)
"""Rows of `usual_row`, body, event's id and data; the second with `rare_row` behind them."""
NOTHING_RARE = (None,) * len(_RARE)


def _new_value(column: Column) -> str:
    """The SQL of a new row's value within the trigger."""
    if column.new is USUAL:
        return f"NEW.{column.name}"
    if column.new is RARE:
        return f"COALESCE(NEW.{column.name}, {column.missing})"
    return column.new


CREATE_NEW_TASKS = (
    f"CREATE TEMP VIEW {NEW_TASKS} ({', '.join(_ALL_NEW)}) AS "
    f"SELECT {', '.join(['NULL'] * len(_ALL_NEW))}",
    f"""CREATE TEMP TRIGGER insert_new_task INSTEAD OF INSERT ON {NEW_TASKS} BEGIN
    {INSERT_TASK} VALUES ({", ".join(_new_value(column) for column in COLUMNS)});
    INSERT INTO bodies (task_n, body) VALUES (NEW.n, NEW.body);
    INSERT INTO events VALUES
        (NEW.event_id, NEW.n, 1, '{EventType.STATUS}', NEW.updated_at, NEW.event_data);
    END""",
)
"""The view that the inserts go into; made once on each connection that writes."""
