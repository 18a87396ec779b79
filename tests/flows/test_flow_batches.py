"""A batch whose service is killed again and again: each line once, none lost."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI
from openai.types import Batch

from tests.flows.process import PATIENCE_S, Provider, Remote, service, settings
from tests.polling import until

LINES = 400
CHAT: Any = "/v1/chat/completions"


def sdk(remote: Remote) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{remote.url}/v1", api_key="none", max_retries=0)


def text() -> bytes:
    lines = []
    for i in range(LINES):
        body: dict[str, Any] = {
            "model": "fast",
            "messages": [{"role": "user", "content": f"line {i}"}],
        }
        body |= {} if i % 50 else {"n": 2}  # refused at the door
        lines.append({"custom_id": f"c{i}", "method": "POST", "url": CHAT, "body": body})
    return "\n".join(json.dumps(line) for line in lines).encode()


async def ended(client: AsyncOpenAI, batch_id: str) -> Batch:
    return await until(
        lambda: client.batches.retrieve(batch_id), lambda now: now.status == "completed", PATIENCE_S
    )


async def output(client: AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in (await client.files.content(file_id)).text.splitlines()]


async def test_a_batch_survives_kills(tmp_path: Path, sim: Provider) -> None:
    path, dice = settings(tmp_path, sim.url, concurrency=20), random.Random(7)
    batch_id, kills, tasks = "", 0, 0
    while True:
        async with service(path) as running, sdk(running) as client:
            if not batch_id:
                made = await client.files.create(file=("in.jsonl", text()), purpose="batch")
                begun = await client.batches.create(
                    input_file_id=made.id,
                    endpoint=CHAT,
                    completion_window="24h",
                )
                batch_id = begun.id
            if kills < 6:
                kills += 1
                await asyncio.sleep(dice.uniform(0.02, 0.4))
                await running.process.kill()
                continue
            done = await ended(client, batch_id)
            good = await output(client, done.output_file_id)
            bad = await output(client, done.error_file_id)
            tasks = (await running.http.get("/tasks/stats")).json()["total"]
            break
    assert sorted(one["custom_id"] for one in good + bad) == sorted(f"c{i}" for i in range(LINES))
    assert len(bad) == LINES // 50
    assert tasks == LINES - len(bad)
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {
        "total": LINES,
        "completed": len(good),
        "failed": len(bad),
    }
    ids = {one["response"]["request_id"] for one in good}
    assert len(ids) == len(good)
