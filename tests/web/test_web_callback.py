"""`callback_url` from the outside: a real service, a real receiver."""

import asyncio
import base64
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.errors import SettingsError
from tests.hooks import SECRET, receiving, silence, status
from tests.web.serving import HANG, PATIENCE_S, Service, ask, expect, refused, serving

ENVIRON = {"ASYNCSVC_WEBHOOK_SECRET": SECRET}
ALLOW = {"allow": ["127.0.0.1/32"], "retry_s": [0.05, 0.05, 0.05]}


def hooked(folder: Path, environ: Mapping[str, str] = ENVIRON, **rules: Any) -> Any:
    return serving(folder, environ, webhooks=ALLOW | rules)


async def settled(service: Service, task_id: str, state: str = "delivered") -> dict[str, Any]:
    """The task's `callback`, once it has come so far."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            callback = (await service.task(task_id))["callback"]
            assert isinstance(callback, dict)
            if callback["state"] == state:
                return callback
            await asyncio.sleep(0.01)


async def test_failures_then_success(tmp_path: Path) -> None:
    async with receiving(status(500), status(302), status(204)) as receiver, hooked(tmp_path) as s:
        task_id = await s.submit("hello", callback_url=receiver.url, metadata={"mine": 1})
        callback = await settled(s, task_id)
        assert callback == {
            "url": receiver.url,
            "state": "delivered",
            "attempts": 3,
            "last_status": 204,
            "last_error": None,
            "next_at": None,
        }
        posts = await receiver.came(3)
        assert len({post.id for post in posts}) == 1
        shown = await s.task(task_id)
        for tries, post in enumerate(posts):
            sent = post.task()
            assert sent.pop("callback")["attempts"] == tries
            assert sent == {name: value for name, value in shown.items() if name != "callback"}
        assert shown["status"] == "completed"
        assert shown["user_metadata"] == {"mine": 1}


async def test_a_retry_is_reported_with_another_id(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path) as service:
        task_id = await service.submit("hello", callback_url=receiver.url)
        await settled(service, task_id)
        expect(await service.steer(task_id, "retry"), 200)
        first, second = await receiver.came(2)
        assert first.id != second.id
        assert second.task()["metadata"]["usage"]
        assert second.task()["status"] == "completed"


async def test_a_cancelled_task_and_a_failed_one_are_reported(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path) as service:
        running = await service.running(HANG, callback_url=receiver.url)
        assert (await service.task(running))["callback"]["state"] == "waiting"
        expect(await service.steer(running, "cancel"), 200)
        (post,) = await receiver.came(1)
        assert post.task()["status"] == "cancelled"
        failing = await service.submit("[[sim:400]]", callback_url=receiver.url)
        post = (await receiver.came(2))[1]
        assert (post.task()["task_id"], post.task()["status"]) == (failing, "failed")
        assert post.task()["error"]["code"]


async def test_a_batch_and_a_socket_know_the_field(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path) as service:
        tasks = [{"content": f"b{i}", "callback_url": receiver.url} for i in range(3)]
        answer = await service.http.post("/tasks/batch", json={"tasks": tasks})
        wanted = {one["task_id"] for one in expect(answer, 202)["tasks"]}
        async with service.ws() as socket:
            task = {"content": "ws", "callback_url": receiver.url}
            answer = await ask(socket, op="submit", ref="r", task=task)
            wanted.add(answer["task_id"])
            task["callback_url"] = "http://10.0.0.1/"
            answer = await ask(socket, op="submit", ref="r", task=task)
            assert answer["error"]["param"] == "callback_url"
        posts = await receiver.came(4)
        assert {post.task()["task_id"] for post in posts} == wanted


BAD: list[object] = [
    "http://10.0.0.1/",
    "http://[::1]:9/",
    "http://[::ffff:127.0.0.1]/",
    "http://2130706433/",
    "http://user:word@example.com/",
    "file:///etc/passwd",
    "nonsense",
    "",
    "http://example.com/" + "x" * 3000,
    "http://\x00/",
    7,
]


async def test_what_must_not_be_called_is_refused_at_the_door(tmp_path: Path) -> None:
    async with hooked(tmp_path) as service:
        for url in BAD:
            body = {"content": "x", "callback_url": url}
            answer = await service.http.post("/tasks", json=body)
            assert refused(answer, 422, "invalid_request")["param"] == "callback_url"
            batch = {"tasks": [{"content": "good"}, body]}
            answer = await service.http.post("/tasks/batch", json=batch)
            assert "callback_url" in refused(answer, 422, "invalid_request")["param"]
        assert expect(await service.http.get("/tasks"), 200)["tasks"] == []


async def test_a_name_that_leads_inside_is_reported_and_not_tried_again(tmp_path: Path) -> None:
    async with receiving() as receiver:
        async with hooked(tmp_path, allow=["localhost"]) as service:
            url = f"http://localhost:{receiver.port}/done"
            task_id = await service.submit("x", callback_url=url)
            await settled(service, task_id)
            held = await service.running(HANG, callback_url=url)
        async with hooked(tmp_path, allow=[]) as service:
            expect(await service.steer(held, "cancel"), 200)
            callback = await settled(service, held, "failed")
            assert callback["attempts"] == 1
            assert "localhost leads to" in callback["last_error"]
            assert len(receiver.posts) == 1


async def test_without_a_secret_a_callback_is_refused_naming_the_variable(tmp_path: Path) -> None:
    async with hooked(tmp_path, {}, secret_env="MY_SECRET") as service:
        body = {"content": "x", "callback_url": "https://example.com/"}
        error = refused(await service.http.post("/tasks", json=body), 422, "invalid_request")
        assert "MY_SECRET" in error["message"]
        assert error["param"] == "callback_url"
        assert (await service.task(await service.submit("x")))["callback"] is None


async def test_a_bad_secret_stops_the_start_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        async with hooked(tmp_path, {"ASYNCSVC_WEBHOOK_SECRET": "hunter2hunter2"}):
            pass
    assert "ASYNCSVC_WEBHOOK_SECRET" in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_a_receiver_that_never_answers_holds_up_no_client(tmp_path: Path) -> None:
    async with (
        receiving(silence) as stuck,
        receiving() as receiver,
        hooked(tmp_path, allow=["127.0.0.1/32", "localhost"]) as service,
    ):
        for _ in range(10):
            await service.submit("x", callback_url=f"http://localhost:{stuck.port}/done")
        for _ in range(10):
            await service.submit("x", callback_url=receiver.url)
        await receiver.came(10)
        await stuck.came(4)
        assert len(stuck.posts) == stuck.most_at_once == 4


async def test_the_receiver_of_the_manual_works(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/webhooks.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    source = source.replace(
        'HTTPServer(("127.0.0.1", 9000), Receiver).serve_forever()',
        'server = HTTPServer(("127.0.0.1", 0), Receiver)\n'
        "print(server.server_port, flush=True)\nserver.serve_forever()",
    ).replace('task["result"])', 'task["result"], flush=True)')
    secret = "whsec_" + base64.b64encode(os.urandom(32)).decode()
    environ = {"ASYNCSVC_WEBHOOK_SECRET": secret}
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", source), env=os.environ | environ, stdout=pipe, stderr=pipe
    )
    try:
        assert child.stdout is not None
        async with asyncio.timeout(3 * PATIENCE_S):
            port = int(await child.stdout.readline())
            async with hooked(tmp_path, environ) as service:
                url = f"http://127.0.0.1:{port}/"
                task_id = await service.submit("hello", callback_url=url)
                await settled(service, task_id)
                line = (await child.stdout.readline()).decode()
                assert line.startswith(f"{task_id} completed ")
            other = {"ASYNCSVC_WEBHOOK_SECRET": SECRET}
            async with hooked(tmp_path / "other", other) as service:
                forged = await service.submit("hello", callback_url=url)
                callback = await settled(service, forged, "failed")
                assert (callback["last_status"], callback["attempts"]) == (401, 4)
    finally:
        child.kill()
        await child.communicate()


async def test_deleting_withdraws(tmp_path: Path) -> None:
    async with receiving(status(500)) as receiver, hooked(tmp_path, retry_s=[0.3]) as service:
        task_id = await service.submit("x", callback_url=receiver.url)
        await receiver.came(1)
        await settled(service, task_id, "pending")
        assert (await service.http.delete(f"/tasks/{task_id}")).status_code == 204
        other = await service.submit("x", callback_url=receiver.url)
        await settled(service, other, "failed")
        assert [post.task()["task_id"] for post in receiver.posts].count(task_id) == 1


async def test_an_import_brings_the_callbacks_of_what_is_not_finished(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with receiving() as receiver:
        async with hooked(tmp_path / "one") as one:
            notified = await one.submit("notified", callback_url=receiver.url)
            await settled(one, notified)
            owed = await one.submit("owed", callback_url=receiver.url, delay_s=3600)
            expect(await one.steer(owed, "pause"), 200)
            exported = (await one.http.get("/admin/export")).content
        async with hooked(tmp_path / "two") as two:
            taken = expect(await two.http.post("/admin/import", content=exported), 200)
            assert (taken["finished"], taken["queued"]) == (1, 1)
            expect(await two.steer(owed, "cancel"), 200)
            await settled(two, owed)
            assert (await two.task(notified))["callback"] is None
        assert [post.task()["task_id"] for post in await receiver.came(2)] == [notified, owed]


async def test_an_imported_callback_is_judged_as_a_submitted_one(tmp_path: Path) -> None:
    record = {
        "task_id": "01a1fbd8-25f0-7787-9ec7-641426077007",
        "status": "paused",
        "content": "x",
        "created_at": "2026-11-20T21:48:17.783Z",
        "callback_url": "http://10.0.0.1/",
    }
    async with hooked(tmp_path) as service:
        answer = await service.http.post("/admin/import", content=json.dumps(record))
        assert (
            "line 1: callback_url: 10.0.0.1" in refused(answer, 422, "invalid_request")["message"]
        )
        assert expect(await service.http.get("/tasks/stats"), 200)["total"] == 0
