"""Subscriptions: one topic for each followed task, and one feed of all events.

Owns the recent events in memory and the wake-up of those that wait for more. Promises that a
follower holds nothing but a cursor, so that a slow one slows no other; that what is in memory is
what is on the disk. Never keeps anything for a task without followers.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from contextlib import contextmanager
from itertools import islice

from asyncsvc.storage.entries import Event
from asyncsvc.storage.protocol import PAGE, Store

TAIL = 256
"""Events of one task kept in memory while it is followed; a follower further back reads the
disk. At 50 tokens a second it is five seconds of stream."""
FEED_TAIL = 4096
TAIL_CHARS, FEED_TAIL_CHARS = 1 << 20, 2 << 20
"""Characters of data in them, unless a single event has more."""


class _Signal:
    """Wakes all that wait, again and again. `grew` is the event of the current round."""

    def __init__(self) -> None:
        self.grew = asyncio.Event()
        self.closed = False

    def wake(self) -> None:
        self.grew.set()
        self.grew = asyncio.Event()

    def close(self) -> None:
        self.closed = True
        self.wake()


class _Tail:
    """The latest events, bounded in number and size."""

    def __init__(self, most: int, most_chars: int) -> None:
        self.events: deque[Event] = deque()
        self._most = most
        self._most_chars = most_chars
        self._chars = 0

    def extend(self, events: Iterable[Event]) -> None:
        held = self.events
        for event in events:
            held.append(event)
            self._chars += len(event.text)
        while len(held) > self._most or (self._chars > self._most_chars and len(held) > 1):
            self._chars -= len(held.popleft().text)


class Topic(_Signal):
    """The news of one task."""

    def __init__(self) -> None:
        super().__init__()
        self.followers = 0
        self.gone = False
        """Whether the task was deleted: what is not in memory is nowhere."""
        self._tail = _Tail(TAIL, TAIL_CHARS)
        self._last: int | None = None

    def begin(self, last_seq: int) -> None:
        """Set the last sequence number of the task, unless the topic has one."""
        if self._last is None:
            self._last = last_seq

    def add(self, event: Event) -> None:
        self._tail.extend((event,))
        self._last = event.seq

    def behind(self, cursor: int) -> bool:
        """Whether there has been more than that."""
        return self._last is not None and cursor < self._last

    def tail(self, cursor: int) -> list[Event] | None:
        """The events after `cursor`; None where memory does not reach back so far."""
        if self._last is not None and cursor >= self._last:
            return []
        held = self._tail.events
        if not held or held[0].seq > cursor + 1:
            return None
        return list(held)[cursor + 1 - held[0].seq :]


class Topics:
    """The topics of the tasks that are followed."""

    def __init__(self) -> None:
        self._topics: dict[str, Topic] = {}
        self._closed = False

    @contextmanager
    def topic(self, task_id: str) -> Generator[Topic]:
        """The task's topic for as long as the follower stays."""
        topic = self._topics.setdefault(task_id, Topic())
        topic.closed |= self._closed
        topic.followers += 1
        try:
            yield topic
        finally:
            topic.followers -= 1
            if not topic.followers and self._topics.get(task_id) is topic:
                del self._topics[task_id]

    def publish(self, events: Iterable[Event], gone: Iterable[str]) -> None:
        """Hand committed events to the followers of their tasks; `gone` tasks are deleted."""
        if not self._topics:
            return
        grown = set()
        for event in events:
            if topic := self._topics.get(event.task_id):
                topic.add(event)
                grown.add(event.task_id)
        for task_id in grown:
            self._topics[task_id].wake()
        for task_id in gone:
            if topic := self._topics.get(task_id):
                topic.gone = True
                topic.close()

    def close(self) -> None:
        self._closed = True
        for topic in self._topics.values():
            topic.close()


class Feed(_Signal):
    """The news of all tasks, in order of `id`."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.last_id = 0
        self._store = store
        self._recent = _Tail(FEED_TAIL, FEED_TAIL_CHARS)

    def publish(self, events: Sequence[Event]) -> None:
        if not events:
            return
        self._recent.extend(events)
        self.last_id = events[-1].id
        self.wake()

    async def follow(self, after_id: int) -> AsyncGenerator[list[Event]]:
        """Pages of events with an id above `after_id`; ends when the journal is released."""
        cursor = after_id
        while not self.closed:
            grew = self.grew  # taken before reading: no append can fall in between
            page = self._tail(cursor)
            if page is None:
                last = self.last_id
                rows = await self._store.feed(cursor)
                page = [row.event(task_id, owner) for row, task_id, owner in rows]
                # Where all up to here belonged to deleted tasks, there is nothing to wait for.
                cursor = cursor if page else max(cursor, last)
            if page:
                cursor = page[-1].id
                yield page
            elif cursor >= self.last_id:
                await grew.wait()

    def _first_id(self) -> int:
        held = self._recent.events
        return held[0].id if held else self.last_id + 1

    def _tail(self, cursor: int) -> list[Event] | None:
        """The events after `cursor`; None where memory does not reach back so far."""
        if cursor >= self.last_id:
            return []
        if cursor + 1 < self._first_id():
            return None
        start = cursor + 1 - self._first_id()
        return list(islice(self._recent.events, start, start + PAGE))
