"""Copies of the database and tasks as JSON lines, over HTTP."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest

from asyncsvc.clock import new_id
from asyncsvc.storage import backup
from asyncsvc.web.admin import transfer
from tests.agents.waiting import answered, asked, ended, placed, result, started, step
from tests.web.serving import Service, expect, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
TIME = "2026-11-20T21:48:17.783Z"


def line(**fields: Any) -> bytes:
    known = {"task_id": new_id(1_800_000_000_000), "status": "completed", "content": "x"}
    return json.dumps(known | {"created_at": TIME, "finished_at": TIME} | fields).encode() + b"\n"


async def bring(service: Service, body: bytes, **query: Any) -> httpx.Response:
    return await service.http.post("/admin/import", content=body, params=query)


async def test_a_backup_is_made_fetched_and_dropped(fresh: Service, tmp_path: Path) -> None:
    await fresh.done(task_id := await fresh.submit("hello"))
    answer = await fresh.http.post("/admin/backup", json={"path": "one.db"})
    made = expect(answer, 201)
    assert answer.headers["location"] == "/admin/backup/one.db"
    assert made["path"] == str(tmp_path / "backups" / "one.db")
    found = await fresh.http.get("/admin/backup/one.db")
    assert len(found.content) == made["bytes"]
    (tmp_path / "mine.db").write_bytes(found.content)
    assert backup.sha256(tmp_path / "mine.db") == made["sha256"]
    with closing(sqlite3.connect(tmp_path / "mine.db")) as copy:
        assert copy.execute("SELECT id FROM tasks").fetchall() == [(task_id,)]
    taken = await fresh.http.post("/admin/backup", json={"path": "one.db"})
    assert refused(taken, 422, "invalid_request")["param"] == "path"
    assert (await fresh.http.delete("/admin/backup/one.db")).status_code == 204
    refused(await fresh.http.get("/admin/backup/one.db"), 404, "not_found")
    refused(await fresh.http.delete("/admin/backup/one.db"), 404, "not_found")


async def test_without_a_name_it_gets_one_of_its_time(fresh: Service) -> None:
    names = {expect(await fresh.http.post("/admin/backup"), 201)["name"] for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("tasks-20") and name.endswith("Z.db") for name in names)


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/passwd", "a/b", "", ".hidden", "a\x00", "a\\b", "x" * 101, 3, {}, "..", "ä"],
)
async def test_no_client_chooses_a_path(service: Service, path: object) -> None:
    answer = await service.http.post("/admin/backup", json={"path": path})
    assert refused(answer, 422, "invalid_request")["param"] == "path"


@pytest.mark.parametrize("name", ["..%2ftasks.db", "%2e%2e", ".x", "tasks.db%00"])
async def test_nothing_but_backups_is_given_away(service: Service, name: str) -> None:
    for verb in ("GET", "DELETE"):
        answer = await service.http.request(verb, f"/admin/backup/{name}")
        assert answer.status_code in (404, 405, 422), answer.text
    assert (await service.http.get("/tasks")).status_code == 200


async def test_a_link_among_the_backups_leads_nowhere(fresh: Service, tmp_path: Path) -> None:
    expect(await fresh.http.post("/admin/backup", json={"path": "one.db"}), 201)
    secret = tmp_path / "secret"
    secret.write_text("a key")
    for name, target in (("link.db", secret), ("dangling.db", tmp_path / "nothing")):
        (tmp_path / "backups" / name).symlink_to(target)
        for verb in ("GET", "DELETE"):
            answer = await fresh.http.request(verb, f"/admin/backup/{name}")
            refused(answer, 404, "not_found")
        taken = await fresh.http.post("/admin/backup", json={"path": name})
        assert refused(taken, 422, "invalid_request")["param"] == "path"
    assert secret.read_text() == "a key"
    assert not (tmp_path / "nothing").exists()
    assert (tmp_path / "backups" / "one.db").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"owner": "a\nb"},
        {"owner": "x" * 201},
        {"owner": 7},
        {"error": {"code": "Not A Code", "message": "x"}, "status": "failed"},
        {"error": {"code": "x" * 65, "message": "x"}, "status": "failed"},
        {"error": {"code": "internal", "message": "x" * 70_000}, "status": "failed"},
        {"metadata": {"model": "m" * 201}},
        {"metadata": {"name": "a\x1b[2Jb"}},
        {"metadata": {"latency": -1}},
        {"metadata": {"latency": 1e300}},
        {"metadata": {"usage": {"total_tokens": "many"}}},
        {"metadata": {"usage": {"total_tokens": -1}}},
        {"metadata": {"usage": {"total_tokens": True}}},
        {"metadata": {"usage": {"total_tokens": 1 << 60}}},
        {"metadata": {"usage": {"x": "y" * 70_000}}},
        {"metadata": {"route": {"x": "y" * 70_000}}},
        {"attempts": 1 << 40},
        {"attempts": -1},
        {"created_at": "2026-13-01T00:00:00Z"},
        {"finished_at": 5},
        {"result": {"x": 1}},
        {"tool_calls": [1]},
        {"task_id": "../../etc"},
        {"status": "sleeping"},
    ],
)
async def test_a_line_beyond_its_bounds_is_refused(
    service: Service, fields: dict[str, Any]
) -> None:
    error = refused(await bring(service, line(**fields)), 422, "invalid_request")
    assert "line 1" in error["message"]
    assert len(error["message"]) < 1000


async def test_what_seems_to_end_in_the_future_has_ended_now(fresh: Service) -> None:
    late = "9999-12-31T23:59:59Z"
    brought = line(task_id=(task_id := new_id(1)), created_at=late, finished_at=late)
    expect(await bring(fresh, brought), 200)
    task = await fresh.task(task_id)
    assert task["finished_at"] < "9000"
    assert task["created_at"] < "9000"
    assert all(event["ts"] < "9000" for event in await fresh.events(task_id))


async def test_odd_bodies_of_a_backup_are_refused(service: Service) -> None:
    refused(await service.http.post("/admin/backup", content=b"{"), 400, "invalid_json")
    answer = await service.http.post("/admin/backup", json={"file": "x"})
    assert refused(answer, 422, "invalid_request")["param"] == "file"
    large = await service.http.post("/admin/backup", content=b" " * 70_000)
    refused(large, 413, "task_too_large")


async def test_a_backup_without_room_is_a_503(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"disk_free_mb": 1 << 40}) as service:
        answer = await service.http.post("/admin/backup")
        assert "free on the disk" in refused(answer, 503, "overloaded")["message"]
        assert int(answer.headers["retry-after"]) >= 1
        with patch.object(backup.Backups, "busy", True):
            answer = await service.http.post("/admin/backup")
        assert "another backup" in refused(answer, 503, "overloaded")["message"]


async def test_all_goes_out_and_comes_in_again(fresh: Service, tmp_path: Path) -> None:
    ids = [await fresh.submit(f"hello {n} ä") for n in range(3)]
    for task_id in ids:
        await fresh.done(task_id)
    later = await fresh.submit("later", delay_s=3600)
    out = await fresh.http.get("/admin/export")
    assert out.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(one)["task_id"] for one in out.text.splitlines()] == [*ids, later]
    async with serving(tmp_path / "other") as other:
        counts = expect(await bring(other, out.content), 200)
        assert counts == {"imported": 4, "finished": 3, "queued": 1, "skipped": 0}
        for task_id in ids:
            old, new = await fresh.task(task_id), await other.task(task_id)
            other_here = {"seq": 0, "updated_at": 0, "spans": []}
            assert new | other_here == old | other_here
        again = await other.http.get("/admin/export", params={"status": "completed"})
        assert again.content == b"".join(out.content.splitlines(keepends=True)[:3])
        assert expect(await bring(other, out.content), 200)["skipped"] == 4
    head = await fresh.http.head("/admin/export")
    assert (head.status_code, head.content) == (200, b"")


async def test_wrong_filters_are_named(service: Service) -> None:
    for path, param in (("export?status=x", "status"), ("export?limit=1", "limit")):
        assert (
            refused(await service.http.get(f"/admin/{path}"), 422, "invalid_request")["param"]
            == param
        )
    answer = await bring(service, b"", line=3)
    assert refused(answer, 422, "invalid_request")["param"] == "line"
    answer = await bring(service, b"", first_line=0)
    assert refused(answer, 422, "invalid_request")["param"] == "first_line"


async def test_bad_lines_are_named_and_nothing_is_taken(service: Service) -> None:
    good = json.loads(first := line())["task_id"]
    body = first + b"\n{\n" + line(status="new") + b"[]\n" + line(content=None)
    error = refused(await bring(service, body, first_line=11), 422, "invalid_request")
    for number, why in ((13, "not valid JSON"), (14, "status"), (15, "object"), (16, "content")):
        assert f"line {number}: " in error["message"]
        assert why in error["message"]
    assert error["param"] == "13"
    refused(await service.http.get(f"/tasks/{good}"), 404, "task_not_found")
    many = refused(await bring(service, b"x\n" * 30), 422, "invalid_request")["message"]
    assert "line 10: " in many
    assert "line 11: " not in many
    assert "20 lines more" in many


async def test_an_import_is_bounded(tmp_path: Path) -> None:
    async with serving(tmp_path, queue={"max_task_bytes": 2048}) as service:
        many = await bring(service, b"x\n" * (transfer.LINES_MOST + 1))
        assert "at most 1000 lines" in refused(many, 422, "invalid_request")["message"]
        long = refused(await bring(service, line(result="y" * 3000)), 422, "invalid_request")
        assert "result" in long["message"]
        large = await bring(service, b"x" * ((1 << 20) + 5000))
        refused(large, 413, "task_too_large")
        assert expect(await bring(service, line(result="y" * 2000)), 200)["imported"] == 1


async def test_tokens_guard_all_of_it(tmp_path: Path) -> None:
    async with serving(tmp_path, {"ASYNCSVC_TOKENS": "secret"}) as service:
        for verb, path in (
            ("POST", "backup"), ("GET", "backup/x"), ("DELETE", "backup/x"), ("GET", "export"),
            ("POST", "import"),
        ):  # fmt: skip
            answer = await service.http.request(verb, f"/admin/{path}")
            refused(answer, 401, "unauthorized")


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
async def test_an_import_takes_a_bom_and_blank_lines(service: Service, end: bytes) -> None:
    bom = b"\xef\xbb\xbf"
    data = bom + line().strip() + b"\r\n\r\n  \n" + bom + line().strip() + end
    assert expect(await bring(service, data), 200)["imported"] == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
async def test_an_import_in_another_encoding_is_refused_by_name(
    service: Service, encoding: str
) -> None:
    answer = await bring(service, line().decode().encode(encoding))
    message = refused(answer, 422, "invalid_request")["message"]
    assert encoding[:6].upper() in message
    assert "UTF-8" in message


async def test_an_import_of_the_same_lines_makes_nothing_twice(service: Service) -> None:
    data = line() + line(status="pending", finished_at=None, run_at="2099-01-01T00:00:00Z")
    first, again = [expect(await bring(service, data), 200) for _ in range(2)]
    assert (first["imported"], again["imported"], again["skipped"]) == (2, 0, 2)


async def test_an_agent_comes_with_its_workspace(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    tools = {"workspace": str(tmp_path / "w")}
    others = {"workspace": str(tmp_path / "two" / "w")}
    drafts = [*step(1), *ended(1, asked("c1")), started("c1"), result("c1"), *step(2, "done")]
    drafts += [*ended(2, finish_reason="stop"), answered()]
    async with (
        serving(tmp_path, tools=tools) as one,
        serving(tmp_path / "two", tools=others) as two,
    ):
        task_id = await placed(one.parts, drafts, text="done", model="fast")
        await one.parts.workspaces.begin(task_id, 0, {"a.txt": "its own"})
        lines = (await one.http.get("/admin/export")).content
        assert lines.count(b"\n") == 2
        taken = expect(await bring(two, lines), 200)
        assert (taken["imported"], taken["finished"]) == (1, 1)
        path = f"/tasks/{task_id}"
        assert (await two.http.get(f"{path}/files/a.txt")).text == "its own"
        (call,) = expect(await two.http.get(f"{path}/ledger"), 200)["calls"]
        assert (call["id"], call["state"]) == ("c1", "finished")
        assert (await two.task(task_id))["result"] == "done"
        explained = expect(await two.http.get(f"{path}/explain"), 200)["agent"]
        assert len(explained["steps"]) == 2
        assert expect(await bring(two, lines), 200)["skipped"] == 1
