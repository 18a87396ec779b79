"""`[tools.mcp.NAME]`: the tools of MCP servers in `/tools`, and servers that fail or die."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from pydantic import ValidationError

from asyncsvc.config.settings import Settings
from tests.needs import need
from tests.polling import until
from tests.web.serving import Service, expect, refused, serving
from tests.web.test_web_tools import call

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROGRAM = [sys.executable, "-m", "tests.tools.mcp_program"]
LIMIT_S = 5
SECRETS = {"OUR_KEY": "k-1", "ITS_KEY": "k-2"}


@pytest.fixture(autouse=True)
def _sdk() -> None:
    need(None if find_spec("mcp") else "the package mcp is not installed")


@asynccontextmanager
async def with_servers(folder: Path, **servers: Any) -> AsyncIterator[Service]:
    tools = {
        "workspace": str(folder / "workspaces"),
        "timeout_s": LIMIT_S,
        "max_output_bytes": 1024,
        "approve": ["x.pid"],
        "mcp": servers,
    }
    async with serving(folder, SECRETS, tools=tools) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    servers = {
        "x": {"command": PROGRAM, "pass_envs": ["ITS_KEY", "NOT_SET"]},
        "absent": {"command": ["no-such-program-of-mcp"]},
        "broken": {"command": [sys.executable, "-c", "raise SystemExit('no licence')"]},
        "odd": {"command": [sys.executable, "-c", "while input(): print('not the protocol')"]},
    }
    async with with_servers(tmp_path_factory.mktemp("mcp"), **servers) as service:
        await until(lambda: listed(service), lambda found: "x.echo" in found)
        yield service


async def done(service: Service, name: str, **values: Any) -> str:
    result = expect(await call(service, name, **values), 200)
    assert result["ok"], result
    assert result["exit_code"] == 0
    return str(result["output"])


async def failed(service: Service, name: str, **values: Any) -> str:
    result = expect(await call(service, name, **values), 200)
    assert not result["ok"], result
    assert result["exit_code"] == 1
    return str(result["output"])


async def listed(service: Service) -> dict[str, Any]:
    found = expect(await service.http.get("/tools"), 200)["tools"]
    return {one["function"]["name"]: one for one in found}


async def test_tools_join_under_the_name_of_their_server(served: Service) -> None:
    assert await done(served, "x.echo", text="你好") == "你好"
    found = await listed(served)
    theirs = [name for name in found if "." in name]
    names = ["echo", "pid", "variables", "refuse", "sleep", "die", "picture"]
    assert theirs == [f"x.{name}" for name in names]
    echo = found["x.echo"]
    assert echo["function"]["description"] == "Say the text again."
    assert echo["function"]["parameters"]["required"] == ["text"]
    assert (echo["reads_only"], echo["approval"]) == (True, False)
    assert (found["x.pid"]["reads_only"], found["x.pid"]["approval"]) == (False, True)


async def test_a_server_gets_only_the_variables_that_are_named(served: Service) -> None:
    names = (await done(served, "x.variables")).split()
    assert "ITS_KEY" in names
    assert "OUR_KEY" not in names
    assert {"PATH", "HOME"} <= set(names)


async def test_what_a_tool_fails_at_is_its_result(served: Service) -> None:
    assert "no way" in await failed(served, "x.refuse", why="no way")
    assert "valid string" in await failed(served, "x.echo", text=1)
    assert "no answer within" in await failed(served, "x.sleep", seconds=60)
    assert await done(served, "x.picture") == "[image/png, 3 bytes]"
    long = expect(await call(served, "x.echo", text="é" * 2000), 200)
    assert (long["output"], long["truncated"]) == ("é" * 512, True)


async def test_a_wrong_call_is_refused(served: Service) -> None:
    refused(await call(served, "x.nothing"), 404, "not_found")
    refused(await call(served, "y.echo"), 404, "not_found")
    assert refused(await call(served, "x.echo"), 422, "invalid_request")["param"] == "text"


async def test_a_server_that_cannot_start_says_why(served: Service) -> None:
    assert "no-such-program-of-mcp cannot be started" in await failed(served, "absent.do", a=1)
    assert "no licence" in await failed(served, "broken.do")
    assert "odd" in await failed(served, "odd.do")


async def test_a_server_that_dies_is_started_again(served: Service) -> None:
    async def again() -> bool:
        return bool(expect(await call(served, "x.pid"), 200)["ok"])

    before = await done(served, "x.pid")
    os.kill(int(before), signal.SIGKILL)
    await until(again, bool)
    assert await done(served, "x.pid") != before
    assert "x.echo" in await listed(served)
    assert "its connection was lost" in await failed(served, "x.die")
    assert "x.echo" in await listed(served)
    await until(again, bool)


async def test_a_start_waits_for_no_server_and_a_stop_leaves_none(tmp_path: Path) -> None:
    silent = [sys.executable, "-c", "import time; time.sleep(600)"]
    async with asyncio.timeout(20):
        async with with_servers(tmp_path, s={"command": silent}) as service:
            assert "s.do" not in await listed(service)
            assert "still starting" in await failed(service, "s.do")
            children = [p for p in psutil.Process().children() if p.cmdline() == silent]
            assert len(children) == 1
    assert not children[0].is_running()


@pytest.mark.parametrize(
    ("name", "table", "why"),
    [
        ("x", {}, "either command or url"),
        ("x", {"command": ["a"], "url": "http://a"}, "either command or url"),
        ("x", {"command": [""]}, "names the program"),
        ("x", {"url": "ftp://a"}, "must be an address"),
        ("x", {"url": "http://a:b@c"}, "token_env"),
        ("x", {"command": ["a"], "token_env": "T"}, "belongs to a url"),
        ("x", {"url": "http://a", "pass_envs": ["T"]}, "belongs to a url"),
        ("x", {"command": ["a"], "shell": True}, "not permitted"),
        ("x", {"command": ["a", "--key", "ghp_" + "a" * 36]}, "looks like a key"),
        ("a.b", {"command": ["a"]}, "may hold"),
        ("", {"command": ["a"]}, "may hold"),
    ],
)
async def test_settings_that_make_no_server_are_refused(name: str, table: Any, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Settings.model_validate({"tools": {"mcp": {name: table}}})
