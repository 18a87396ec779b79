"""asyncsvc before a real gateway, over both protocols. Opt-in: `pytest -m openclaw`."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.flows.process import Remote
from tests.openclaw.stage import Stage, served, until, wrote

pytestmark = [pytest.mark.openclaw, pytest.mark.timeout(300)]
BOTH = pytest.mark.parametrize("model", ["claw", "socket"])


async def whole(remote: Remote, task_id: str) -> dict[str, Any]:
    """The finished task, whose chunks since the last attempt must be its result."""
    task = await remote.done(task_id)
    text = ""
    for event in await remote.events(task_id):
        text = "" if event["type"] == "attempt" else text
        text += event["data"]["text"] if event["type"] == "chunk" else ""
    assert text == (task["result"] or ""), (text, task)
    return task


async def steps(remote: Remote, task_id: str) -> list[str]:
    events = await remote.events(task_id)
    return [event["data"]["step"] for event in events if event["type"] == "recovery"]


async def test_a_conversation_over_both_protocols_and_agents(stage: Stage, tmp_path: Path) -> None:
    await stage.pace(40, 100)
    async with served(tmp_path, stage) as remote:
        models = ["claw", "second", "socket"]
        ids = [await remote.submit("Tell me.", model=model) for model in models]
        for model, task_id in zip(models, ids, strict=True):
            task = await whole(remote, task_id)
            assert task["status"] == "completed", (model, task["error"])
            kinds = [event["type"] for event in await remote.events(task_id)]
            assert kinds.count("chunk") > 2, model
        assert sorted(call["model"] for call in await stage.calls()) == [
            "fake-1",
            "fake-1",
            "other",
        ]
        wrong = [await remote.submit("x", model=m) for m in ("wrong", "wrongsocket")]
        for task_id in wrong:
            task = await whole(remote, task_id)
            assert task["error"]["code"] == "upstream_auth", task
        listed = (await remote.http.get("/models")).json()["models"]
        assert {m["name"] for m in listed if not m["enabled"]} == {"wrong", "wrongsocket"}


@BOTH
async def test_cancelling_reaches_the_model(stage: Stage, tmp_path: Path, model: str) -> None:
    await stage.pace(600, 20)
    async with served(tmp_path, stage) as remote:
        task_id = await remote.submit("Tell me a long story.", model=model)
        await wrote(remote, task_id)
        assert (await remote.steer(task_id, "cancel")).status_code == 200

        async def hung_up() -> bool:
            return [call["outcome"] for call in await stage.calls()] == ["disconnected"]

        await until(hung_up)


@BOTH
async def test_a_gateway_killed_in_mid_run_answers_once(
    stage: Stage, tmp_path: Path, model: str
) -> None:
    await stage.pace(60, 10)
    async with served(tmp_path, stage) as remote:
        task_id = await remote.submit("Tell me.", model=model)
        await wrote(remote, task_id)
        await stage.kill()
        waiting = await remote.submit("And then?", model=model)
        await stage.start()
        task = await whole(remote, task_id)
        assert task["status"] == "completed", task["error"]
        assert task["attempts"] == 1
        found = await steps(remote, task_id)
        assert found[0] == "asking"
        assert found[-1] == "answered"
        assert "gateway_away" in found
        other = await whole(remote, waiting)
        assert (other["status"], other["attempts"]) == ("completed", 1), other["error"]
        # Once before the kill, once by the gateway itself, once for the other task.
        assert len(await stage.calls()) == 3


async def test_a_gateway_reported_to_stop_finishes_and_refuses(
    stage: Stage, tmp_path: Path
) -> None:
    await stage.pace(60, 10)
    async with served(tmp_path, stage) as remote:
        task_id = await remote.submit("Tell me.", model="claw")
        await wrote(remote, task_id)
        stage.tell(signal.SIGTERM)
        await asyncio.sleep(1)
        late = await remote.submit("Too late?", model="claw")
        assert (await whole(remote, task_id))["status"] == "completed"
        await stage.stop()
        await stage.start()
        task = await whole(remote, late)
        assert (task["status"], task["attempts"]) == ("completed", 1), task["error"]
        assert len(await stage.calls()) == 2


async def test_a_crash_of_ours_over_http_is_unknown(stage: Stage, tmp_path: Path) -> None:
    await stage.pace(100, 10)
    async with served(tmp_path, stage) as remote:
        task_id = await remote.submit("Tell me.", model="claw")
        allowed = await remote.submit("Tell me.", model="claw", retry_unsafe=True)
        await wrote(remote, task_id)
        await wrote(remote, allowed)
        await remote.process.kill()
    async with served(tmp_path, stage) as remote:
        task = await whole(remote, task_id)
        assert task["error"]["code"] == "interrupted_unknown", task
        assert "aborted" in await steps(remote, task_id)
        task = await whole(remote, allowed)
        assert (task["status"], task["attempts"]) == ("completed", 1), task["error"]
        assert len(await stage.calls()) == 3


async def test_a_crash_of_ours_over_the_socket_loses_nothing(stage: Stage, tmp_path: Path) -> None:
    await stage.pace(100, 10)
    async with served(tmp_path, stage) as remote:
        task_id = await remote.submit("Tell me.", model="socket")
        await wrote(remote, task_id)
        await remote.process.kill()
    async with served(tmp_path, stage) as remote:
        task = await whole(remote, task_id)
        assert (task["status"], task["attempts"]) == ("completed", 1), task["error"]
        assert (await steps(remote, task_id))[-1] == "answered"
        assert len(await stage.calls()) == 1
