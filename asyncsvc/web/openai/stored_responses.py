"""Stored responses: as they stand now, and as the beginning of the next request.

Owns what a request to `/v1/responses` means together with the responses that came before. Promises
that a response which was not to be stored is not found. Never submits.
"""

from functools import partial
from typing import Any

import orjson
from starlette.datastructures import Headers

from asyncsvc.errors import Conflict, InvalidRequest
from asyncsvc.storage.entries import loads
from asyncsvc.tasks.state import State
from asyncsvc.tasks.submission import Submission
from asyncsvc.web.http.state import Services
from asyncsvc.web.openai import asking, fields
from asyncsvc.web.openai.items import Messages, chat_messages
from asyncsvc.web.openai.references import References, refers
from asyncsvc.web.openai.response_request import Asked, CreateResponse, read
from asyncsvc.web.openai.response_stream import PREFIX, Telling

Object = dict[str, Any]


async def as_told(parts: Services, task_id: str, kept: Object) -> Telling:
    """The response as far as its journal goes now."""
    task, telling = await parts.journal.task(task_id), Telling(task_id, kept)
    seq, store = 0, parts.journal.store
    while rows := await store.events(task.n, seq):
        for row in rows:
            telling.take(orjson.loads(row.event(task_id).wire))
        seq = rows[-1].seq
    return telling


async def find(parts: Services, wanted: str) -> tuple[str, Object] | None:
    if not wanted.startswith(PREFIX):
        return None
    task_id = wanted.removeprefix(PREFIX)
    kept = await parts.journal.store.response_request(task_id)
    return None if kept is None or kept.get("store") is False else (task_id, kept)


async def understood(
    parts: Services, given: Object, headers: Headers
) -> tuple[CreateResponse, Submission, Object]:
    """A body as what it asks for, as a task, and as what is kept of it. Raises RequestError."""
    given = fields.present(given)
    queued = fields.queued(given, headers)
    if "metadata" in queued:
        given["metadata"] = queued["metadata"]
    asked = await with_history(parts, given)
    wanted = asked.wanted
    if wanted.background and wanted.store is False:
        raise InvalidRequest("a background response needs store: true", param="store")
    submission = asking.submission(
        asking.named(wanted.model) | {"messages": asked.messages, "params": asked.params} | queued,
        asked.notes,
    )
    return wanted, submission, asked.kept


async def with_history(parts: Services, given: Object) -> Asked:
    """A body together with the responses and items that it names. Raises RequestError."""
    earlier = await _earlier(parts, previous := given.get("previous_response_id"))
    if refers(given.get("input")):
        known = await _behind(parts, previous)
        resolved = await References(partial(_output, parts), known).resolved(given["input"])
        given = given | {"input": resolved}
    return read(given, earlier)


async def _behind(parts: Services, previous: Any) -> frozenset[str]:
    """The tasks of a response and of all that came before it."""
    known = set()
    while isinstance(previous, str) and (found := await find(parts, previous)) is not None:
        task_id, kept = found
        known.add(task_id)
        previous = kept.get("previous_response_id")
    return frozenset(known)


async def _earlier(parts: Services, previous: Any) -> Messages:
    """What was said up to a response, its instructions left out. Raises InvalidRequest."""
    if not isinstance(previous, str):
        return []
    found = await find(parts, previous)
    if found is None:
        raise InvalidRequest(
            f"there is no response {previous[:80]!r}", param="previous_response_id"
        )
    task_id, kept = found
    task = await parts.journal.task(task_id)
    if task.state is not State.COMPLETED:
        raise Conflict(
            "illegal_transition", f"{previous} is {task.state.value}: only a completed one goes on"
        )
    messages: Messages = loads(await parts.journal.store.body(task.n))["messages"]
    head = kept.get("head", 0 if kept.get("instructions") is None else 1)
    output = (await as_told(parts, task_id, kept)).response()["output"]
    return messages[head:] + chat_messages(output)


async def _output(parts: Services, task_id: str) -> tuple[Object, list[Object]] | None:
    """What is stored of a response: the request, and the output so far."""
    found = await find(parts, PREFIX + task_id)
    if found is None:
        return None
    return found[1], (await as_told(parts, *found)).response()["output"]
