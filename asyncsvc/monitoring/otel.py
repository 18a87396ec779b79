"""The export of spans and metrics to an OpenTelemetry collector, in the background.

Follows the feed of all events like any client, so that no part of the service waits for it, and
costs nothing where it is off. What a collector that is away does not take is dropped: the SDK's
queue is bounded, its threads are daemons, and a stop waits `STOP_S` for it at most. The SDK is
imported when the export begins, as it is an extra (`asyncsvc[otel]`). Its own variables (OTEL_*)
set headers, compression, certificates and the resource.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import orjson

from asyncsvc import __version__
from asyncsvc.config.settings import Otel
from asyncsvc.errors import StartError, StorageUnavailable, TaskNotFound
from asyncsvc.journal.journal import Event, Journal
from asyncsvc.monitoring.spans import SpanMaker, SpanRecord
from asyncsvc.scheduling.steps import shielded
from asyncsvc.tasks.state import Task

log = logging.getLogger(__name__)

STOP_S = 3.0
"""How long a stop waits for what is still to be sent."""
MESSAGE_CHARS = 64 * 1024
"""Characters of a prompt or an answer in a span."""
MISSING = (
    "otel.endpoint is set, but OpenTelemetry is not installed: pip install 'asyncsvc[otel]', or "
    "leave otel.endpoint empty"
)


class Sender(Protocol):
    """What takes spans that have ended; neither blocks nor raises."""

    def send(self, span: SpanRecord) -> None: ...

    def close(self) -> None:
        """Send what is left; it may block."""


class Telemetry:
    """`run` it until it is cancelled, then `close` it. Raises StartError where the SDK is not
    installed."""

    def __init__(
        self,
        journal: Journal,
        maker: SpanMaker,
        settings: Callable[[], Otel],
        connect: Callable[[str], Sender] | None = None,
    ) -> None:
        if connect is None and not _installed():
            raise StartError(MISSING)
        self._journal = journal
        self._maker = maker
        self._settings = settings
        self._connect = connect or _connected
        self._sender: Sender | None = None
        self._last_id = journal.feed.last_id
        self._turn = asyncio.Lock()
        """Held while events are taken, each wholly or not at all."""

    async def run(self) -> None:
        """Follow all events from the moment of the making on."""
        try:
            # The SDK takes half a second to import, in which the event loop must go on.
            self._sender = await asyncio.to_thread(self._connect, self._settings().endpoint)
        except Exception:
            log.exception("OpenTelemetry cannot be used; no spans are sent")
            return
        log.info("spans and metrics are sent to %s", self._settings().endpoint)
        while not self._journal.feed.closed:
            try:
                async for page in self._journal.feed.follow(self._last_id):
                    await shielded(self._taken(page))
            except StorageUnavailable:
                await asyncio.sleep(STOP_S)  # the disk is away; the events are not lost
            except Exception:
                log.exception("spans of some tasks are not sent")

    async def close(self) -> None:
        """Send what a stop has still brought, for a short time."""
        if self._sender is None:
            return
        try:
            async with self._turn:  # a page may be under way
                while rows := await self._journal.store.feed(self._last_id):
                    page = [row.event(task_id, owner) for row, task_id, owner in rows]
                    await self._take_all(page)
        except StorageUnavailable as error:
            log.warning("spans of the last tasks are not sent: %s", error)
        await bounded(self._sender.close)

    async def _taken(self, page: list[Event]) -> None:
        async with self._turn:
            await self._take_all(page)

    async def _take_all(self, events: list[Event]) -> None:
        for event in events:
            task = await self._task(event) if self._maker.wants(event) else None
            for span in self._maker.take(event, task):
                if self._settings().prompts and span.task is not None:
                    await self._add_texts(span, span.task)
                if self._sender is not None:
                    self._sender.send(span)
            self._last_id = event.id

    async def _task(self, event: Event) -> Task | None:
        if (task := self._journal.live.get(event.task_id)) is not None:
            return task
        try:
            return await self._journal.followed(event.task_id)
        except TaskNotFound:
            return None

    async def _add_texts(self, span: SpanRecord, task: Task) -> None:
        """The prompt and the answer, in the form of the conventions."""
        store = self._journal.store
        body, result = orjson.loads(await store.body(task.n)), await store.result(task.n)
        asked = body.get("messages") or [
            {"role": "user", "content": body.get("content") or body.get("input")}
        ]
        messages = [_message(str(m.get("role")), m.get("content")) for m in asked]
        span.attributes["gen_ai.input.messages"] = _text(messages)
        if task.request.type != "embedding":
            answer = _message("assistant", result or "") | {"finish_reason": task.finish_reason}
            span.attributes["gen_ai.output.messages"] = _text([answer])


def _message(role: str, content: Any) -> dict[str, Any]:
    text = content if isinstance(content, str) else orjson.dumps(content).decode()
    return {"role": role, "parts": [{"type": "text", "content": text[:MESSAGE_CHARS]}]}


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()


def _installed() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def _connected(endpoint: str) -> Sender:
    sender: Sender = import_module("asyncsvc.monitoring.otel_sdk").OtlpSender(endpoint, __version__)
    return sender


async def bounded(work: Callable[[], None]) -> None:
    """Run what may block in a thread that the end of the process does not wait for."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        try:
            work()
        finally:
            with suppress(RuntimeError):  # the loop has not waited for it
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="OpenTelemetry's end", daemon=True).start()
    try:
        async with asyncio.timeout(STOP_S):
            await done.wait()
    except TimeoutError:
        log.warning("the OpenTelemetry collector did not take the last spans in %g s", STOP_S)
