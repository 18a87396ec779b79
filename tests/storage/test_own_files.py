"""The service's own files: no links, no pipes, no rights for others."""

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncsvc.cli.check import database as checked
from asyncsvc.errors import DatabaseLost, UnsafeFile
from asyncsvc.storage import own_files
from asyncsvc.storage.backup import Backups, new_file
from tests.builders import store_at

PRECIOUS = "keep this " * 20
NAME = "x.db"


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def lax() -> Iterator[None]:
    """A umask that leaves all rights to all."""
    before = os.umask(0)
    yield
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


async def refusal(path: Path) -> str:
    """Why no store opens there, which `check` says too."""
    with pytest.raises(UnsafeFile) as caught:
        async with store_at(path):
            pass
    assert "\n" not in str(caught.value)
    assert checked(path)[1]
    return str(caught.value)


def linked(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def dangling(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("not there"))


def second_name(path: Path, victim: Path) -> None:
    os.link(victim, path)


def pipe(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, victim: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("side", own_files.SIDES)
@pytest.mark.parametrize("place", [linked, dangling, second_name, pipe, folder])
async def test_nothing_but_a_plain_file_is_opened(
    tmp_path: Path, side: str, place: Callable[[Path, Path], None]
) -> None:
    victim = tmp_path / "victim"
    victim.write_text(PRECIOUS)
    path = tmp_path / f"{NAME}{side}"
    place(path, victim)
    before = names(tmp_path)
    assert str(path) in await refusal(tmp_path / NAME)
    assert victim.read_text() == PRECIOUS
    assert names(tmp_path) == before


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
async def test_a_device_is_no_database(device: str) -> None:
    assert "a device" in await refusal(Path(device))
    assert f"{Path(device).name}.lock" not in names(Path("/dev"))


async def test_a_second_name_of_a_database_is_refused(tmp_path: Path) -> None:
    async with store_at(tmp_path / NAME):
        pass
    os.link(tmp_path / NAME, tmp_path / "other.db")
    for name in (NAME, "other.db"):
        assert "2 names" in await refusal(tmp_path / name)


async def test_the_folder_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    async with store_at(tmp_path / "data" / NAME):
        pass
    assert (tmp_path / "disk" / NAME).is_file()


async def test_a_link_in_the_place_of_the_open_database_is_noticed(tmp_path: Path) -> None:
    async with store_at(tmp_path / NAME) as store:
        os.rename(tmp_path / NAME, tmp_path / "moved")
        (tmp_path / NAME).symlink_to(tmp_path / "moved")
        assert "was replaced" in str(store.upkeep.fault())
        with pytest.raises(DatabaseLost):
            store.upkeep.check()
        (tmp_path / NAME).unlink()
        os.rename(tmp_path / "moved", tmp_path / NAME)
        assert store.upkeep.fault() is None


def modes(top: Path) -> dict[str, int]:
    return {str(p.relative_to(top)): stat.S_IMODE(p.stat().st_mode) for p in top.rglob("*")}


async def test_whatever_the_umask_is_files_are_for_us_alone(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "a" / "data" / NAME
    if umask == 0o777 and os.geteuid() != 0:
        pytest.skip("not even root's rights are left by this umask")
    async with store_at(path) as store:
        await Backups(path).make("copy.db")
        await store.upkeep.shorten_log()
        found = modes(tmp_path / "a" / "data")
        assert {"x.db", "x.db-wal", "x.db-shm", "x.db.lock", "backups/copy.db"} < found.keys()
        assert {name: mode for name, mode in found.items() if mode & 0o077} == {}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert found["x.db"] == found["backups/copy.db"] == 0o600


async def test_rights_of_older_versions_are_taken_back_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lax: None
) -> None:
    path = tmp_path / "data" / NAME
    async with store_at(path):
        await Backups(path).make("copy.db")
    for one in (path, Path(f"{path}.lock"), path.parent / "backups" / "copy.db"):
        one.chmod(0o644)
    path.parent.chmod(0o755)
    (path.parent / "backups").chmod(0o755)
    notes = own_files.open_to_others(path)
    assert any(str(path) in note and "may read it (mode 0644)" in note for note in notes)
    assert any(f"{path.parent}: other users may look into it" in note for note in notes)
    caplog.clear()
    async with store_at(path):
        pass
    assert own_files.open_to_others(path) == []
    assert {mode & 0o077 for mode in modes(path.parent).values()} == {0}
    logged = [record.getMessage() for record in caplog.records if "no longer" in record.message]
    assert len(logged) == 7  # with the two files that SQLite has made beside an open database


async def test_a_folder_with_other_things_in_it_is_left_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    (home / "letter").write_text("mine")
    async with store_at(home / NAME):
        assert own_files.open_to_others(home / NAME) == []
    assert stat.S_IMODE(home.stat().st_mode) == 0o755
    home.chmod(0o1777)  # as /tmp
    caplog.clear()
    async with store_at(home / NAME):
        assert "may put files there" in own_files.open_to_others(home / NAME)[0]
    assert stat.S_IMODE(home.stat().st_mode) == 0o1777
    assert "may put files there" in caplog.text


async def test_a_sticky_folder_is_left_as_it_is_though_it_holds_nothing_else(
    tmp_path: Path,
) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    place.chmod(0o1777)
    async with store_at(place / NAME):
        pass
    assert stat.S_IMODE(place.stat().st_mode) == 0o1777


@pytest.mark.parametrize("place", [linked, dangling, second_name, pipe, folder])
def test_a_new_file_takes_no_place_that_is_taken(
    tmp_path: Path, place: Callable[[Path, Path], None]
) -> None:
    victim = tmp_path / "victim"
    victim.write_text(PRECIOUS)
    place(tmp_path / "out", victim)
    with pytest.raises(FileExistsError), new_file(tmp_path / "out"):
        pass
    assert victim.read_text() == PRECIOUS


async def test_sqlite_itself_makes_nothing_behind_a_link(tmp_path: Path) -> None:
    """What a link that appears between the check and the opening comes to: the log is refused by
    SQLite, which follows none there."""
    async with store_at(tmp_path / NAME):
        pass
    (tmp_path / f"{NAME}-wal").symlink_to(tmp_path / "victim")
    connection = sqlite3.connect(tmp_path / NAME)
    try:
        with pytest.raises(sqlite3.OperationalError):
            connection.execute("INSERT INTO purged VALUES (1)")
    finally:
        connection.close()
    assert not (tmp_path / "victim").exists()
