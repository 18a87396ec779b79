"""Long texts are stored in parts: results ahead of the commit that ends their task, bodies ahead of
the one that stores it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from asyncsvc.errors import IllegalTransition, StorageUnavailable
from asyncsvc.journal import long_texts
from asyncsvc.journal.journal import Change, Journal, Removal
from asyncsvc.storage import texts
from asyncsvc.storage.entries import BodyPart, Piece, ResultPart, Row
from asyncsvc.storage.protocol import Store
from asyncsvc.tasks.state import Cause, State, status
from tests.builders import Commits, begun, ended, journal_at, live_through, new_task, rows

PART = 8
ALPHABETS = ("ab", "é", "漢字", "a😀é", "\0x", '"\\\n')


@pytest.fixture
async def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Journal]:
    monkeypatch.setattr(long_texts, "PART_CHARS", PART)
    monkeypatch.setattr(long_texts, "PART_BYTES", PART)
    async with journal_at(tmp_path / "x.db") as journal:
        yield journal


def text_of(length: int, alphabet: str = "ab") -> str:
    return "".join(itertools.islice(itertools.cycle(alphabet), length))


async def running(journal: Journal, *ids: str) -> None:
    for task_id in ids:
        await journal.append(new_task(task_id))
        await journal.append(begun(task_id))


async def gathered(read: Callable[[int], Awaitable[Piece | None]]) -> bytes:
    """A text, as a client reads it that takes a piece at a time from an offset."""
    data, size = b"", 1
    while len(data) < size:
        piece = await read(len(data))
        assert piece is not None
        assert piece.at == len(data)
        assert piece.data
        data, size = data + piece.data, piece.size
    assert len(data) == size
    return data


async def in_pieces(store: Store, n: int) -> str:
    return (await gathered(partial(store.texts.result, n))).decode()


async def body_in_pieces(store: Store, n: int) -> bytes:
    return await gathered(partial(store.texts.body, n))


def parts(commits: Commits) -> list[list[Row]]:
    kinds = (ResultPart, BodyPart)
    return [[row for row in one.rows if isinstance(row, kinds)] for one in commits.batches]


def body_of(length: int) -> bytes:
    return bytes(b"0123456789" * (length // 10 + 1))[:length]


def parts_left(journal: Journal) -> list[tuple[int]]:
    return rows(journal.store, "SELECT at FROM body_parts ORDER BY at")


@pytest.mark.parametrize("length", [1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1, 100])
@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("piece", [3, 1000])
async def test_a_result_is_read_as_it_was_written(
    journal: Journal, length: int, alphabet: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "PIECE_BYTES", piece)
    text = text_of(length, alphabet)
    await live_through(journal, "t1", text)
    assert await journal.store.result(1) == text
    assert await in_pieces(journal.store, 1) == text
    ((_, _, exported, _),) = await journal.store.exported(0, None, None)
    assert exported == text
    assert rows(journal.store, "SELECT COUNT(*) FROM result_parts") == [((length - 1) // PART,)]
    assert rows(journal.store, "SELECT result_preview FROM tasks") == [(text[:PART],)]


async def test_a_submit_waits_for_a_part_and_not_for_the_whole(journal: Journal) -> None:
    await running(journal, "t1", "t2")
    commits = Commits(journal.store)
    ends = [journal.append(ended(one, text_of(5 * PART))) for one in ("t1", "t2")]
    await commits.began.wait()
    await journal.append(new_task("t3"))
    assert not any(end.done() for end in ends)
    await asyncio.gather(*ends)
    assert [len(one) for one in parts(commits)] == [1] * 8 + [0]
    assert [await journal.store.result(n) for n in (1, 2)] == [text_of(5 * PART)] * 2


async def test_parts_need_no_sync_of_their_own(journal: Journal) -> None:
    await running(journal, "t1")
    commits = Commits(journal.store)
    await journal.append(ended("t1", text_of(3 * PART)))
    assert [one.durable for one in commits.batches] == [False, False, True]


async def test_a_refused_part_refuses_the_end_and_another_try_begins_anew(journal: Journal) -> None:
    await running(journal, "t1")
    commits = Commits(journal.store)
    commits.refuse(after=2)
    with pytest.raises(StorageUnavailable):
        await journal.append(ended("t1", text_of(5 * PART, "old")))
    assert journal.live["t1"].state is State.RUNNING
    commits.refusal = None
    await journal.append(ended("t1", text_of(3 * PART, "new")))
    assert await journal.store.result(1) == await in_pieces(journal.store, 1)
    assert await journal.store.result(1) == text_of(3 * PART, "new")


async def test_parts_of_a_try_that_failed_do_not_follow_on_a_short_result(journal: Journal) -> None:
    await running(journal, "t1")
    commits = Commits(journal.store)
    commits.refuse(after=2)
    with pytest.raises(StorageUnavailable):
        await journal.append(ended("t1", text_of(3 * PART)))
    commits.refusal = None
    await journal.append(ended("t1", "short"))
    assert await journal.store.result(1) == await in_pieces(journal.store, 1) == "short"


async def test_a_task_that_ends_otherwise_meanwhile_keeps_that_end(journal: Journal) -> None:
    await running(journal, "t1")
    commits = Commits(journal.store)
    end = journal.append(ended("t1", text_of(9 * PART)))
    await commits.began.wait()
    await journal.append(Change("t1", [status(Cause.CANCELLED, State.RUNNING)], result="cut"))
    with pytest.raises(IllegalTransition):
        await end
    assert await journal.store.result(1) == await in_pieces(journal.store, 1) == "cut"


async def test_of_two_ends_at_once_the_first_keeps_all_its_parts(journal: Journal) -> None:
    await running(journal, "t1")
    texts_of_both = text_of(4 * PART, "first"), text_of(6 * PART, "other")
    ends = [journal.append(ended("t1", text)) for text in texts_of_both]
    done = await asyncio.gather(*ends, return_exceptions=True)
    assert isinstance(done[1], IllegalTransition)
    assert await journal.store.result(1) == await in_pieces(journal.store, 1) == texts_of_both[0]


@pytest.mark.parametrize("again", ["short", text_of(4 * PART, "longer")])
async def test_a_task_that_begins_anew_has_no_part_of_the_earlier_result(
    journal: Journal, again: str
) -> None:
    await live_through(journal, "t1", text_of(6 * PART))
    await journal.append(Change("t1", [status(Cause.RERUN, State.COMPLETED)]))
    assert await journal.store.result(1) is None
    assert rows(journal.store, "SELECT * FROM result_parts") == []
    await journal.append(begun("t1"))
    await journal.append(ended("t1", again))
    assert await journal.store.result(1) == await in_pieces(journal.store, 1) == again


async def test_a_service_that_stops_writes_all_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_texts, "PART_CHARS", PART)
    async with journal_at(tmp_path / "x.db") as journal:
        await running(journal, "t1")
        end = journal.append(ended("t1", text_of(40 * PART)))
    await end
    async with journal_at(tmp_path / "x.db") as journal:
        assert await journal.store.result(1) == text_of(40 * PART)


async def test_a_deleted_task_takes_its_parts_with_it(journal: Journal) -> None:
    await live_through(journal, "t1", text_of(3 * PART))
    assert await journal.store.upkeep.purge(1 << 60)
    assert rows(journal.store, "SELECT * FROM result_parts") == []


async def test_half_a_character_refuses_its_append_alone(journal: Journal) -> None:
    await running(journal, "t1", "t2")
    end = journal.append(ended("t1", text_of(3 * PART) + "\ud800"))
    await journal.append(ended("t2", text_of(3 * PART)))
    with pytest.raises(StorageUnavailable):
        await end
    assert journal.live.keys() == {"t1"}


@pytest.mark.parametrize("length", [1, PART, PART + 1, 3 * PART, 3 * PART + 1, 100])
@pytest.mark.parametrize("piece", [3, 1000])
async def test_a_body_is_read_as_it_was_written(
    journal: Journal, length: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "PIECE_BYTES", piece)
    (task,) = await journal.append(new_task("t1", body_of(length)))
    assert await journal.body(task) == await journal.store.body(1) == body_of(length)
    assert await body_in_pieces(journal.store, 1) == body_of(length)
    ((_, exported, _, _),) = await journal.store.exported(0, None, None)
    assert exported == body_of(length)
    assert len(parts_left(journal)) == (length - 1) // PART


async def test_submits_wait_for_a_part_of_a_body_and_not_for_the_whole(journal: Journal) -> None:
    commits = Commits(journal.store)
    large = journal.append(
        new_task("t1", body_of(3 * PART)), new_task("t2"), new_task("t3", body_of(4 * PART))
    )
    await commits.began.wait()
    await journal.append(new_task("t4"))
    assert not large.done()
    await large
    assert [len(one) for one in parts(commits)] == [1] * 5 + [0]
    assert [one.durable for one in commits.batches] == [False, True, False, False, False, True]
    bodies = [await journal.store.body(journal.live[one].n) for one in ("t1", "t2", "t3")]
    assert bodies == [body_of(3 * PART), b"{}", body_of(4 * PART)]


@pytest.mark.parametrize("after", [1, 2, 3])
async def test_a_task_that_is_refused_leaves_no_part_of_its_body(
    journal: Journal, after: int
) -> None:
    commits = Commits(journal.store)
    commits.refuse(after=after)
    with pytest.raises(StorageUnavailable):
        await journal.append(new_task("t1", body_of(4 * PART)))
    commits.refusal = None
    await journal.append(new_task("t2"))
    await journal.append(new_task("t3", body_of(3 * PART)))
    assert len(parts_left(journal)) == 2
    assert await journal.store.body(journal.live["t3"].n) == body_of(3 * PART)


async def test_parts_of_a_task_that_was_never_stored_go_with_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_texts, "PART_BYTES", PART)
    async with journal_at(tmp_path / "x.db") as journal:
        await journal.append(new_task("t1", body_of(3 * PART)))
        await journal.append(BodyPart("never", PART, b"left"))
        assert len(parts_left(journal)) == 3
    async with journal_at(tmp_path / "x.db") as journal:
        assert len(parts_left(journal)) == 2
        assert await journal.store.body(1) == body_of(3 * PART)


@pytest.mark.parametrize("purged", [False, True])
async def test_a_task_that_goes_takes_the_parts_of_its_body_with_it(
    journal: Journal, purged: bool
) -> None:
    await journal.append(new_task("other", body_of(2 * PART)))
    await journal.append(new_task("t1", body_of(5 * PART)), begun("t1"))
    await journal.append(ended("t1", "done"))
    if purged:
        assert await journal.store.upkeep.purge(1 << 60)
    else:
        await journal.append(Removal("t1"))
    assert len(parts_left(journal)) == 1
