"""Models with names of vendors and with aliases, at each door where a name stands."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from asyncsvc.simulator import Profile, running
from tests.web.serving import FAST, Service, expect, model, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME, ALIAS, LOCAL = "openai/gpt-5.1", "vendor/gpt:x", "qwen3:8b"
ASK = {"messages": [{"role": "user", "content": "hi"}]}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def named(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with running(Profile.parse(dict(FAST))) as sim:
        models = {
            NAME: model(sim.base_url, aliases=[ALIAS, "gpt-4o"]),
            LOCAL: model(sim.base_url),
            "embed": model(sim.base_url, type="embedding", aliases=["text-embedding-3-small"]),
        }
        folder: Path = tmp_path_factory.mktemp("names")
        async with serving(folder, models=models) as service:
            yield service


@pytest.mark.parametrize("asked", [NAME, ALIAS, "gpt-4o"])
async def test_a_task_for_an_alias_is_served_by_its_model(named: Service, asked: str) -> None:
    answer = expect(await named.http.post("/tasks", json={"content": "hi", "model": asked}), 202)
    assert answer["model"] == NAME
    task = await named.done(answer["task_id"])
    assert (task["status"], task["metadata"]["name"]) == ("completed", NAME)
    rows = expect(await named.http.get("/tasks", params={"model": asked, "limit": 1}), 200)
    assert rows["tasks"][0]["task_id"] == answer["task_id"]


@pytest.mark.parametrize("asked", [NAME, "gpt-4o", LOCAL])
async def test_openai_s_api_takes_names_and_aliases(named: Service, asked: str) -> None:
    for path, body in (("/v1/chat/completions", ASK), ("/v1/responses", {"input": "hi"})):
        expect(await named.http.post(path, json={"model": asked, **body}), 200)


async def test_embeddings_take_an_alias(named: Service) -> None:
    body = {"model": "text-embedding-3-small", "input": "hi"}
    assert expect(await named.http.post("/v1/embeddings", json=body), 200)["model"] == "embed"


async def test_an_alias_is_a_name_in_a_batch_and_a_schedule(named: Service) -> None:
    task = {"content": "hi", "model": ALIAS}
    expect(await named.http.post("/tasks/batch", json={"tasks": [task]}), 202)
    schedule = {"cron": "0 0 1 1 *", "timezone": "UTC", "task": task}
    assert (await named.http.post("/schedules", json=schedule)).status_code < 300
    assert expect(await named.http.post("/route", json=task), 200)["chosen"] == NAME


async def test_both_lists_show_the_aliases(named: Service) -> None:
    listed = expect(await named.http.get("/v1/models"), 200)["data"]
    assert {NAME, ALIAS, "gpt-4o", LOCAL} <= {one["id"] for one in listed}
    (shown, *_) = expect(await named.http.get("/models"), 200)["models"]
    assert (shown["name"], shown["aliases"]) == (NAME, [ALIAS, "gpt-4o"])


@pytest.mark.parametrize("wanted", [NAME, ALIAS, LOCAL, "auto:batch"])
@pytest.mark.parametrize("safe", ["/:", ""])
async def test_a_name_in_an_address_may_be_quoted_or_not(
    named: Service, wanted: str, safe: str
) -> None:
    path = f"/v1/models/{quote(wanted, safe=safe)}"
    assert expect(await named.http.get(path), 200)["id"] == wanted


@pytest.mark.parametrize("wanted", [NAME, ALIAS])
@pytest.mark.parametrize("safe", ["/:", ""])
async def test_a_model_is_paused_by_name_or_alias(named: Service, wanted: str, safe: str) -> None:
    path = f"/models/{quote(wanted, safe=safe)}"
    paused: dict[str, Any] = expect(await named.http.post(f"{path}/pause"), 200)
    assert (paused["name"], paused["paused"]) == (NAME, True)
    assert not expect(await named.http.post(f"{path}/resume"), 200)["paused"]


async def test_a_name_that_no_model_has(named: Service) -> None:
    refused(await named.http.post("/models/openai/other/pause"), 404, "model_not_found")
    refused(await named.http.get("/v1/models/openai/other"), 404, "model_not_found")


async def test_metrics_name_the_model(named: Service) -> None:
    assert f'model="{NAME}"' in (await named.http.get("/metrics")).text
