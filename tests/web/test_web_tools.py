"""`/tools`: the list, and calls of tools under the rules of agents."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio

from tests.polling import until
from tests.tools.test_fetch import page, site
from tests.web.serving import Service, expect, refused, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tooled(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("tools")
    tools = {"workspace": str(folder / "workspaces"), "approve": ["write_file"]}
    async with serving(folder, tools=tools) as service:
        yield service


async def call(service: Service, name: str, at: str = "", **values: Any) -> httpx.Response:
    return await service.http.post(f"/tools/{name}{at}", json=values)


async def test_all_tools_are_listed_with_their_schema(tooled: Service) -> None:
    listed = expect(await tooled.http.get("/tools"), 200)["tools"]
    names = [one["function"]["name"] for one in listed]
    assert names == [
        "read_file", "write_file", "edit_file", "list_directory", "create_directory",
        "search_files", "exec_command", "exec_python", "git", "memory_search", "memory_write",
    ]  # fmt: skip
    for one in listed:
        assert one["type"] == "function"
        assert one["function"]["parameters"]["type"] == "object"
        assert one["approval"] == (one["function"]["name"] == "write_file")
        reads = ("read_file", "list_directory", "search_files", "memory_search")
        assert one["reads_only"] == (one["function"]["name"] in reads)


async def test_a_named_workspace_stays_and_another_goes(tooled: Service) -> None:
    kept = "?workspace=kept"
    made = expect(await call(tooled, "write_file", kept, path="a", content="1"), 200)
    assert made.keys() == {"ok", "output", "exit_code", "truncated", "duration_s"}
    assert expect(await call(tooled, "read_file", kept, path="a"), 200)["output"] == "1"
    missing = expect(await call(tooled, "read_file", path="a"), 200)
    assert (missing["ok"], missing["exit_code"]) == (False, 1)


async def test_a_client_that_hangs_up_ends_its_call(tooled: Service) -> None:
    code = "while True: pass  # until the client hangs up"

    async def runs() -> bool:
        found = (one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"]))
        return any(code in words for words in found)

    calling = asyncio.create_task(call(tooled, "exec_python", code=code, timeout_s=300))
    await until(runs, bool)
    calling.cancel()
    await until(runs, lambda still: not still)


async def test_pages_are_fetched_where_the_settings_name_their_host(tmp_path: Path) -> None:
    async with site(page(b"<p>here", "text/html")) as there:
        tools = {
            "workspace": str(tmp_path / "workspaces"),
            "fetch_allow": [f"127.0.0.1:{there.port}"],
            "approve": ["fetch_url"],
        }
        async with serving(tmp_path, tools=tools) as service:
            found = expect(await call(service, "fetch_url", url=there.url), 200)
            assert (found["ok"], found["output"]) == (True, f"200 OK {there.url}\n\nhere")
            inside = expect(await call(service, "fetch_url", url=f"{service.url}/livez"), 200)
            assert not inside["ok"]
            assert "tools.fetch_allow" in inside["output"]
            listed = expect(await service.http.get("/tools"), 200)["tools"]
            (one,) = [tool for tool in listed if tool["function"]["name"] == "fetch_url"]
            assert (one["reads_only"], one["approval"]) == (False, True)


async def test_memory_is_searched_by_words_of_any_script(tooled: Service) -> None:
    for text, tags in (("the cat likes fish", ["animals"]), ("杭州的天气很好", []), ("other", [])):
        assert expect(await call(tooled, "memory_write", text=text, tags=tags), 200)["ok"]
    for query, found in (
        ("what does the CAT like", "the cat likes fish [animals]"),
        ("天气", "杭州的天气很好"),
        ("zebra", "nothing was found"),
    ):
        assert expect(await call(tooled, "memory_search", query=query), 200)["output"] == found


@pytest.mark.parametrize(
    ("name", "query", "values", "status", "code", "param"),
    [
        ("rm", "", {}, 404, "not_found", "name"),
        ("fetch_url", "", {"url": "http://a.example/"}, 404, "not_found", "name"),
        ("read_file", "", {}, 422, "invalid_request", "path"),
        ("read_file", "", {"path": 1}, 422, "invalid_request", "path"),
        ("read_file", "", {"path": "a", "x": 1}, 422, "invalid_request", "x"),
        ("read_file", "?workspace=..", {"path": "a"}, 422, "invalid_request", "workspace"),
        ("read_file", "?w=x", {"path": "a"}, 422, "invalid_request", "w"),
        ("exec_command", "", {"argv": []}, 422, "invalid_request", "argv"),
    ],
)
async def test_a_wrong_call_is_refused_by_name(
    tooled: Service, name: str, query: str, values: Any, status: int, code: str, param: str
) -> None:
    assert refused(await call(tooled, name, query, **values), status, code)["param"] == param


async def test_a_workspace_and_a_memory_belong_to_their_owner(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("owners")
    clients = {
        name: {"token_sha256": hashlib.sha256(name.encode()).hexdigest()}
        for name in ("alice", "bob")
    }
    clients["reader"] = {"token_sha256": hashlib.sha256(b"reader").hexdigest(), "scopes": ["read"]}  # type: ignore[dict-item]
    tools = {"workspace": str(folder / "workspaces")}
    async with serving(folder, {}, clients=clients, tools=tools) as service:

        async def as_(who: str, name: str, **values: Any) -> dict[str, Any]:
            head = {"authorization": f"Bearer {who}"}
            path = f"/tools/{name}?workspace=x"
            return expect(await service.http.post(path, json=values, headers=head), 200)

        await as_("alice", "write_file", path="a", content="hers")
        await as_("alice", "memory_write", text="her secret")
        assert (await as_("bob", "list_directory"))["output"] == ""
        assert (await as_("bob", "memory_search", query="secret"))["output"] == "nothing was found"
        assert (await as_("alice", "memory_search", query="secret"))["output"] == "her secret"
        head = {"authorization": "Bearer reader"}
        assert (await service.http.get("/tools", headers=head)).status_code == 200
        answer = await service.http.post("/tools/list_directory", json={}, headers=head)
        refused(answer, 403, "forbidden_scope")


async def test_without_tools_there_are_none(service: Service) -> None:
    assert expect(await service.http.get("/tools"), 200)["tools"] == []
    refused(await call(service, "read_file", path="a"), 404, "not_found")
