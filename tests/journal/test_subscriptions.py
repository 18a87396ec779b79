"""Who waits for news, by itself: cursors over memory and disk."""

import asyncio
from collections.abc import Iterable
from typing import Literal, cast

import pytest

from asyncsvc.journal import subscriptions as followers
from asyncsvc.journal.subscriptions import TAIL, Feed, Topic, Topics
from asyncsvc.storage.entries import Event, EventRow
from asyncsvc.storage.protocol import PAGE, Store
from tests.builders import AT, gathered


def events(*seqs: int, task_id: str = "t1") -> list[Event]:
    return [EventRow(seq, 1, seq, "chunk", AT, "{}").event(task_id) for seq in seqs]


def topic_of(*seqs: int) -> Topic:
    topic = Topic()
    for event in events(*seqs):
        topic.add(event)
    return topic


def seqs(page: Iterable[Event] | None) -> list[int] | None:
    return None if page is None else [event.seq for event in page]


class Watched(asyncio.Event):
    """An event that says when a follower has begun to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = asyncio.Event()

    async def wait(self) -> Literal[True]:
        self.waited.set()
        return await super().wait()


class Disk:
    """A store that knows some events, and lets the world go on while it reads."""

    def __init__(self, *known: int) -> None:
        self.known = list(known)
        self.reads: list[int] = []
        self.asked = asyncio.Event()
        self.meanwhile: list[list[Event]] = []
        self.feed_of: Feed | None = None

    async def feed(self, after_id: int) -> list[tuple[EventRow, str, str | None]]:
        self.reads.append(after_id)
        self.asked.set()
        found = [n for n in self.known if n > after_id][:PAGE]
        for batch in self.meanwhile:
            assert self.feed_of is not None
            self.feed_of.publish(batch)
            self.known += [event.id for event in batch]
        self.meanwhile = []
        return [(EventRow(n, 1, n, "chunk", AT, "{}"), "t1", None) for n in found]


def feed_on(disk: Disk, last_id: int) -> Feed:
    feed = Feed(cast(Store, disk))
    feed.last_id = last_id
    disk.feed_of = feed
    return feed


async def ids(feed: Feed, after: int, count: int) -> list[int]:
    return [event.id for event in await gathered(feed.follow(after), count)]


@pytest.mark.parametrize("cursor", range(3, 7))
def test_the_tail_is_what_comes_after_the_cursor(cursor: int) -> None:
    assert seqs(topic_of(4, 5, 6).tail(cursor)) == list(range(cursor + 1, 7))


@pytest.mark.parametrize("cursor", [-1, 0, 2])
def test_further_back_only_the_disk_knows(cursor: int) -> None:
    assert topic_of(4, 5, 6).tail(cursor) is None


def test_ahead_of_the_last_event_there_is_nothing_yet() -> None:
    assert topic_of(4).tail(9) == []


def test_a_topic_that_was_reported_where_it_stands_needs_no_disk() -> None:
    topic = Topic()
    assert topic.tail(0) is None
    topic.begin(3)
    assert topic.tail(3) == []
    assert topic.tail(2) is None


def test_a_topic_that_has_received_more_is_not_sent_less() -> None:
    topic = topic_of(4)
    topic.begin(3)
    assert seqs(topic.tail(3)) == [4]


def test_memory_forgets_the_oldest() -> None:
    topic = topic_of(*range(1, TAIL + 3))
    assert topic.tail(1) is None
    assert seqs(topic.tail(2)) == list(range(3, TAIL + 3))


def test_nothing_is_kept_of_a_task_that_no_client_follows() -> None:
    topics = Topics()
    with topics.topic("t1") as first, topics.topic("t1") as second:
        assert first is second
    topics.publish(events(1), ["t1"])
    with topics.topic("t1") as anew:
        assert anew is not first
        assert anew.tail(0) is None


def test_news_wakes_those_that_wait_for_it_and_no_other() -> None:
    topics = Topics()
    with topics.topic("t1") as mine, topics.topic("t2") as other:
        waits = [mine.grew, other.grew]
        topics.publish(events(1), [])
        assert [wait.is_set() for wait in waits] == [True, False]
        assert not mine.grew.is_set()


def test_a_deleted_task_s_topic_is_closed() -> None:
    topics = Topics()
    with topics.topic("t1") as mine, topics.topic("t2") as other:
        wait = mine.grew
        topics.publish([], ["t1", "unknown"])
        assert (mine.closed, other.closed, wait.is_set()) == (True, False, True)


def test_who_comes_after_the_release_is_let_go_at_once() -> None:
    topics = Topics()
    topics.close()
    with topics.topic("t1") as late:
        assert late.closed


async def test_the_feed_goes_from_disk_to_memory() -> None:
    disk = Disk(1, 2, 3)
    feed = feed_on(disk, 3)
    feed.publish(events(4, 5))
    assert await ids(feed, 1, 4) == [2, 3, 4, 5]
    assert disk.reads == [1]


async def test_the_feed_from_memory_comes_in_pages() -> None:
    feed = feed_on(Disk(), 0)
    feed.publish(events(*range(1, PAGE + 10)))
    pages = feed.follow(0)
    assert len(await anext(pages)) == PAGE
    assert len(await anext(pages)) == 9
    await pages.aclose()


async def test_the_feed_passes_over_what_was_deleted() -> None:
    disk = Disk()  # 1 to 3 are gone
    feed = feed_on(disk, 3)
    reader = asyncio.create_task(ids(feed, 0, 1))
    await disk.asked.wait()
    feed.publish(events(4))
    assert await reader == [4]


async def test_nothing_is_passed_over_that_came_during_the_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(followers, "FEED_TAIL", 2)
    disk = Disk()
    disk.meanwhile = [events(4, 5), events(6, 7, 8)]
    assert await ids(feed_on(disk, 3), 0, 5) == [4, 5, 6, 7, 8]


@pytest.mark.parametrize("after", [-5, 0, 3, 99])
async def test_an_empty_feed_waits(after: int) -> None:
    feed = feed_on(Disk(), 0)
    feed.grew = round_ = Watched()
    reader = asyncio.create_task(ids(feed, after, 1))
    await round_.waited.wait()
    feed.publish([])
    feed.publish(events(*range(1, 102)))
    assert (await reader)[0] == max(after, 0) + 1


async def test_the_feed_ends_when_it_is_closed() -> None:
    feed = feed_on(Disk(), 0)
    feed.grew = round_ = Watched()
    reader = asyncio.create_task(gathered(feed.follow(0)))
    await round_.waited.wait()
    feed.close()
    assert await reader == []
    assert await gathered(feed.follow(0)) == []
