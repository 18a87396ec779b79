import asyncio
from pathlib import Path

import pytest

from asyncsvc.errors import StorageUnavailable
from asyncsvc.journal.counters import Writes
from asyncsvc.journal.journal import PersistedValue
from tests.builders import Commits, journal_at, new_task
from tests.virtual_time import loop, virtual


@virtual
async def test_the_last_write_tells() -> None:
    writes = Writes()
    with pytest.raises(OSError, match="full"), writes:
        raise OSError("full")
    assert (writes.refusal, writes.refusals) == ("full", 1)
    with writes:
        pass
    assert (writes.refusal, writes.refusals, writes.seconds.count) == (None, 1, 1)


@virtual
async def test_a_write_under_way_is_timed() -> None:
    writes = Writes()
    assert writes.under_way_s() == 0.0
    with writes:
        await asyncio.sleep(3)
        assert writes.under_way_s() == 3.0
    assert writes.under_way_s() == 0.0
    await asyncio.sleep(4)
    assert loop().time() - writes.ended == 4.0


async def test_the_journal_tells_of_its_commits(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "x.db") as journal:
        commits = Commits(journal.store)
        commits.refuse()
        with pytest.raises(StorageUnavailable):
            await journal.append(new_task())
        assert journal.writes.refusal == "the disk is full"
        commits.refusal = None
        await journal.append(new_task())
        assert journal.writes.refusal is None


async def test_a_trial_write_is_synced_and_other_notes_are_not(tmp_path: Path) -> None:
    async with journal_at(tmp_path / "x.db") as journal:
        commits = Commits(journal.store)
        await journal.append(PersistedValue("k", "a", "1"))
        await journal.append(PersistedValue("k", "b", "1", durable=True))
        assert [batch.durable for batch in commits.batches] == [False, True]
