"""The page of the self-test: as text for people and as JSON, and folders that cannot be used."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from asyncsvc.cli import selftest_page
from asyncsvc.cli.options import Failure
from asyncsvc.cli.parser import run
from asyncsvc.selftest import checks
from asyncsvc.selftest.selftest import Plan, Result
from tests.selftest.stories import story
from tests.selftest.test_oracle import event_twice_to_the_feed


def result() -> Result:
    spoiled = story()
    event_twice_to_the_feed(spoiled)
    plan = Plan(seed=77)
    return Result(Path("/srv/data"), plan, checks.of_run(spoiled, plan.load, 0.0), 41.2)


def test_a_page_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    selftest_page.print_page(result())
    page = capsys.readouterr().out
    assert "selftest in /srv/data, seed 77" in page
    assert "failed  events" in page
    assert "client: id 29 came after 29" in page
    assert "NOT durable on this machine: 1 of 7 fail: events" in page
    assert "selftest --seed 77 --keep" in page
    assert "a power cut" in page


def test_a_disk_in_memory_is_nothing_to_report(capsys: pytest.CaptureFixture[str]) -> None:
    found = Result(Path("/tmp"), Plan(), [checks.check("disk", "", "", ["in memory"])])
    selftest_page.print_page(found)
    assert "--keep" not in capsys.readouterr().out


def test_a_page_as_json() -> None:
    page = json.loads(json.dumps(selftest_page.document(result())))
    assert (page["durable"], page["seed"], page["kills"], page["took_s"]) == (False, 77, 20, 41.2)
    lines = {line["name"]: line for line in page["checks"]}
    assert lines["events"]["outcome"] == "failed"
    assert lines["events"]["details"] == ["client: id 29 came after 29"]
    assert lines["tasks"] == {
        "name": "tasks",
        "tried": "each task that was acknowledged is there, once",
        "found": "2 acknowledged: none lost, none stored twice",
        "outcome": "ok",
        "details": [],
    }


def test_a_folder_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["selftest", "--dir", str(tmp_path / "absent")]) == 2
    assert "absent is no folder; name one with --dir" in capsys.readouterr().err


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 << 20))
    with pytest.raises(Failure, match="needs 300 MB of free disk, and 100 MB are free"):
        selftest_page.check_room(tmp_path)


def test_progress_in_a_pipe_is_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    progress = selftest_page.Progress()
    progress.show("disk")
    progress.show("kills: 1 of 20, 12 tasks")
    progress.clear()
    assert capsys.readouterr().err == "disk\nkills: 1 of 20, 12 tasks\n"
