"""`backup`, `restore`, `export` and `import`: from the terminal, by real processes."""

import json
import sqlite3
import subprocess
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.cli.processes import MAIN, Place, prepared

TIME = "2026-11-20T21:48:17.783Z"


@contextmanager
def served(place: Place) -> Generator[Place]:
    with place.served() as (_, there):
        yield there


def known(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM tasks")}


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a database, but for the lock that names each process."""
    files = (path for path in folder.glob("*.db*") if path.suffix != ".lock")
    return {path.name: path.read_bytes() for path in files}


def submit(place: Place, text: str) -> str:
    ended = place.run("submit", text, "--wait", "--json", "--model", "fast")
    assert ended.code == 0, ended.err
    return str(ended.json["task_id"])


def test_a_backup_goes_out_and_is_restored(place: Place) -> None:
    data = place.folder / "data" / "asyncsvc.db"
    with served(place) as there:
        first = submit(there, "one")
        ended = there.run("backup", "a.db")
        assert (ended.code, ended.err) == (0, "")
        assert "1 tasks" in ended.out
        assert not list((data.parent / "backups").iterdir())
        again = there.run("backup", "a.db")
        assert again.code == 2
        assert "a.db exists already" in again.err
        second = submit(there, "two")
        refused = there.run("restore", "a.db")
        assert refused.code == 1
        assert "in use by another asyncsvc (process " in refused.err
        there.run("backup", "b.db", "--json")
    assert (known(place.folder / "a.db"), known(data)) == ({first}, {first, second})
    ended = place.run("restore", "a.db")
    assert (ended.code, ended.err) == (0, "")
    assert known(data) == {first}
    (before,) = data.parent.glob("asyncsvc.db.before-*")
    assert known(before) == {first, second}
    assert str(before) in ended.out
    with served(place) as there:
        assert there.run("show", first, "--json").json["status"] == "completed"
        assert there.run("show", second).code == 1


def test_a_copy_goes_through_a_pipe(place: Place) -> None:
    with served(place) as there:
        task_id = submit(there, "one")
        piped = subprocess.run(
            [*MAIN, "backup", "-"], cwd=place.folder, env=dict(there.env), capture_output=True
        )
        assert piped.returncode == 0
    back = subprocess.run(
        [*MAIN, "restore", "-", "--db", "new/other.db"],
        cwd=place.folder, env=dict(place.env), input=piped.stdout, capture_output=True,
    )  # fmt: skip
    assert back.returncode == 0, back.stderr
    assert known(place.folder / "new" / "other.db") == {task_id}
    assert b"there was none" in back.stdout


def test_nothing_is_changed_by_what_is_no_backup(place: Place) -> None:
    data = place.folder / "data" / "asyncsvc.db"
    with served(place) as there:
        task_id = submit(there, "one")
    (place.folder / "text.db").write_text("no database" * 99)
    with closing(sqlite3.connect(place.folder / "newer.db")) as newer:
        newer.execute("PRAGMA user_version=999")
        newer.execute("CREATE TABLE tasks (x)")
    (place.folder / "cut.db").write_bytes(data.read_bytes()[:8192])
    reasons = {
        "text.db": "not a SQLite",
        "newer.db": "newer asyncsvc",
        "cut.db": "nothing was changed",
    }
    for name, why in reasons.items():
        ended = place.run("restore", name)
        assert (ended.code, ended.err.count("\n")) == (1, 1)
        assert why in ended.err
    for name, why in {"nowhere": "no such file", "data/asyncsvc.db": "the database itself"}.items():
        ended = place.run("restore", name)
        assert ended.code == 2
        assert why in ended.err
    assert known(data) == {task_id}
    assert {path.name for path in data.parent.iterdir()} == {"asyncsvc.db", "asyncsvc.db.lock"}


def test_tasks_go_out_and_into_another_service(place: Place, provider: str, tmp_path: Path) -> None:
    other = prepared(tmp_path / "other", provider)
    file = str(tmp_path / "tasks.jsonl")
    with served(place) as there:
        ids = [submit(there, f"text {n}") for n in range(3)]
        ended = there.run("export", file)
        assert ended.code == 0
        assert f"{file}: 3 tasks" in ended.out
        assert there.run("export", file).code == 2
        piped = there.run("export", "-", "--status", "completed")
        assert piped.out == Path(file).read_text()
        assert "-: 3 tasks" in piped.err
        assert there.run("export", "-", "--status", "failed").out == ""
    with served(other) as there:
        ended = there.run("import", file)
        assert ended.code == 0
        assert "3 imported (3 finished, 0 queued), 0 skipped" in ended.out
        ended = there.run("import", "-", "--json", text=piped.out)
        assert ended.json == {"imported": 0, "finished": 0, "queued": 0, "skipped": 3}
        assert {task["task_id"] for task in there.run("tasks", "--json").json["tasks"]} == set(ids)


def test_a_bad_line_is_named_by_its_number_in_the_file(service: Place, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    good = [
        {
            "task_id": f"01a1faee-8d17-71b7-a632-{number:012x}", "status": "cancelled",
            "content": "x", "created_at": TIME, "finished_at": TIME,
        }
        for number in range(700)
    ]  # fmt: skip
    lines = [json.dumps(one) for one in good]
    lines[650] = "{}"
    file.write_text("\n".join(lines))
    ended = service.run("import", str(file))
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert "line 651: " in ended.err
    assert "stopped before line 501" in ended.err
    assert "500 imported" in ended.err
    lines[650] = ""
    file.write_text("\n".join(lines))
    ended = service.run("import", str(file))
    assert "199 imported (199 finished, 0 queued), 500 skipped" in ended.out


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        (
            "CREATE TRIGGER evil AFTER INSERT ON tasks BEGIN DELETE FROM tasks; END",
            "the trigger 'evil'",
        ),
        ("PRAGMA user_version=999", "newer asyncsvc"),
        ("PRAGMA application_id=1", "another program's database"),
    ],
)
def test_a_backup_that_is_not_as_ours_is_replaces_nothing(place: Place, sql: str, why: str) -> None:
    data = place.folder / "data" / "asyncsvc.db"
    with served(place) as there:
        submit(there, "mine")
        there.run("backup", "evil.db")
    with closing(sqlite3.connect(place.folder / "evil.db", isolation_level=None)) as copy:
        copy.execute(sql)
    before = contents(data.parent)
    for source, given in (("evil.db", None), ("-", (place.folder / "evil.db").read_bytes())):
        back = subprocess.run(
            [*MAIN, "restore", source], cwd=place.folder, env=dict(place.env), input=given,
            capture_output=True,
        )  # fmt: skip
        assert back.returncode == 1
        assert back.stderr.count(b"\n") == 1
        assert why.encode() in back.stderr
        assert b"nothing was changed" in back.stderr
        assert contents(data.parent) == before


def test_a_restore_follows_no_link_and_leaves_files_for_us_alone(place: Place) -> None:
    data = place.folder / "data" / "asyncsvc.db"
    with served(place) as there:
        submit(there, "mine")
        there.run("backup", "a.db")
    assert (place.folder / "a.db").stat().st_mode & 0o777 == 0o600
    (place.folder / "a.db").chmod(0o644)
    data.chmod(0o644)
    assert place.run("restore", "a.db").code == 0
    modes = {path.name: path.stat().st_mode & 0o077 for path in data.parent.iterdir()}
    assert set(modes.values()) == {0}, modes
    victim = place.folder / "victim"
    data.rename(victim)
    data.symlink_to(victim)
    content = victim.read_bytes()
    ended = place.run("restore", "a.db")
    assert ended.code == 2
    assert "is a symbolic link" in ended.err
    assert victim.read_bytes() == content


@pytest.mark.parametrize("command", ["backup", "export"])
def test_a_file_that_cannot_be_written_is_one_line(service: Place, command: str) -> None:
    ended = service.run(command, "no/such/folder/x")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "cannot be written" in ended.err


def test_a_file_that_is_not_there_is_one_line(service: Place) -> None:
    ended = service.run("import", "nowhere.jsonl")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "nowhere.jsonl" in ended.err


@pytest.mark.parametrize("command", ["backup", "export", "import"])
def test_without_a_service_it_says_where_it_looked(place: Place, command: str) -> None:
    (place.folder / "in.jsonl").write_text("{}\n")
    file = "in.jsonl" if command == "import" else "out"
    ended = place.run(command, file, ASYNCSVC_URL="http://127.0.0.1:9")
    assert ended.code == 1
    assert "cannot reach asyncsvc at http://127.0.0.1:9" in ended.err
    assert not (place.folder / "out").exists()
