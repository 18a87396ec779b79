import os
from pathlib import Path
from unittest.mock import patch

import pytest

from asyncsvc.storage.backup import new_file


def test_a_file_is_there_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with new_file(target) as passing:
        passing.write_text("whole")
        assert not target.exists()
        assert passing.parent == tmp_path
        assert passing.stat().st_mode & 0o077 == 0
    assert target.read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_file(tmp_path / "a") as passing:
        passing.write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(FileExistsError), new_file(tmp_path / "a"):
        pytest.fail("nothing is to be written")
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize("links", [True, False])
def test_a_client_that_was_faster_keeps_the_name(tmp_path: Path, links: bool) -> None:
    def no_links(*_: object) -> None:
        raise OSError("not here")

    with (
        patch.object(os, "link", os.link if links else no_links),
        pytest.raises(FileExistsError),
        new_file(tmp_path / "a") as passing,
    ):
        passing.write_text("late")
        (tmp_path / "a").write_text("early")
    assert (tmp_path / "a").read_text() == "early"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_dangling_link_is_something_too(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError), new_file(tmp_path / "a"):
        pytest.fail("nothing is to be written")


def test_it_works_without_hard_links(tmp_path: Path) -> None:
    with (
        patch.object(os, "link", side_effect=OSError("not here")),
        new_file(tmp_path / "a") as passing,
    ):
        passing.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"
