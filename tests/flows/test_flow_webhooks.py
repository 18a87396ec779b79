"""kill -9 between a task's end and its delivery, and a start on the same database."""

import asyncio
from pathlib import Path

import pytest

from tests.flows.process import Provider, service, settings
from tests.hooks import SECRET, receiving, silence, status

RULES = """
[webhooks]
secret_env = "WEBHOOK_SECRET"
allow = ["127.0.0.1/32"]
retry_s = [0.2, 0.2, 0.2]
timeout_s = 60
per_host = 16
"""


@pytest.fixture
def path(tmp_path: Path, sim: Provider, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    file = settings(tmp_path, sim.url)
    file.write_text(file.read_text(encoding="utf-8") + RULES, encoding="utf-8")
    return file


async def test_a_delivery_that_a_kill_has_cut_is_made_after_the_restart(path: Path) -> None:
    async with receiving(silence, status(204)) as receiver:
        async with service(path) as first:
            task_id = await first.submit("hello", callback_url=receiver.url)
            await receiver.came(1)  # it has arrived, but is not acknowledged
            await first.process.kill()
        async with service(path) as second:
            cut, again = await receiver.came(2)
            assert cut.id == again.id
            assert again.task()["task_id"] == task_id
            assert again.task()["result"] == (await second.task(task_id))["result"]


async def test_what_is_owed_survives_kills_at_any_moment(path: Path) -> None:
    async with receiving(status(503), status(204)) as receiver:
        wanted: set[str] = set()
        for round_ in range(3):
            until = len(receiver.posts) + 3
            async with service(path) as remote:
                for number in range(8):
                    content = f"r{round_} n{number} [[sim:tokens=3]]"
                    wanted.add(await remote.submit(content, callback_url=receiver.url))
                await receiver.came(until)
                await remote.process.kill()
        async with service(path), asyncio.timeout(30):
            while {post.task()["task_id"] for post in receiver.posts} != wanted:
                await receiver.came(len(receiver.posts) + 1)
        ids = {(post.task()["task_id"], post.id) for post in receiver.posts}
        assert len(ids) == len(wanted)  # one id for each, however often it came
