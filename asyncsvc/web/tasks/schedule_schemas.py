"""The shapes of schedules over HTTP, as types.

Owns their fields, as `schemas.py` does those of tasks, and promises the same. Never says how an
answer is made.
"""

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from asyncsvc.tasks.submission import Submission
from asyncsvc.web.tasks.schemas import Count, Object, TaskId, Time

ScheduleId = Annotated[str, Field(description="a schedule's id")]


Name = Annotated[str, Field(min_length=1, max_length=100)]


class NewSchedule(TypedDict):
    name: NotRequired[
        Annotated[Name | None, Field(description="a known one replaces what its schedule does")]
    ]
    cron: Annotated[str, Field(min_length=1, description="five fields, or six with seconds")]
    timezone: NotRequired[Annotated[str, Field(min_length=1, description="IANA name; UTC")]]
    task: Submission


class Schedule(TypedDict):
    """A recurring task."""

    schedule_id: ScheduleId
    name: Name | None
    cron: str
    timezone: str
    content_preview: str
    created_at: Time
    next_run_at: Time | None
    last_run_at: Time | None
    last_due_at: Annotated[Time | None, Field(description="the time that the last run was for")]
    last_task_id: TaskId | None
    runs: Count
    last_error: Annotated[Object | None, Field(description="why the last run was refused")]


class WholeSchedule(Schedule):
    task: Object


class AllSchedules(TypedDict):
    schedules: list[Schedule]
