"""Long results are stored in parts, ahead of the commit that ends their task."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncsvc.errors import IllegalTransition, StorageUnavailable
from asyncsvc.journal import long_results
from asyncsvc.journal.journal import Change, Journal
from asyncsvc.storage import texts
from asyncsvc.storage.entries import ResultPart
from asyncsvc.storage.protocol import Store
from asyncsvc.tasks.state import Cause, State, status
from tests.builders import Commits, begun, ended, journal_at, live_through, new_task, rows

PART = 8
ALPHABETS = ("ab", "é", "漢字", "a😀é", "\0x", '"\\\n')


@pytest.fixture
async def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Journal]:
    monkeypatch.setattr(long_results, "PART_CHARS", PART)
    async with journal_at(tmp_path / "x.db") as journal:
        yield journal


def text_of(length: int, alphabet: str = "ab") -> str:
    return "".join(itertools.islice(itertools.cycle(alphabet), length))


async def running(journal: Journal, *ids: str) -> None:
    for task_id in ids:
        await journal.append(new_task(task_id))
        await journal.append(begun(task_id))


async def in_pieces(store: Store, n: int) -> str:
    """A result, as a client reads it that takes a piece at a time."""
    data, size = b"", 1
    while len(data) < size:
        piece = await store.texts.result(n, len(data))
        assert piece is not None
        assert piece.at == len(data)
        assert piece.data
        data, size = data + piece.data, piece.size
    assert len(data) == size
    return data.decode()


def parts(commits: Commits) -> list[list[ResultPart]]:
    return [[row for row in one.rows if isinstance(row, ResultPart)] for one in commits.batches]


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
    monkeypatch.setattr(long_results, "PART_CHARS", PART)
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
