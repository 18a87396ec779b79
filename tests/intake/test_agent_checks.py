"""Which agents are taken: their tools, their files, and models that can serve them."""

from pathlib import Path
from typing import Any

import pytest

from asyncsvc.errors import InvalidRequest, NoModel, RequestError
from asyncsvc.scheduling.cache import request_key
from asyncsvc.storage.entries import loads
from asyncsvc.tasks.submission import Submission
from tests.engine_services import EngineServices, model
from tests.virtual_time import virtual

GATEWAY = model(preset="openclaw", base_url="http://127.0.0.1:9/v1", model="main")


def engine(folder: Path, models: dict[str, Any] | None = None, **tools: Any) -> EngineServices:
    tools = {"workspace": str(folder / "workspaces")} | tools
    return EngineServices(
        folder, models or {"a": model(), "e": model(type="embedding")}, tools=tools
    )


async def refusal(services: EngineServices, **fields: Any) -> RequestError:
    given = {"type": "agent", "content": "x"} | fields
    with pytest.raises(RequestError) as refused:
        await services.submit_fields(**given)
    assert not services.services.journal.live
    return refused.value


@virtual
@pytest.mark.parametrize("field", ["tools", "approve"])
async def test_a_tool_that_does_not_exist_is_named(tmp_path: Path, field: str) -> None:
    async with engine(tmp_path) as services:
        refused = await refusal(services, **{field: ["read_file", "read_fiel"]})
        assert isinstance(refused, InvalidRequest)
        assert refused.param == field
        assert "'read_fiel'" in str(refused)
        assert "write_file" in str(refused)
        batch = [Submission(content="x"), Submission(type="agent", content="x", tools=["no"])]
        with pytest.raises(InvalidRequest) as second:
            await services.services.intake.submit_all(batch)
        assert second.value.at == 1


@virtual
async def test_without_tools_there_is_no_agent(tmp_path: Path) -> None:
    async with engine(tmp_path, enabled=False) as services:
        refused = await refusal(services)
        assert (refused.param, refused.status) == ("type", 422)
        assert "tools.enabled" in str(refused)


@virtual
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"../x": ""}, "leads out"),
        ({"a/../../x": ""}, "leads out"),
        ({"/etc/passwd": ""}, "relative to the workspace"),
        ({"": ""}, "names no file"),
        ({"/ws": ""}, "names no file"),
        ({"./.": ""}, "names no file"),
        ({"a\0b": ""}, "NUL"),
        ({"x" * 256: ""}, "too long"),
        ({"/".join("x" * 70): ""}, "too long"),
        ({"a": "1", "./a": "2"}, "same file"),
        ({"a": "1", "/ws/a": "2"}, "same file"),
        ({"a/b": "1", "a": "2"}, "needs it to be a folder"),
        ({"a": "1", "a/b/c": "2"}, "needs it to be a folder"),
        ({"a\\..\\..\\b": "1"}, "leads out"),
    ],
)
async def test_files_stay_in_the_workspace(
    tmp_path: Path, files: dict[str, str], words: str
) -> None:
    async with engine(tmp_path) as services:
        refused = await refusal(services, files=files)
        assert (refused.param, refused.status) == ("files", 422)
        assert words in str(refused)


@virtual
async def test_only_models_that_take_tools_serve_agents(tmp_path: Path) -> None:
    models = {"claw": GATEWAY, "a": model(), "e": model(type="embedding")}
    async with engine(tmp_path, models) as services:
        for name, words in (("claw", "agent gateway"), ("e", "of type embedding")):
            refused = await refusal(services, model=name)
            assert (refused.param, refused.status) == ("model", 422)
            assert words in str(refused)
        found = await services.services.intake.route(Submission(type="agent", content="x"))
        rows = {row["model"]: row["eligible"] for row in found["candidates"]}
        assert rows == {"claw": False, "a": True}
        as_chat = await services.services.intake.route(Submission(content="x"))
        assert all(row["eligible"] for row in as_chat["candidates"])
        assert await services.submit_fields(type="agent", content="x", model="a")
    (tmp_path / "two").mkdir()
    async with engine(tmp_path / "two", {"claw": GATEWAY}) as services:
        assert isinstance(await refusal(services), NoModel)


@virtual
async def test_an_agent_is_stored_with_its_fields_and_the_cost_of_its_tools(
    tmp_path: Path,
) -> None:
    async with engine(tmp_path) as services:
        await services.services.holds.pause("a")
        files = {"a/b.txt": "text"}
        fields: dict[str, Any] = {"type": "agent", "content": "x", "files": files}
        some = await services.task(await services.submit_fields(tools=["read_file"], **fields))
        every = await services.task(await services.submit_fields(**fields, approve=["git"]))
        none = await services.task(await services.submit_fields(tools=[], **fields))
        assert none.request.tokens < some.request.tokens < every.request.tokens
        assert none.request.need < some.request.need < every.request.need
        body = loads(await services.services.journal.store.body(some.n))
        assert (body["tools"], body["files"]) == (["read_file"], files)


@virtual
async def test_a_tool_of_a_server_that_starts_is_waited_for_only_shortly(tmp_path: Path) -> None:
    servers = {"slow": {"command": ["python3", "-c", "import time; time.sleep(600)"]}}
    async with engine(tmp_path, mcp=servers) as services:
        await services.services.holds.pause("a")
        fields: dict[str, Any] = {"type": "agent", "content": "x"}
        assert await services.submit_fields(tools=["read_file", "slow.look"], **fields)


def test_the_answer_of_an_agent_is_never_shared() -> None:
    for cache in (None, True):
        agent = Submission(type="agent", content="x", params={"temperature": 0}, cache=cache)
        assert request_key(agent) is None
