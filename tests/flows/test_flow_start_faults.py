"""A start that cannot be: one line with the file, the reason and what to do, and no traceback."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flows.disks import fill, small_disk
from tests.flows.process import Provider, service, settings, start

NAME = "tasks.db"
SIZE = "12m"


async def one_line(path: Path) -> str:
    """What a start says that fails."""
    async with start(path) as process:
        assert await process.ended() == 2
        assert process.line == ""
        assert "Traceback" not in process.log
        lines = process.log.strip().splitlines()
    assert len([line for line in lines if not line.startswith(("INFO", "WARNING"))]) == 1
    return str(lines[-1])


def _reported_as_full(printed: str, database: Path) -> None:
    assert str(database) in printed
    assert "bytes free" in printed
    assert "a start needs about 262144" in printed
    assert "Make room there" in printed


@pytest.mark.parametrize("left", [0, 8 * 1024, 40 * 1024])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_full_disk_with_a_database(
    tmp_path: Path, sim: Provider, left: int, number: signal.Signals
) -> None:
    with small_disk(tmp_path / "disk", SIZE) as disk:
        path = settings(tmp_path, sim.url, database=disk / NAME)
        async with service(path) as remote:
            task_id = await remote.speaking("[[sim:hang-stream at=3 x1]]")
            remote.process.send(number)
            await remote.process.ended()
        ballast = fill(disk)
        os.truncate(ballast, max(0, ballast.stat().st_size - left))
        (tmp_path / "service.log").unlink()
        async with start(path) as process:
            if not process.line:  # what is left may be enough
                assert await process.ended() == 2
                assert "Traceback" not in process.log
                _reported_as_full(process.log.strip().splitlines()[-1], disk / NAME)
        ballast.unlink()
        async with service(path) as remote:
            assert (await remote.done(task_id))["status"] == "completed"


async def test_a_full_disk_without_a_database(tmp_path: Path, sim: Provider) -> None:
    with small_disk(tmp_path / "disk", SIZE) as disk:
        fill(disk)
        path = settings(tmp_path, sim.url, database=disk / NAME)
        _reported_as_full(await one_line(path), disk / NAME)


def _folder(lock: Path) -> None:
    lock.mkdir()


def _dangling(lock: Path) -> None:
    lock.symlink_to(lock.parent / "no" / "such")


def _pipe(lock: Path) -> None:
    os.mkfifo(lock)


@pytest.mark.parametrize("spoil", [_folder, _dangling])
async def test_a_lock_that_cannot_be_opened_is_named(
    tmp_path: Path, sim: Provider, spoil: Callable[[Path], None]
) -> None:
    spoil(tmp_path / f"{NAME}.lock")
    printed = await one_line(settings(tmp_path, sim.url))
    assert f"{NAME}.lock" in printed
    assert "--db FILE" in printed


@pytest.mark.parametrize("content", [b"\xff\xfe\0\x80" * 100, b"", b"99999999999999999999", b"\n"])
async def test_whatever_stands_in_a_lock_that_is_not_held_does_not_matter(
    tmp_path: Path, sim: Provider, content: bytes
) -> None:
    (tmp_path / f"{NAME}.lock").write_bytes(content)
    path = settings(tmp_path, sim.url)
    async with service(path) as remote:
        await remote.submit("x", delay_s=3600)
        with (tmp_path / f"{NAME}.lock").open("r+b") as file:
            file.write(content)
        assert "is in use by another asyncsvc (process" in await one_line(path)


async def test_a_lock_that_is_a_pipe_does_not_hold_up_the_start(
    tmp_path: Path, sim: Provider
) -> None:
    _pipe(tmp_path / f"{NAME}.lock")
    path = settings(tmp_path, sim.url)
    async with start(path) as process:
        assert process.line or "Traceback" not in process.log
