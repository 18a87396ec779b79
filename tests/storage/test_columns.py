"""Rows and tasks are the same thing twice."""

from dataclasses import fields, replace

import orjson
import pytest

from asyncsvc.storage.columns import (
    CHANGING,
    COLUMNS,
    TASK_COLUMNS,
    changing_row,
    dumps,
    rare_row,
    task_of,
    task_row,
)
from asyncsvc.storage.entries import EventRow, event_json
from asyncsvc.tasks.state import Request, State, Task

FULL = Task(
    Request(
        "t1", "embedding", "m", "long", 9, "s", "o", 5, 1.5, 2, True, False, "k", {"a": [1]}, "好",
        {"class": "batch"}, 11, 7, 3, "daily", "https://h",
    ),
    State.FAILED, 4, 3, 5, 0, 6, 10, 11, 12, 13, 14, "m", "m-1", {"why": 1}, {"n": 2}, 0.25, True,
    {"code": "x"},
)  # fmt: skip


@pytest.mark.parametrize("task", [FULL, Task(Request("t2"))], ids=["full", "bare"])
def test_a_task_comes_back_from_its_row_as_it_was(task: Task) -> None:
    row = task_row(task)
    assert len(row) == len(TASK_COLUMNS)
    assert task_of(row, 8) == replace(task, seq=8)


@pytest.mark.parametrize("cache", [None, True, False])
def test_cache_may_be_left_open(cache: bool | None) -> None:
    task = replace(FULL, request=replace(FULL.request, cache=cache))
    assert task_of(task_row(task), 0).request.cache is cache


def test_columns_after_the_task_s_own_are_left_alone() -> None:
    row = (*task_row(FULL), "preview", 99)
    assert task_of(row, 0) == FULL


def test_each_field_of_a_task_has_one_column() -> None:
    declared = sorted(column.field for column in COLUMNS)
    request = [f"request.{field.name}" for field in fields(Request)]
    own = [field.name for field in fields(Task) if field.name not in ("request", "seq", "route")]
    assert declared == sorted([*request, *own, "own_route"])
    assert len(changing_row(FULL)) == len(CHANGING)


def test_a_new_task_without_a_rare_value_has_no_rare_row() -> None:
    assert rare_row(Task(Request("t1"))) is None
    assert rare_row(Task(Request("t1", run_at=5))) is not None


def test_an_event_on_the_wire_is_json_with_the_time_in_words() -> None:
    event = EventRow(9, 3, 2, "chunk", 1_763_629_200_123, '{"text":"\\u2028 好"}').event("t1")
    assert (event.id, event.task_id, event.seq, event.type) == (9, "t1", 2, "chunk")
    assert orjson.loads(event.wire) == {
        "id": 9,
        "task_id": "t1",
        "seq": 2,
        "type": "chunk",
        "ts": "2025-11-20T09:00:00.123Z",
        "data": {"text": "\u2028 好"},
    }


def test_nothing_is_not_the_word_null() -> None:
    assert dumps(None) is None
    assert dumps({}) == "{}"


def test_an_event_tells_when_a_task_is_due_in_words() -> None:
    data = {"status": "scheduled", "next_run_at": 1_763_629_200_123}
    assert orjson.loads(event_json(data)) == data | {"next_run_at": "2025-11-20T09:00:00.123Z"}
    assert data["next_run_at"] == 1_763_629_200_123
    assert orjson.loads(event_json({"text": "好"})) == {"text": "好"}
