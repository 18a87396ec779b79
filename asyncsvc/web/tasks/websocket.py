"""The WebSocket routes: one task's stream, and many over one socket.

Owns the sessions. Promises each event once and in order from the cursor that
a client gives, progress once a second for what it follows, and an `error` message for what
cannot be done, such as more subscriptions than the settings allow. Never queues events: each
follower reads the journal at its socket's pace, and a socket holds few pages of the disk at once.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing, suppress
from functools import partial
from itertools import islice
from typing import Any

import orjson
from starlette.websockets import WebSocket

from asyncsvc.access import Caller, Permission
from asyncsvc.errors import (
    AsyncsvcError,
    InvalidRequest,
    NotFound,
    Overloaded,
    RequestError,
    StorageUnavailable,
    TaskNotFound,
)
from asyncsvc.intake.admission import Aside
from asyncsvc.tasks.state import State, Task
from asyncsvc.tasks.trace import of_headers
from asyncsvc.web.http import body
from asyncsvc.web.http.auth import subprotocol
from asyncsvc.web.http.errors import as_request_error, check_names, check_query, note, response
from asyncsvc.web.http.resources import SocketResource, caller
from asyncsvc.web.http.sockets import (
    BAD_MESSAGES,
    DONE,
    NO_TASK,
    REFUSED,
    REVOKED,
    STOPPING,
    Closed,
    Socket,
)
from asyncsvc.web.http.state import Services, services
from asyncsvc.web.tasks import views
from asyncsvc.web.tasks.feed import FirstPieces, Keep, whole
from asyncsvc.web.tasks.routes import cursor, parse
from asyncsvc.web.tasks.schemas import KEY_MOST, EventsQuery
from asyncsvc.web.tasks.socket_operations import OPERATIONS
from asyncsvc.web.tasks.sse import TICK_S
from asyncsvc.web.tasks.steering import VERBS, forked

MISTAKES = 5
"""Bad messages on one socket before it is closed with 4400."""
WAITING = 100
"""Waiting tasks, the next ones, whose progress the whole feed sends; it sends that of all running
ones."""
ORDER_KEPT_S = 1.0
"""How long all sockets use the same order of waiting tasks: it takes 20 ms with 10,000 of them."""
PAGES_AT_ONCE = 2
"""Pages of events from the disk that one socket holds."""
TICK_SLICE = 50
"""Progress events, each about 30 µs with its frame, that are sent before others have their turn."""
FOLLOWING = ("subscribe", "unsubscribe")
LIVELY = frozenset({State.SCHEDULED, State.PENDING, State.RUNNING})
Done = tuple[dict[str, Any], Callable[[], None]]
"""The answer to an op, and what to do once it is sent."""


class Session:
    """What one client follows over one socket."""

    def __init__(self, socket: Socket, services: Services, author: Caller) -> None:
        self._socket = socket
        self._services = services
        self._caller = author
        self._follows: dict[str, asyncio.Task[None]] = {}
        self._pages = asyncio.Semaphore(PAGES_AT_ONCE)
        self._feed: asyncio.Task[None] | None = None
        self._sent: dict[str, int] = {}
        self._sent_id = 0
        self._alarm = 0
        self._moved = asyncio.Event()
        self._mistakes = 0

    async def run(self, only: str | None = None, after: int = 0) -> None:
        """Serve until the socket closes; `only` streams one task and closes after it."""
        ticker = asyncio.create_task(self._tick())
        if only is not None:
            self._start(only, after, closes=True)
        try:
            while True:
                await self._message(await self._socket.receive())
        except Closed:
            pass
        finally:
            tasks = [ticker, *self._follows.values(), *([self._feed] if self._feed else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for task_id in list(self._follows):  # those that were ended before they began
                self._forget(task_id)

    async def caught_up(self) -> None:
        """Wait until the client has been sent all events that are committed."""
        while self._behind():
            self._moved.clear()
            await self._moved.wait()

    def _behind(self) -> bool:
        if self._feed is not None and self._sent_id < self._services.journal.feed.last_id:
            return True
        live = self._services.journal.live
        # A finished task's follower ends by itself, after the last event.
        return any(i not in live or live[i].seq > sent for i, sent in self._sent.items())

    async def _message(self, text: str) -> None:
        ref: Any = None
        try:
            async with self._services.bodies.room(len(text)) as aside:
                message = await aside(body.as_object, text)
                ref = message.pop("ref", None)
                answer, then = await self._do(message, aside)
        except (AsyncsvcError, MemoryError) as error:
            if not await self._complain(error, ref):
                raise
            return
        await self._socket.send([_dumps({"op": "ok", "ref": ref} | answer)])
        then()  # events follow the answer to what asked for them

    async def _complain(self, fault: Exception, ref: Any) -> bool:
        """Answer with an error; False where the fault is not known."""
        error = as_request_error(fault)
        if error is None:
            return False
        await self._socket.send([_dumps({"op": "error", "ref": ref} | error.body())])
        self._mistakes += error.status in (400, 422)
        if self._mistakes >= MISTAKES:
            await self._socket.close(BAD_MESSAGES, "too many bad messages")
            raise Closed
        return True

    async def _do(self, message: dict[str, Any], aside: Aside) -> Done:
        op = _op(message)
        self._caller.require(OPERATIONS[op].scope)
        if op == "ping":
            return {"pong": True}, _nothing
        if op == "submit":
            return await self._submit(message, aside)
        if op in FOLLOWING and _of_all(message):
            return self._subscribe_all(message) if op == "subscribe" else self._unsubscribe_all()
        if op == "subscribe" and "tasks" in message:
            return await self._subscribe_some(_cursors(message))
        if op == "unsubscribe" and "task_ids" in message:
            return self._unsubscribe_some(_ids(message))
        task_id = message.get("task_id")
        if not isinstance(task_id, str):
            raise InvalidRequest("task_id must be a string", param="task_id")
        if op in VERBS:
            found = await self._services.task(self._caller, task_id)
            task = await VERBS[op].run(self._services, found.id, message)
            return {"task_id": task_id, "status": task.state.value}, _nothing
        if op == "fork":
            self._services.intake.turn_away()
            found = await self._services.task(self._caller, task_id)
            given = {name: value for name, value in message.items() if name != "task_id"}
            return await forked(self._services, found, given, self._caller.owner), _nothing
        if op == "unsubscribe":
            self._stop(task_id)
            return {"task_id": task_id}, _nothing
        return await self._subscribe(task_id, _number(message, "after"))

    async def _subscribe(self, task_id: str, after: int) -> Done:
        self._check_room({task_id})
        answer = {"task_id": task_id} | await self._found(task_id, after)
        return answer, partial(self._start, task_id, after)

    async def _subscribe_some(self, tasks: dict[str, int]) -> Done:
        """Follow those of the tasks that can be followed; the answer says so of each."""
        self._check_room(tasks)
        found: dict[str, Any] = {}
        errors: dict[str, Any] = {}
        for task_id, after in tasks.items():
            try:
                found[task_id] = await self._found(task_id, after)
            except RequestError as error:
                errors[task_id] = error.body()["error"]

        def start() -> None:
            for task_id in found:
                self._start(task_id, tasks[task_id])

        return {"tasks": found, "errors": errors}, start

    def _unsubscribe_some(self, ids: list[str]) -> Done:
        for task_id in ids:
            self._stop(task_id)
        return {"task_ids": ids}, _nothing

    def _check_room(self, ids: Iterable[str]) -> None:
        """Raises Overloaded where there would be too many subscriptions."""
        server, held = self._services.settings.server, len(self._follows)
        new = len(set(ids) - self._follows.keys())
        if held + new > server.max_subscriptions_per_socket:
            raise Overloaded(
                f"a socket may follow {server.max_subscriptions_per_socket} tasks and follows "
                f"{held}; unsubscribe some, or subscribe to all"
            )
        if (everywhere := self._services.sockets.subscriptions) + new > server.max_subscriptions:
            raise Overloaded(
                f"{everywhere} of {server.max_subscriptions} subscriptions are in use; subscribe "
                "to all instead"
            )

    async def _found(self, task_id: str, after: int) -> dict[str, Any]:
        """What the answer to a subscription says of its task. Raises RequestError."""
        task = await self._services.task(self._caller, task_id)
        if after > task.seq:
            raise InvalidRequest(f"after is {after}, the last event is {task.seq}", param="after")
        return {"status": task.state.value, "seq": task.seq}

    async def _submit(self, message: dict[str, Any], aside: Aside) -> Done:
        fields = message.get("task")
        if not isinstance(fields, dict):
            raise InvalidRequest("task must be an object", param="task")
        if follow := _flag(message, "subscribe"):
            self._check_room({"new"})
        key = _key(message)
        submission = await aside(parse, fields)
        owner = self._caller.owner
        trace = of_headers(message) if "traceparent" in message else None
        accepted = await self._services.intake.submit(submission, owner, key, aside, trace=trace)
        return accepted.answer, partial(self._start, accepted.task_id, 0) if follow else _nothing

    def _subscribe_all(self, message: dict[str, Any]) -> Done:
        last = self._services.journal.feed.last_id
        after_id = _number(message, "after_id") if "after_id" in message else last
        if after_id > last:
            raise InvalidRequest(
                f"after_id is {after_id}, the last event is {last}", param="after_id"
            )
        keep = whole if _flag(message, "text", True) else FirstPieces()
        return {"all": True, "after_id": after_id}, partial(self._start_feed, after_id, keep)

    def _unsubscribe_all(self) -> Done:
        if self._feed is not None:
            self._feed.cancel()
            self._feed = None
        return {"all": True}, _nothing

    def _start_feed(self, after_id: int, keep: Keep) -> None:
        self._unsubscribe_all()
        self._sent_id = after_id
        self._alarm = self._services.monitor.alarms.last
        self._feed = asyncio.create_task(self._follow_all(after_id, keep))

    def _start(self, task_id: str, after: int, closes: bool = False) -> None:
        self._stop(task_id)
        self._services.sockets.subscriptions += 1
        self._sent[task_id] = after
        self._follows[task_id] = asyncio.create_task(self._follow(task_id, after, closes))

    def _stop(self, task_id: str) -> None:
        if follow := self._follows.get(task_id):
            follow.cancel()
            self._forget(task_id)

    def _forget(self, task_id: str) -> None:
        del self._follows[task_id], self._sent[task_id]
        self._services.sockets.subscriptions -= 1
        self._moved.set()

    async def _follow(self, task_id: str, after: int, closes: bool) -> None:
        """Send one task's events until it is finished; ends with the socket."""
        try:
            following = self._services.journal.follow(task_id, after, self._pages)
            async with aclosing(following) as pages:
                async for page in pages:
                    await self._socket.send([event.wire for event in page])
                    self._sent[task_id] = page[-1].seq
                    self._moved.set()
            if closes and not self._services.sockets.stopping:
                await self._socket.close(DONE)
        except TaskNotFound as gone:  # deleted before all of it was sent
            with suppress(Closed):
                await self._complain(gone, None)
                if closes:
                    await self._socket.close(NO_TASK, gone.code)
        except Closed:
            return
        finally:
            if self._follows.get(task_id) is asyncio.current_task():
                self._forget(task_id)
            self._moved.set()

    async def _follow_all(self, after_id: int, keep: Keep) -> None:
        """Send the events of all tasks that are to be kept; ends with the socket."""
        try:
            async with aclosing(self._services.journal.feed.follow(after_id)) as pages:
                async for page in pages:
                    sees = self._caller.sees
                    await self._socket.send(
                        [one.wire for one in page if sees(one.owner) and keep(one)]
                    )
                    self._sent_id = page[-1].id
                    self._moved.set()
        except Closed:
            self._feed = None
            self._moved.set()

    async def _tick(self) -> None:
        """Tell the progress once a second; ends with the socket."""
        try:
            while True:
                await asyncio.sleep(TICK_S)
                await self._send_progress()
                if self._feed is not None:
                    alarms = self._services.monitor.alarms
                    changes = alarms.changes(self._alarm)
                    self._alarm = alarms.last
                    await self._socket.send(
                        [_dumps({"op": "alarm", "alarm": change}) for change in changes]
                    )
        except Closed:
            return

    async def _send_progress(self) -> None:
        """Send the progress of what is followed, with a turn for others now and then."""
        live, ids = self._services.journal.live, [task.id for task in self._lively()]
        for start in range(0, len(ids), TICK_SLICE):
            if start:
                await asyncio.sleep(0)
            tasks = [live[i] for i in ids[start : start + TICK_SLICE] if i in live]
            await self._socket.send([views.progress_event(self._services, one) for one in tasks])

    def _lively(self) -> Iterator[Task]:
        followed = set(self._follows)
        if self._feed is not None:
            live = self._services.journal.live
            followed.update(self._services.executor.executions)
            order = self._services.eta_estimator.in_order(live, ORDER_KEPT_S)
            followed.update(islice((task.id for task in order if self._shows(task.id)), WAITING))
        return (task for one in followed if (task := self._shows(one)) is not None)

    def _shows(self, task_id: str) -> Task | None:
        """The task, where it waits or runs and the caller may see it."""
        task = self._services.journal.live.get(task_id)
        shown = task is not None and task.state in LIVELY and self._caller.sees(task.request.owner)
        return task if shown else None


def _op(message: dict[str, Any]) -> str:
    """Take the op out of a message. Raises InvalidRequest, also for a field that it has not."""
    name = message.pop("op", None)
    if not isinstance(name, str) or name not in OPERATIONS:
        raise InvalidRequest(f"op must be one of {', '.join(OPERATIONS)}", param="op")
    check_names(message, OPERATIONS[name].fields, f"field of {name}")
    return name


def _flag(message: dict[str, Any], name: str, otherwise: bool = False) -> bool:
    """A field that is true or false. Raises InvalidRequest."""
    value = message.get(name, otherwise)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false", param=name)
    return value


def _key(message: dict[str, Any]) -> str | None:
    """The Idempotency-Key of a submit. Raises InvalidRequest."""
    name = "idempotency_key"
    value = message.get(name)
    if value is None or (isinstance(value, str) and 0 < len(value) <= KEY_MOST):
        return value
    raise InvalidRequest(f"{name} must be a string of 1 to {KEY_MOST} characters", param=name)


def _cursors(message: dict[str, Any]) -> dict[str, int]:
    """The tasks of a subscription to several, each with its cursor. Raises InvalidRequest."""
    tasks = message["tasks"]
    if not isinstance(tasks, dict) or not tasks or message.keys() & {"task_id", "after"}:
        raise InvalidRequest(
            'tasks must be an object of cursors by task id, such as {"ID": 0}, and comes without '
            "task_id and after",
            param="tasks",
        )
    for task_id in tasks:
        _number(tasks, task_id, f"tasks.{task_id[:80]}")
    return tasks


def _ids(message: dict[str, Any]) -> list[str]:
    """The tasks that are followed no more. Raises InvalidRequest."""
    ids = message["task_ids"]
    wrong = not isinstance(ids, list) or not all(isinstance(each, str) for each in ids)
    if wrong or "task_id" in message:
        raise InvalidRequest(
            "task_ids must be a list of task ids, and comes without task_id", param="task_ids"
        )
    return list(ids)


def _of_all(message: dict[str, Any]) -> bool:
    """Whether it is about the whole feed. Raises InvalidRequest where it says both."""
    everything = _flag(message, "all")
    wrong = {"task_id", "after", "tasks", "task_ids"} if everything else {"after_id"}
    for name in sorted(wrong & message.keys()):
        # Left out in silence, a cursor of the wrong kind would lose events.
        goes = "single tasks, and not with all" if everything else "the whole feed: with all = true"
        raise InvalidRequest(f"{name} is for {goes}", param=name)
    return everything


def _number(message: dict[str, Any], name: str, param: str | None = None) -> int:
    """A cursor. Raises InvalidRequest."""
    value, shown = message.get(name, 0), param or name
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidRequest(f"{shown} must be a whole number from 0", param=shown)
    return value


def _nothing() -> None:
    """What follows an answer that starts nothing."""


def _dumps(value: dict[str, Any]) -> str:
    return orjson.dumps(value).decode()


async def many(websocket: WebSocket) -> None:
    """GET /ws: follow any number of tasks, or all, and submit and steer tasks.

    Each message is an operation; its answer has the same `ref`.
    """
    await _serve(websocket, None, 0)


async def one(websocket: WebSocket) -> None:
    """GET /ws/tasks/{id}: follow one task.

    It is closed after the task's last event. It takes operations, too.
    """
    parts = services(websocket)
    task_id = websocket.path_params["task_id"]
    problem: dict[str, Any] | None = None
    code, after = NO_TASK, 0
    try:
        task = await parts.task(caller(websocket), task_id)
        code = BAD_MESSAGES
        check_query(websocket.query_params, ("after",), None)
        after = cursor(websocket.query_params.get("after"), "after", task.seq)
    except RequestError as error:
        problem = error.body()
    except StorageUnavailable as error:
        note(websocket.scope, error)
        raise
    if problem is None:
        await _serve(websocket, task_id, after)
        return
    await websocket.accept(subprotocol=subprotocol(websocket.scope))
    await websocket.send_text(_dumps({"op": "error", "ref": None} | problem))
    await websocket.close(code, problem["error"]["code"])


async def _serve(websocket: WebSocket, task_id: str | None, after: int) -> None:
    parts = services(websocket)
    await websocket.accept(subprotocol=subprotocol(websocket.scope))
    socket = Socket(websocket, parts.sockets.shared_frame)
    author = caller(websocket)
    session = Session(socket, parts, author)
    parts.sockets.add(socket, session.caught_up, author)
    try:
        if parts.sockets.stopping:
            await socket.close(STOPPING, "the service is stopping")
            return
        if not parts.clients.knows(author):  # a reload came while it was accepted
            await socket.close(REFUSED, REVOKED)
            return
        await session.run(task_id, after)
    finally:
        parts.sockets.discard(socket)


async def nowhere(websocket: WebSocket) -> None:
    """Any other path: the router alone would say 403, which means something else here."""
    path = websocket.url.path
    await websocket.send_denial_response(response(NotFound(f"there is no socket at {path}")))


ROUTES = [
    SocketResource("/ws", many, Permission.READ, Permission.SUBMIT),
    SocketResource("/ws/tasks/{task_id}", one, Permission.READ, query=EventsQuery),
    SocketResource("/{path:path}", nowhere, Permission.OPEN),
]
