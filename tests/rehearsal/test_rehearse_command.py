"""The command `rehearse`: what it prints, and its one line for what it cannot do."""

import json
from pathlib import Path

import pytest

from asyncsvc.cli.parser import run
from tests.engine_services import EngineServices, model
from tests.virtual_time import START_MS, run_virtual

FILE = """
[storage]
path = "{folder}/tasks.db"
[models.a]
base_url = "http://127.0.0.1:9/v1"
model = "id"
concurrency = 1
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings of a database in which three tasks waited for one slot."""

    async def work() -> None:
        async with EngineServices(tmp_path, {"a": model()}) as services:
            ids = [await services.submit_script(f"job {n}", ["a", 10.0, "b"]) for n in range(3)]
            for task_id in ids:
                await services.finished(task_id)

    run_virtual(work())
    monkeypatch.setattr("asyncsvc.cli.rehearse.now_ms", lambda: START_MS + 3_600_000)
    path = tmp_path / "settings.toml"
    path.write_text(FILE.format(folder=tmp_path.as_posix()), encoding="utf-8")
    return path


def test_it_compares_the_settings_of_today_with_one_other_value(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.with_name("tasks.db").read_bytes()
    given = ["--settings", str(file), "--set", "models.a.concurrency=3"]
    assert run(["rehearse", *given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    row = found["waits"][0]
    assert (row["tasks"], row["measured"]["max_s"]) == (3, pytest.approx(20, abs=0.1))
    assert row["now"]["max_s"] == pytest.approx(20, abs=0.1)
    assert row["new"]["max_s"] == 0
    assert found["ends"] == {"now": {"completed": 3}, "new": {"completed": 3}}
    assert file.with_name("tasks.db").read_bytes() == before
    assert run(["rehearse", *given]) == 0
    text = capsys.readouterr().out
    assert "concurrency 30" in text
    assert "3 of 3" in text


def test_today_alone_has_one_column(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rehearse", "--settings", str(file)]) == 0
    text = capsys.readouterr().out
    assert "assumed:" in text
    assert "new" not in text.partition("of the tasks")[2].partition("assumed")[0]


def test_another_file_is_tried(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = file.with_name("new.toml")
    new.write_text(file.read_text(encoding="utf-8").replace("[models.a]", "[models.b]"), "utf-8")
    options = ["--settings", str(file), "--json"]
    assert run(["rehearse", str(new), *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [account["account"] for account in found["accounts"]] == ["a", "b"]
    assert found["accounts"][1]["now"] is None


def test_single_changes_are_suggested_with_what_each_would_save(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["rehearse", "--settings", str(file), "--suggest", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["now"]["waited_s"] == pytest.approx(30, abs=0.1)
    changes = {row["option"]: row["saved_s"] for row in found["changes"]}
    assert changes == {
        "--set models.a.concurrency=2": pytest.approx(20, abs=0.1),
        "--model a": pytest.approx(20, abs=0.1),
    }
    assert run(["rehearse", "--settings", str(file), "--suggest"]) == 0
    assert "--set models.a.concurrency=2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said_of"),
    [
        (["none.toml"], "no such file"),
        (["--set", "models.a.rmp=2"], "did you mean 'rpm'?"),
        (["--since", "soon"], "no duration"),
        (["--suggest", "--model", "a"], "give nothing else to try"),
        (["--model", "c"], "there is no model 'c'"),
        (["--db", "none.db"], "no database yet"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    file: Path, given: list[str], said_of: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["rehearse", "--settings", str(file), *given]) == 2
    caught = capsys.readouterr()
    assert said_of in caught.err
    assert caught.err.count("\n") == 1
    assert caught.out == ""


def test_a_file_that_is_no_database_of_ours_is_named(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = file.with_name("other.db")
    other.write_bytes(b"nothing that SQLite reads" * 100)
    assert run(["rehearse", "--settings", str(file), "--db", str(other)]) == 2
    assert "cannot be used" in capsys.readouterr().err
