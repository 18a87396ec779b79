"""A response that is followed, left and taken up again over a kill -9 of the service."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from tests.flows.process import Provider, Remote, service, settings


def sdk(remote: Remote) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{remote.url}/v1", api_key="none", max_retries=0)


async def follow(
    client: AsyncOpenAI,
    response_id: str,
    after: int,
    last: Callable[[dict[str, Any]], bool] = lambda _: False,
) -> list[Any]:
    """Its events behind that number, until the first of which `last` is true, else to the end."""
    found: list[Any] = []
    stream = await client.responses.retrieve(response_id, stream=True, starting_after=after)
    async with stream:
        async for event in stream:
            found.append(event.to_dict())
            if last(found[-1]):
                break
    return found


async def test_a_background_response_is_resumed_over_a_kill(tmp_path: Path, sim: Provider) -> None:
    path = settings(tmp_path, sim.url)
    prompt = "[[sim:tokens=40]][[sim:rate=40]][[sim:hang-stream at=35 x1]] x"
    async with service(path) as first, sdk(first) as client:
        made = await client.responses.create(model="fast", input=prompt, background=True)
        early = await follow(client, made.id, -1, lambda event: "delta" in event)
        await first.process.kill()
    async with service(path) as second, sdk(second) as client:
        late = await follow(client, made.id, early[-1]["sequence_number"])
        whole = await follow(client, made.id, -1)
        done = await client.responses.retrieve(made.id)
    assert early + late == whole
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    assert done.status == "completed"
    assert whole[-1]["response"] == done.to_dict()
    items = {e["item"]["id"]: e["item"] for e in whole if e["type"] == "response.output_item.done"}
    assert [item["status"] for item in items.values()] == ["incomplete", "completed"]
    assert [item["id"] for item in whole[-1]["response"]["output"]] == list(items)[1:]
    deltas = [e for e in whole if e["type"] == "response.output_text.delta"]
    valid = [e["delta"] for e in deltas if e["item_id"] == list(items)[1]]
    assert "".join(valid) == done.output_text
    assert len(done.output_text) > 20
