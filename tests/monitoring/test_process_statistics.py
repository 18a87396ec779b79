import asyncio
import builtins
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from asyncsvc.monitoring import process_statistics as process_statistics
from asyncsvc.monitoring.process_statistics import Machine, ProcessStatistics, give_back


def nothing() -> None:
    """Nothing is wrong with the files."""


async def test_it_sees_the_process_and_the_files(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    database.write_bytes(b"x" * 1000)
    (tmp_path / "x.db-wal").write_bytes(b"x" * 70)
    look = Machine(database, nothing)
    seen = await look()
    assert seen.memory > 1_000_000
    assert seen.disk_free is not None
    assert seen.disk_free > 0
    assert (seen.database, seen.wal) == (1000, 70)
    assert seen.fds is not None
    with (tmp_path / "open").open("w"):
        more = await look()
        assert more.fds is not None
        assert more.fds > 0
    assert await look() is not seen


async def test_files_that_are_not_there_have_no_size(tmp_path: Path) -> None:
    seen = await Machine(tmp_path / "no.db", nothing)()
    assert (seen.database, seen.wal) == (0, 0)


async def test_a_missing_folder_has_no_figure_and_is_reported(tmp_path: Path) -> None:
    look = Machine(tmp_path / "gone" / "x.db", lambda: "it is gone")
    seen = await look()
    assert (seen.disk_free, seen.misplaced) == (None, "it is gone")
    assert seen.memory > 0


async def test_a_failed_look_is_not_what_the_next_one_gives(tmp_path: Path) -> None:
    faults = [OSError("no"), OSError("no")]

    def misplaced() -> None:
        if faults:
            raise faults.pop()

    look = Machine(tmp_path / "x.db", misplaced)
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            await look()
    assert (await look()).memory > 0


async def test_a_look_that_hangs_is_given_up_and_not_started_twice(tmp_path: Path) -> None:
    look = Machine(tmp_path / "x.db", nothing)
    free, starts = asyncio.Event(), []

    async def hang(*_: Any) -> ProcessStatistics:
        starts.append(1)
        await free.wait()
        return ProcessStatistics(memory=7)

    with (
        patch.object(process_statistics, "LOOK_WITHIN_S", 0.01),
        patch("asyncio.to_thread", hang),
    ):
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await look()
        free.set()
        assert (await look()).memory == 7
        assert len(starts) == 1


async def test_a_platform_without_limits_of_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = builtins.__import__

    def no_resource(name: str, *rest: Any, **more: Any) -> Any:
        if name == "resource":
            raise ImportError(name)
        return plain(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", no_resource)
    seen = await Machine(tmp_path / "x.db", nothing)()
    assert (seen.fds, seen.fds_limit) == (None, None)


async def test_memory_is_given_back_where_that_is_possible() -> None:
    await give_back()
    with patch("ctypes.CDLL", side_effect=OSError):
        await give_back()
