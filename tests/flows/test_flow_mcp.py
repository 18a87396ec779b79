"""`python main.py mcp` beside a real service, driven by the client of the official SDK."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import MAIN, environment
from tests.needs import need
from tests.polling import until
from tests.web.serving import HANG, Service, serving

if find_spec("mcp") is not None:
    from mcp import Client, StdioServerParameters, types

PATIENCE_S = 30.0
FLOW = "[[sim:rate=40 tokens=60]] go"


@pytest.fixture(autouse=True)
def _sdk() -> None:
    need(None if find_spec("mcp") else "the package mcp is not installed")


@asynccontextmanager
async def offered(url: str, **variables: str) -> AsyncIterator["Client"]:
    program, *rest = MAIN
    command = StdioServerParameters(
        command=program, args=[*rest, "mcp", "--url", url], env=environment(variables)
    )
    async with asyncio.timeout(PATIENCE_S), Client(command, cache=None) as client:
        yield client


async def answer(client: "Client", name: str, **values: Any) -> dict[str, Any]:
    """The answer of a tool, which must be no error and the same as text and as structure."""
    result = await client.call_tool(name, values)
    assert not result.is_error, result.content
    assert isinstance(result.content[0], types.TextContent)
    assert json.loads(result.content[0].text) == result.structured_content
    found: dict[str, Any] = result.structured_content
    return found


async def refused(client: "Client", name: str, **values: Any) -> str:
    result = await client.call_tool(name, values)
    assert result.is_error
    assert isinstance(result.content[0], types.TextContent)
    return result.content[0].text


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path) as running:
        yield running


async def test_a_task_goes_through_every_operation(service: Service) -> None:
    async with offered(service.url) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(listed) == ["submit", "wait", "cancel", "list", "show", "explain", "models"]
        reads = {n for n, t in listed.items() if t.annotations and t.annotations.read_only_hint}
        assert reads == {"wait", "list", "show", "explain", "models"}
        assert "fast" in [one["name"] for one in (await answer(client, "models"))["models"]]
        more = {"session_id": "s"}
        accepted = await answer(client, "submit", content="hello", model="fast", fields=more)
        task_id = accepted["task_id"]
        done = await answer(client, "wait", task_id=task_id[-8:])
        assert (done["status"], done["task_id"]) == ("completed", task_id)
        assert done == await service.task(task_id) == await answer(client, "show", task_id=task_id)
        found = (await answer(client, "list", status="completed", limit=500))["tasks"]
        assert task_id in [one["task_id"] for one in found]
        assert (await answer(client, "explain", task_id=task_id))["attempts"]
        hung = await service.running()
        assert (await answer(client, "cancel", task_id=hung))["status"] == "cancelled"


async def test_a_submit_that_waits_tells_its_progress(service: Service) -> None:
    seen: list[tuple[float, str]] = []

    async def report(progress: float, total: float | None, message: str | None) -> None:
        assert total is None
        seen.append((progress, message or ""))

    async with offered(service.url) as client:
        result = await client.call_tool(
            "submit",
            {"content": FLOW, "model": "fast", "wait": True},
            progress_callback=report,
        )
    assert result.structured_content["status"] == "completed"
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert any("running" in message for _, message in seen)
    assert seen[-1][1] == "completed"


async def test_a_cancelled_submit_cancels_its_task_and_a_cancelled_wait_does_not(
    service: Service,
) -> None:
    async with offered(service.url) as client:
        waited = await service.running()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await client.call_tool("wait", {"task_id": waited})
        submit = client.call_tool("submit", {"content": f"{HANG} own", "wait": True})
        submitting = asyncio.ensure_future(submit)
        found = await until(lambda: answer(client, "list", q="own"), lambda one: one["tasks"])
        own = found["tasks"][0]["task_id"]
        submitting.cancel()
        assert (await service.done(own))["status"] == "cancelled"
        assert (await service.task(waited))["status"] == "running"
        await service.steer(waited, "cancel")


async def test_refusals_of_the_service_are_errors_of_the_tool(service: Service) -> None:
    nowhere = "0" * 36
    async with offered(service.url) as client:
        for name in ("show", "wait", "cancel", "explain"):
            assert nowhere in await refused(client, name, task_id=nowhere)
        assert "nope" in await refused(client, "submit", content="x", model="nope")
        assert "odd" in await refused(client, "submit", content="x", fields={"odd": 1})
        assert "priority" in await refused(client, "submit", content="x", priority=10)
        assert "content" in await refused(client, "submit")
    async with offered("http://127.0.0.1:9") as client:
        assert "cannot reach asyncsvc" in await refused(client, "models")


async def test_owners_and_scopes_hold(tmp_path: Path) -> None:
    clients: Mapping[str, Any] = {
        "alice": {"token_env": "ALICE"},
        "bob": {"token_env": "BOB"},
        "reader": {"token_env": "READER", "scopes": ["read"]},
    }
    tokens = {name.upper(): f"token-of-{name}" for name in clients}
    async with serving(tmp_path, tokens, clients=clients) as service:
        async with offered(service.url, ASYNCSVC_TOKEN=tokens["ALICE"]) as alice:
            hers = (await answer(alice, "submit", content="hi", wait=True))["task_id"]
        async with offered(service.url, ASYNCSVC_TOKEN=tokens["BOB"]) as bob:
            assert hers in await refused(bob, "show", task_id=hers)
            assert hers in await refused(bob, "wait", task_id=hers)
            assert (await answer(bob, "list"))["tasks"] == []
        async with offered(service.url, ASYNCSVC_TOKEN=tokens["READER"]) as reader:
            assert "submit" in await refused(reader, "submit", content="hi")
        async with offered(service.url) as anonymous:
            assert "ASYNCSVC_TOKEN" in await refused(anonymous, "models")


def ended(*argv: str, text: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*MAIN, "mcp", *argv],
        input=text,
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_stdout_holds_the_protocol_alone() -> None:
    odd = "not json\n" + json.dumps({"jsonrpc": "2.0", "id": 1, "method": "no/such"}) + "\n"
    done = ended("--url", "http://127.0.0.1:9", text=odd)
    assert done.returncode == 0
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in done.stdout.splitlines())
    assert "Traceback" not in done.stderr


def test_an_unusable_address_is_one_line() -> None:
    done = ended("--url", "ftp://x")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_without_the_package_one_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "mcp.py").write_text("raise ModuleNotFoundError('no mcp', name='mcp')")
    done = ended(PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'asyncsvc[mcp]'" in done.stderr
