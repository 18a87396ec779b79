"""The workspace of an agent over HTTP: the list, one file, the archive; and forks."""

import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from asyncsvc.journal.journal import Change
from asyncsvc.tasks.state import Cause, Draft, EventType, State, status
from tests.agents.waiting import asked, ended, placed, result, started, step, waits
from tests.builders import Commits
from tests.web.description import as_described
from tests.web.serving import Service, ask, expect, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

MISSING = "01890000-0000-7000-8000-000000000000"
ASKED = [*step(1, "I write"), *ended(1, asked("c1"))]
WRITTEN = [*ASKED, started("c1"), result("c1")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agents(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("workspaces")
    async with serving(folder, tools={"workspace": str(folder / "workspaces")}) as service:
        service.http.event_hooks["response"].append(as_described)
        yield service


async def at_work(agents: Service, files: dict[str, str], generation: int = 0) -> tuple[str, Path]:
    """An agent that waits, and its folder."""
    task_id = await placed(agents.parts, [*ASKED, *waits("c1")], model="fast")
    workspaces = agents.parts.workspaces
    await workspaces.begin(task_id, generation, files)
    async with workspaces.look(task_id, generation) as workspace:
        return task_id, workspace.root


async def test_the_workspace_is_listed(agents: Service) -> None:
    task_id, root = await at_work(agents, {"b.txt": "abc", "a/c.txt": "", "a/ü.txt": "ü"})
    (root / "link").symlink_to("/etc/passwd")
    os.mkfifo(root / "pipe")
    os.mknod(bytes(root) + b"/bad\xff")
    found = expect(await agents.http.get(f"/tasks/{task_id}/files"), 200)
    assert found == {
        "files": [
            {"path": "a", "size": 0, "kind": "folder"},
            {"path": "a/c.txt", "size": 0, "kind": "file"},
            {"path": "a/ü.txt", "size": 2, "kind": "file"},
            {"path": "b.txt", "size": 3, "kind": "file"},
            {"path": "bad\\udcff", "size": 0, "kind": "file"},
            {"path": "link", "size": 0, "kind": "link"},
            {"path": "pipe", "size": 0, "kind": "other"},
        ],
        "truncated": False,
    }


async def test_a_list_has_an_end(agents: Service) -> None:
    task_id, root = await at_work(agents, {})
    for i in range(10_001):
        (root / f"{i:05}").touch()
    found = expect(await agents.http.get(f"/tasks/{task_id}/files"), 200)
    assert (len(found["files"]), found["truncated"]) == (10_000, True)


async def test_before_an_agent_works_there_is_nothing_and_nothing_is_made(
    agents: Service,
) -> None:
    await agents.parts.holds.pause("fast")
    task_id = await agents.submit("x", type="agent", model="fast", files={"a.txt": "its own"})
    path = f"/tasks/{task_id}/files"
    empty = {"files": [], "truncated": False}
    assert expect(await agents.http.get(path), 200) == empty
    refused(await agents.http.get(f"{path}/a.txt"), 404, "not_found")
    refused(await agents.http.get(path, params={"format": "tar.gz"}), 409, "illegal_transition")
    # A reader that made the folder would keep the agent from getting its files.
    await agents.parts.workspaces.begin(task_id, 0, {"a.txt": "its own"})
    assert (await agents.http.get(f"{path}/a.txt")).text == "its own"


async def test_a_file_is_never_a_page_of_ours(agents: Service) -> None:
    page = "<script>alert(document.cookie)</script>"
    task_id, root = await at_work(agents, {"x/ü %.html": page, "empty": ""})
    (root / "bytes").write_bytes(b"a\0b")
    (root / "cut.txt").write_bytes(b"x" + "ü".encode() * 8192)
    answer = await agents.http.get(f"/tasks/{task_id}/files/x/ü %25.html")
    assert answer.text == page
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%BC%20%25.html"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["x-content-type-options"] == "nosniff"
    for name, kind, size in (
        ("bytes", "application/octet-stream", 3),
        ("empty", "text/plain; charset=utf-8", 0),
        ("cut.txt", "text/plain; charset=utf-8", 16385),
    ):
        answer = await agents.http.get(f"/tasks/{task_id}/files/{name}")
        assert (answer.headers["content-type"], len(answer.content)) == (kind, size)
        head = await agents.http.head(f"/tasks/{task_id}/files/{name}")
        assert (head.status_code, head.headers["content-type"]) == (200, kind)


@pytest.mark.parametrize(
    "path",
    [
        "none", "a", "a/none", "a.txt/b", "link", "folder/passwd", "pipe", "..%2f..%2fx",
        "%2e%2e/x", "a/%2e%2e/%2e%2e/x", "%2fetc%2fpasswd", "a%00b", "x" * 300, "%ff",
        "..%5c..%5cx",
    ],
)  # fmt: skip
async def test_what_is_no_file_of_the_workspace_is_not_found(agents: Service, path: str) -> None:
    task_id, root = await at_work(agents, {"a.txt": "abc", "a/b": ""})
    (root / "link").symlink_to("/etc/passwd")
    (root / "folder").symlink_to("/etc")
    os.mkfifo(root / "pipe")
    refused(await agents.http.get(f"/tasks/{task_id}/files/{path}"), 404, "not_found")


async def test_a_large_file_comes_in_pieces(agents: Service) -> None:
    task_id, root = await at_work(agents, {})
    data = os.urandom(3_000_000)
    (root / "large").write_bytes(data)
    assert (await agents.http.get(f"/tasks/{task_id}/files/large")).content == data


async def test_all_of_it_comes_as_an_archive(agents: Service) -> None:
    task_id, root = await at_work(agents, {"a/b.txt": "abc"})
    (root / "link").symlink_to("a/b.txt")
    answer = await agents.http.get(f"/tasks/{task_id}/files", params={"format": "tar.gz"})
    assert answer.headers["content-type"] == "application/gzip"
    assert f"{task_id}.tar.gz" in answer.headers["content-disposition"]
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        assert sorted(tar.getnames()) == ["a", "a/b.txt", "link"]
        inner = tar.extractfile("a/b.txt")
        assert inner is not None
        assert inner.read() == b"abc"
    wrong = await agents.http.get(f"/tasks/{task_id}/files", params={"format": "zip"})
    assert refused(wrong, 422, "invalid_request")["param"] == "format"


async def test_the_folder_that_counts_is_that_of_the_last_rollback(agents: Service) -> None:
    task_id = await placed(agents.parts, [*ASKED, started("c1", "x")], model="fast")
    workspaces = agents.parts.workspaces
    await workspaces.begin(task_id, 0, {"a.txt": "whole"})
    name = await workspaces.take(task_id, 0, "x")
    assert name is not None
    async with workspaces.look(task_id, 0) as workspace:
        workspace.write("a.txt", b"half")
    await workspaces.restore(task_id, 0, name)
    path = f"/tasks/{task_id}/files/a.txt"
    assert (await agents.http.get(path)).text == "half"
    rollback = Draft(EventType.ROLLBACK, {"id": "c1", "checkpoint": name})
    await append(agents, task_id, [rollback])
    assert (await agents.http.get(path)).text == "whole"
    ends = status(Cause.FAILED, State.RUNNING)
    await append(agents, task_id, [ends])
    await agents.steer(task_id, "retry")
    refused(await agents.http.get(path), 404, "not_found")
    await workspaces.begin(task_id, 1000, {"a.txt": "anew"})
    assert (await agents.http.get(path)).text == "anew"


async def test_only_an_agent_has_a_workspace(agents: Service) -> None:
    chat = await agents.submit(model="fast")
    for path in ("files", "files/a", "files?format=tar.gz"):
        refused(await agents.http.get(f"/tasks/{chat}/{path}"), 409, "illegal_transition")
        refused(await agents.http.get(f"/tasks/{MISSING}/{path}"), 404, "task_not_found")
    answer = await agents.http.post(f"/tasks/{chat}/fork", json={"step": 0})
    refused(answer, 409, "illegal_transition")


# Forks --------------------------------------------------------------------------------------------


async def fork(agents: Service, task_id: str, **fields: Any) -> dict[str, Any]:
    answer = await agents.http.post(f"/tasks/{task_id}/fork", json=fields)
    found = expect(answer, 202)
    assert answer.headers["location"] == f"/tasks/{found['task_id']}"
    return found


async def test_a_fork_goes_on_from_a_step(agents: Service) -> None:
    parts = agents.parts
    own: dict[str, Any] = {
        "tools": ["write_file"],
        "max_steps": 7,
        "approve": ["write_file"],
        "metadata": {"k": 1},
        "priority": 8,
        "params": {"temperature": 0.5},
        "files": {"a.txt": "first"},
    }
    task_id = await placed(parts, ASKED, "alice", model="fast", **own)
    await parts.workspaces.begin(task_id, 0, own["files"])
    checkpoint = await parts.workspaces.take(task_id, 0, "call-1")
    assert checkpoint is not None
    async with parts.workspaces.look(task_id, 0) as workspace:
        workspace.write("a.txt", b"second")
    more = [
        started("c1", checkpoint),
        result("c1", output="written"),
        *step(2, "I look"),
        *ended(2, asked("c2", "read_file", 2, path="a.txt")),
        started("c2"),
        result("c2", "read_file", "second"),
    ]
    await append(agents, task_id, more)
    first = await fork(agents, task_id, step=1, content="and now?")
    assert first["forked_from"] == {"task_id": task_id, "step": 1}
    made = await agents.task(first["task_id"])
    assert made["messages"] == [
        {"role": "user", "content": "mend it"},
        {
            "role": "assistant",
            "content": "I write",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {
                        "name": "write_file",
                        "arguments": '{"path":"a.txt","content":"new"}',
                    },
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "written"},
        {"role": "user", "content": "and now?"},
    ]
    for name in ("tools", "max_steps", "approve", "priority", "params", "type"):
        assert made[name] == (own | {"type": "agent"})[name], name
    assert (made["model"], made["user_metadata"]) == ("fast", {"k": 1})
    assert made["forked_from"]["task_id"] == task_id
    assert "files" not in made
    # No later call has written: the workspace is as it is now.
    path = f"/tasks/{first['task_id']}/files/a.txt"
    assert (await agents.http.get(path)).text == "second"
    begun = await fork(agents, task_id, step=0)
    path = f"/tasks/{begun['task_id']}/files/a.txt"
    assert (await agents.http.get(path)).text == "first"
    assert len((await agents.task(begun["task_id"]))["messages"]) == 1
    # The fork is another task: what it writes is not in the first.
    async with parts.workspaces.look(begun["task_id"], 0) as workspace:
        workspace.write("a.txt", b"third")
    path = f"/tasks/{task_id}/files/a.txt"
    assert (await agents.http.get(path)).text == "second"
    fourth = await fork(agents, begun["task_id"], step=0, content="again")
    assert (await agents.task(fourth["task_id"]))["messages"][-1]["content"] == "again"


async def append(agents: Service, task_id: str, drafts: list[Any]) -> None:

    await agents.parts.journal.append(Change(task_id, drafts, durable=True))


async def test_a_fork_that_cannot_be_made_is_refused(agents: Service) -> None:
    parts = agents.parts
    task_id = await placed(parts, WRITTEN, model="fast")
    await parts.workspaces.begin(task_id, 0, {})
    last = [*step(2, "done"), *ended(2, finish_reason="stop")]
    path = f"/tasks/{task_id}/fork"
    for body, number, code, words in (
        ({"step": 3}, 422, "invalid_request", "has ended 1 steps"),
        ({"step": -1}, 422, "invalid_request", "from 0"),
        ({"step": True}, 422, "invalid_request", "whole number"),
        ({"step": "1"}, 422, "invalid_request", "whole number"),
        ({}, 422, "invalid_request", "whole number"),
        ({"step": 1, "content": ""}, 422, "invalid_request", "content"),
        ({"step": 1, "stp": 1}, 422, "invalid_request", "'stp'"),
        ({"step": 0}, 409, "illegal_transition", "c1 of write_file may have changed"),
    ):
        answer = await agents.http.post(path, json=body)
        assert words in refused(answer, number, code)["message"], body
    await append(agents, task_id, last)
    answer = await agents.http.post(path, json={"step": 2})
    assert refused(answer, 422, "invalid_request")["param"] == "content"
    assert (await fork(agents, task_id, step=2, content="more"))["status"] == "pending"
    waiting = await placed(parts, [*ASKED, *waits("c1")], model="fast")
    answer = await agents.http.post(f"/tasks/{waiting}/fork", json={"step": 1})
    assert "c1 have no results" in refused(answer, 409, "illegal_transition")["message"]
    gone = await placed(parts, [*ASKED, started("c1", "000001-gone"), result("c1")], model="fast")
    await parts.workspaces.begin(gone, 0, {})
    before = sorted((await agents.http.get("/tasks/stats")).json().items(), key=str)
    answer = await agents.http.post(f"/tasks/{gone}/fork", json={"step": 0})
    assert "checkpoint is gone" in refused(answer, 409, "illegal_transition")["message"]
    assert sorted((await agents.http.get("/tasks/stats")).json().items(), key=str) == before


async def test_a_fork_of_what_has_not_begun_has_its_files(agents: Service) -> None:
    await agents.parts.holds.pause("fast")
    files = {"a.txt": "its own"}
    task_id = await agents.submit("x", type="agent", model="fast", files=files)
    made = await fork(agents, task_id, step=0)
    assert (await agents.task(made["task_id"]))["files"] == files
    for each in (task_id, made["task_id"]):  # neither has a folder that would be taken for begun
        await agents.parts.workspaces.begin(each, 0, files)
        assert (await agents.http.get(f"/tasks/{each}/files/a.txt")).text == "its own"
    lost = await placed(agents.parts, WRITTEN, model="fast")
    answer = await agents.http.post(f"/tasks/{lost}/fork", json={"step": 1})
    assert "workspace is gone" in refused(answer, 409, "illegal_transition")["message"]


async def test_a_fork_over_the_socket(agents: Service) -> None:
    task_id = await placed(agents.parts, WRITTEN, model="fast")
    await agents.parts.workspaces.begin(task_id, 0, {"a": "b"})
    async with agents.ws() as socket:
        answer = await ask(socket, op="fork", task_id=task_id, step=1, content="go on", ref=3)
        assert (answer["op"], answer["ref"]) == ("ok", 3)
        assert answer["forked_from"] == {"task_id": task_id, "step": 1}
        made = answer["task_id"]
        assert made != task_id
        answer = await ask(socket, op="fork", task_id=task_id)
        assert answer["error"]["param"] == "step"
    assert (await agents.http.get(f"/tasks/{made}/files/a")).text == "b"


async def test_a_fork_that_is_not_stored_leaves_no_workspace(tmp_path: Path) -> None:
    async with serving(tmp_path, tools={"workspace": str(tmp_path / "w")}) as service:
        task_id = await placed(service.parts, WRITTEN, model="fast")
        await service.parts.workspaces.begin(task_id, 0, {"a": "b"})
        commits = Commits(service.parts.journal.store)
        commits.refuse()
        answer = await service.http.post(f"/tasks/{task_id}/fork", json={"step": 1})
        refused(answer, 503, "overloaded")
        commits.refusal = None
        assert os.listdir(tmp_path / "w" / "tasks") == [task_id]
