"""The HTTP routes of tasks and models.

Owns the translation between requests and the engine's verbs. Promises the contract's answers
and codes. Never keeps anything between two requests.
"""

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response

from asyncsvc.access import Permission
from asyncsvc.errors import InvalidRequest, RequestError
from asyncsvc.loop_turns import PART
from asyncsvc.storage.database import goes_by_index
from asyncsvc.tasks.state import WAITING, State, Task
from asyncsvc.tasks.submission import Lane, Submission
from asyncsvc.tasks.trace import of_headers
from asyncsvc.tasks.unknown_fields import TASK
from asyncsvc.web.http import body, errors
from asyncsvc.web.http.errors import JSON
from asyncsvc.web.http.resources import caller, operation, resource
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.http.streaming import LIVE, Streamed, begun, for_client, place
from asyncsvc.web.tasks import schemas, sse, views, whole_task
from asyncsvc.web.tasks.queue_order import in_queue_order
from asyncsvc.web.tasks.schemas import BATCH_MOST, KEY_MOST, PAGE_MOST

PATH = "/tasks"
ADMISSION = ("model_not_found", "queue_full", "no_model", "overloaded", "shutting_down")
"""Codes of a submit that is not taken."""
PAGE_DEFAULT = 50
ID_CHARS = 36
"""Characters of a whole id."""
CHOICES: dict[str, tuple[str, tuple[str, ...]]] = {
    "state": ("status", tuple(state.value for state in State)),
    "lane": ("lane", get_args(Lane)),
    "type": ("type", get_args(Submission.model_fields["type"].annotation)),
    "waiting_for": ("waiting_for", tuple(WAITING.values())),
}
"""Filters that have few values: another one is a typo."""
SEVERAL = frozenset({"status", "lane", "type"})
"""Filters that may be given several times: any of the values fits."""
ORDERS = get_args(get_args(schemas.Order)[0])
S = TypeVar("S", bound=BaseModel)


def parse(value: dict[str, Any], prefix: str = "") -> Submission:
    """One task's fields. Raises InvalidRequest."""
    return parse_as(Submission, value, prefix)


def parse_as(kind: type[S], value: dict[str, Any], prefix: str = "") -> S:
    """The fields of a body, as a model of that kind. Raises InvalidRequest."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        of = TASK if issubclass(kind, Submission) else "field of this request"
        raise errors.invalid(error, prefix, kind.model_fields, of) from None


def read(data: bytes) -> Submission:
    """The task in a body. Raises RequestError."""
    return parse(body.as_object(data))


@operation(
    scope=Permission.SUBMIT,
    answer=schemas.Accepted,
    status=202,
    body=Submission,
    example={"content": "What is HTTP?", "priority": 7},
    headers=schemas.SubmitHeaders,
    errors=(*ADMISSION, "idempotency_conflict"),
    also={200: "the first answer again, for an Idempotency-Key that was used before"},
    gives=("Location",),
)
async def submit(request: Request) -> Response:
    """POST /tasks: submit a task.

    The answer is sent when the task is on the disk.
    """
    parts = services(request)
    parts.intake.turn_away()
    key = idempotency_key(request.headers)
    limit = parts.settings.queue.max_task_bytes
    async with body.ReceivedBody(request, limit, parts.bodies) as (data, aside):
        submission = await aside(read, data)
        owner = caller(request).owner
        trace = of_headers(request.headers) if "traceparent" in request.headers else None
        accepted = await parts.intake.submit(submission, owner, key, aside, trace=trace)
    headers = {"location": f"{PATH}/{accepted.task_id}"}
    return JSON(accepted.answer, 200 if accepted.repeated else 202, headers)


def idempotency_key(headers: Headers) -> str | None:
    """The key of a request that any route has. Raises InvalidRequest."""
    key = headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= KEY_MOST:
        raise InvalidRequest(
            f"Idempotency-Key must have 1 to {KEY_MOST} characters", param="Idempotency-Key"
        )
    return key


@operation(
    scope=Permission.SUBMIT,
    answer=schemas.AcceptedAll,
    status=202,
    body=schemas.Batch,
    headers=schemas.SubmitHeaders,
    errors=(*ADMISSION, "idempotency_conflict"),
    also={200: "the first answer again, for an Idempotency-Key that was used before"},
    example={"tasks": [{"content": "What is HTTP?"}, {"content": "And what is HTTPS?"}]},
)
async def submit_batch(request: Request) -> Response:
    """POST /tasks/batch: submit up to 1000 tasks, all or none."""
    parts = services(request)
    parts.intake.turn_away()
    key = idempotency_key(request.headers)
    limit = parts.settings.queue.max_task_bytes
    async with body.ReceivedBody(request, limit, parts.bodies) as (data, aside):
        tasks, owner = await aside(_tasks_of, data), caller(request).owner
        if key is None:  # the answer to a known key needs no room
            parts.intake.turn_many_away(owner, len(tasks))
        numbered = list(enumerate(tasks))
        submissions = await parts.turns.of_parts(lambda part: aside(_read_part, part), numbered)
        try:
            trace = of_headers(request.headers)
            accepted = await parts.intake.submit_all(submissions, owner, key, aside, trace=trace)
        except RequestError as error:
            if error.at is not None and error.param is not None:
                error.param = f"tasks.{error.at}.{error.param}"
            raise
    answers = [{"task_id": one.task_id, "status": one.answer["status"]} for one in accepted]
    return JSON({"tasks": answers}, status_code=200 if accepted[0].repeated else 202)


def _tasks_of(data: bytes) -> list[Any]:
    """The tasks of a batch, unread. Raises RequestError."""
    value = body.as_object(data)
    errors.check_names(value, schemas.Batch.__annotations__, "field of a batch")
    tasks = value.get("tasks")
    if not isinstance(tasks, list) or not 1 <= len(tasks) <= BATCH_MOST:
        raise InvalidRequest(f"tasks must be a list of 1 to {BATCH_MOST} tasks", param="tasks")
    return tasks


def _read_part(tasks: Sequence[tuple[int, Any]]) -> list[Submission]:
    """Some tasks of a batch, by their numbers. Raises InvalidRequest."""
    submissions = []
    for index, one in tasks:
        if not isinstance(one, dict):
            raise InvalidRequest(f"tasks.{index} must be an object", param=f"tasks.{index}")
        submissions.append(parse(one, f"tasks.{index}."))
    return submissions


@operation(
    scope=Permission.READ,
    answer=schemas.Routing,
    body=Submission,
    errors=("model_not_found", "no_model"),
    example={"content": "Prove that there are infinitely many primes."},
)
async def route(request: Request) -> Response:
    """POST /route: how a task would be routed; nothing is stored."""
    parts = services(request)
    limit = parts.settings.queue.max_task_bytes
    async with body.ReceivedBody(request, limit, parts.bodies) as (data, aside):
        submission = await aside(read, data)
        return JSON(await parts.intake.route(submission, aside))


@operation(scope=Permission.READ, answer=schemas.WholeTask, errors=("task_not_found",))
async def show(request: Request) -> Response:
    """GET /tasks/{id}: one task with its texts.

    The result of an unfinished one is the text so far.
    """
    parts = services(request)
    task = await parts.task(caller(request), request.path_params["task_id"])
    return await whole_task.answer(parts, task, request.method)


@operation(scope=Permission.READ, answer=schemas.Page, query=schemas.ListQuery)
async def listing(request: Request) -> Response:
    """GET /tasks: the tasks, newest first.

    With `order=queue` those that are not finished: running, then waiting with the next first, then
    paused. With `order=ended` the finished ones, the latest end first. Both are one page.
    """
    query = request.query_params
    errors.check_query(query, schemas.ListQuery.__annotations__, "filter", SEVERAL)
    limit = integer(query.get("limit"), "limit", PAGE_DEFAULT, 1, PAGE_MOST)
    where = _filters(query)
    if (waiting_for := where.pop("waiting_for", None)) is not None:
        where["error_code"] = next(code for code, kind in WAITING.items() if kind == waiting_for)
    if len(where.get("id_ends", "")) >= ID_CHARS:
        where["id"] = where.pop("id_ends")  # it has an index
    parts = services(request)
    if (only := caller(request).only) is not None:
        if where.get("owner", only) != only:
            return JSON({"tasks": [], "next_cursor": None})
        where["owner"] = only
    order, model = query.get("order") or "newest", query.get("model")
    read = partial(_page, request, where, limit)
    if query.get("q") or not goes_by_index(where, model, order == "ended"):
        # It may take seconds, for which no list waits; where its client leaves, it is stopped.
        return JSON(await for_client(request.receive, read))
    async with nullcontext() if limit <= PART else place(request.receive, parts.long_reads):
        return JSON(await read())


async def _page(request: Request, where: dict[str, Any], limit: int) -> dict[str, Any]:
    """A page of at most `limit` tasks, which the filters `where` let through."""
    parts, query = services(request), request.query_params
    order, text, model = query.get("order") or "newest", query.get("q"), query.get("model")
    named = model and parts.catalogue.name_of(model)
    before = _before(query.get("cursor"), parts.journal.newest)
    if order not in ORDERS:
        raise InvalidRequest(f"order must be one of {', '.join(ORDERS)}", param="order")
    if before is not None and order != "newest":
        raise InvalidRequest("cursor goes with the order newest only", param="cursor")
    if order == "queue":
        await for_client(request.receive, parts.turns.next)
        found = in_queue_order(parts, where, named, text, limit)
        rows: list[tuple[Task, str | None]] = [(task, None) for task in found]
    else:
        ended = order == "ended"
        rows = await parts.journal.store.page(where, named, text, before, limit + 1, ended)
    shown, more = rows[:limit], len(rows) > limit and order == "newest"
    following = _cursor(shown[-1][0].n) if more else None
    items = await parts.turns.of_each(lambda row: views.item(parts, *row), shown)
    return {"tasks": items, "next_cursor": following}


def _filters(query: QueryParams) -> dict[str, Any]:
    """The filters of a list by column, several values as a tuple. Raises InvalidRequest."""
    where: dict[str, Any] = {}
    for name in ("status", "lane", "session_id", "type", "owner", "waiting_for", "id_ends"):
        if values := tuple(dict.fromkeys(filter(None, query.getlist(name)))):
            where[{"status": "state"}.get(name, name)] = values[0] if len(values) == 1 else values
    for column, (name, known) in CHOICES.items():
        given = where.get(column, ())
        if not {*((given,) if isinstance(given, str) else given)} <= {*known}:
            raise InvalidRequest(f"{name} must be one of {', '.join(known)}", param=name)
    return where


@operation(scope=Permission.READ, answer=schemas.Stats)
async def stats(request: Request) -> Response:
    """GET /tasks/stats: how many tasks are where."""
    parts, asker = services(request), caller(request)
    await for_client(request.receive, parts.turns.next)
    totals = {"total": 0} | {state.value: 0 for state in State} | dict.fromkeys(WAITING, 0)
    for task in parts.journal.live.values():
        if (kind := task.waiting_for) is not None and asker.sees(task.request.owner):
            totals[f"needs_{kind}"] += 1
    models: dict[str, dict[str, int]] = {}
    without = {state.value: 0 for state in State}
    async with place(request.receive, parts.long_reads):
        counts = await parts.journal.store.counts(asker.only)
    for name, state, count in counts:
        totals["total"] += count
        totals[state] += count
        of_model = without
        if name is not None:
            of_model = models.setdefault(name, {s.value: 0 for s in State})
        of_model[state] += count
    return JSON(totals | {"models": models, "without_model": without})


@operation(scope=Permission.SUBMIT, status=204, errors=("task_not_found", "illegal_transition"))
async def delete(request: Request) -> Response:
    """DELETE /tasks/{id}: remove a finished task and its events."""
    parts = services(request)
    task = await parts.task(caller(request), request.path_params["task_id"])
    await parts.control.delete(task.id)
    return Response(status_code=204)


@operation(
    scope=Permission.READ,
    answer=schemas.Event,
    media=("application/x-ndjson", "text/event-stream"),
    query=schemas.EventsQuery,
    headers=schemas.EventsHeaders,
    errors=("task_not_found",),
    also={204: "a stream that has nothing more to tell"},
)
async def events(request: Request) -> Response:
    """GET /tasks/{id}/events: what happened to a task, as JSON lines or live.

    With `Accept: text/event-stream` a stream that ends with the task; `Last-Event-ID` resumes it.
    """
    parts, task_id = services(request), request.path_params["task_id"]
    live = "text/event-stream" in request.headers.get("accept", "")
    # An EventSource that has seen no id sends none, and some send an empty one.
    last = request.headers.get("last-event-id") or None if live else None
    task = await parts.task(caller(request), task_id)
    errors.check_query(request.query_params, schemas.EventsQuery.__annotations__, None)
    after = cursor(last or request.query_params.get("after"), "after", task.seq)
    kind = "text/event-stream" if live else "application/x-ndjson"
    if request.method == "HEAD":
        return Response(media_type=kind)  # the stream has no reader, so it must not run
    if not live:
        return Streamed(await begun(_lines(parts, task.n, task_id, after)), media_type=kind)
    if last is not None and task.finished and after == task.seq:
        return Response(status_code=204)  # tells an EventSource not to come back
    live_events = sse.stream(parts, caller(request), task_id, after)
    return Streamed(live_events, media_type=kind, headers=LIVE)


async def _lines(parts: Services, n: int, task_id: str, after: int) -> AsyncIterator[str]:
    while rows := await parts.journal.store.events(n, after):
        after = rows[-1].seq
        yield "".join(f"{row.event(task_id).wire}\n" for row in rows)


def integer(text: str | None, name: str, default: int, least: int, most: int | None) -> int:
    """A whole number of the query; raises InvalidRequest."""
    if text is None or text == "":
        return default
    allowed = f"{name} must be a whole number from {least}" + (f" to {most}" if most else "")
    if not (text.isascii() and text.removeprefix("-").isdigit()):
        raise InvalidRequest(f"{allowed}, got {text[:40]!r}", param=name)
    value = int(text[:40])
    if value < least or value > (most or (1 << 62)):
        raise InvalidRequest(f"{allowed}, got {text[:40]!r}", param=name)
    return value


def cursor(text: str | None, name: str, last: int, default: int = 0) -> int:
    """A number that a client has been given, the `last` one at most. Raises InvalidRequest."""
    if text is None:
        return default
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else -1
    if 0 <= value <= last and str(value) == text:
        return value
    raise InvalidRequest(
        f"{name}: {text[:40]!r} is not one of our cursors, which are whole numbers; the last one "
        f"is {last}",
        param=name,
    )


def _cursor(n: int) -> str:
    """The cursor behind the task of that number."""
    return base64.urlsafe_b64encode(str(n).encode()).decode().rstrip("=")


def _before(given: str | None, newest: int) -> int | None:
    """The number of the task that a cursor of ours stands behind. Raises InvalidRequest."""
    if given is None:
        return None
    try:
        n = int(base64.urlsafe_b64decode(given[:80] + "=" * (-len(given[:80]) % 4)))
    except (ValueError, UnicodeEncodeError):
        n = 0
    if 0 < n <= newest and _cursor(n) == given:
        return n
    raise InvalidRequest(f"cursor: {given[:40]!r} is not one of our cursors", param="cursor")


ROUTES = [
    resource("/tasks", POST=submit, GET=listing),
    resource("/tasks/batch", POST=submit_batch),
    resource("/tasks/stats", GET=stats),
    resource("/tasks/{task_id}", GET=show, DELETE=delete),
    resource("/tasks/{task_id}/events", GET=events),
    resource("/route", POST=route),
]
"""In this order: `/tasks/stats` is no task's id."""
