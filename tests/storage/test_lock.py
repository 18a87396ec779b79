"""One process a database; the error for a place that cannot be used is one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from asyncsvc.errors import StartError
from asyncsvc.storage.lock import FileLock, holder

HOLD = """
import sys
from pathlib import Path
from asyncsvc.storage.lock import FileLock
with FileLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def refusal(database: Path) -> str:
    with pytest.raises(StartError) as caught, FileLock(database):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_lock_names_the_process_that_holds_it(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    with FileLock(database):
        assert (tmp_path / "x.db.lock").read_text() == str(os.getpid())
        assert f"process {os.getpid()}" in refusal(database)
        assert "--db FILE" in refusal(database)


def test_the_holder_of_a_database_is_named_while_there_is_one(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    assert holder(database) is None
    database.touch()
    assert holder(database) is None
    with FileLock(database):
        assert holder(database) == f"process {os.getpid()}"
    assert holder(database) is None


def test_the_lock_is_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with FileLock(tmp_path / "x.db"):
            pass


def test_a_longer_number_of_the_one_before_is_overwritten(tmp_path: Path) -> None:
    lock = tmp_path / "x.db.lock"
    lock.write_text("99999999999999")
    with FileLock(tmp_path / "x.db"):
        assert lock.read_text() == str(os.getpid())


def test_a_holder_without_a_number_is_unknown(tmp_path: Path) -> None:
    with FileLock(tmp_path / "x.db"):
        (tmp_path / "x.db.lock").write_text("")
        assert "process unknown" in refusal(tmp_path / "x.db")


def test_a_killed_process_gives_the_lock_back(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert f"process {other.pid}" in refusal(database)
        other.kill()
        other.wait(20)
        with FileLock(database):
            pass


def test_the_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    with FileLock(tmp_path / "a" / "b" / "x.db"):
        assert (tmp_path / "a" / "b").stat().st_mode & 0o077 == 0


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "Not a directory" in refusal(tmp_path / "file" / "x.db")
    assert "Not a directory" in refusal(tmp_path / "file" / "deeper" / "x.db")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", [".", "/", "..", "folder"])
def test_a_directory_is_refused_and_nothing_is_put_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "here" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert "it is a directory" in refusal(Path(name))
    assert [path.name for path in tmp_path.rglob("*")] == ["here", "folder"]


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    assert "null" in refusal(tmp_path / "a\0b" / "x.db")
    assert "too long" in refusal(tmp_path / ("x" * 300))
