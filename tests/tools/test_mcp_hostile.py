"""MCP servers that misbehave: what they write is bounded, and they end with their connection."""

import asyncio
import gzip
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from asyncsvc.config.settings import McpServer
from asyncsvc.tools.mcp_servers import McpServers
from asyncsvc.tools.registry import OUR_TOOLS, Toolbox, Workspaces
from asyncsvc.tools.tool import Result, Surroundings, ToolFault
from asyncsvc.tools.workspace import Workspace
from tests.hooks import Reply, Writer, hang_up, nonsense, silence, status
from tests.needs import need
from tests.polling import until

MOST = 10_000
START_S = 30.0
PROGRAM = str(Path(__file__).with_name("mcp_hostile.py"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the server of these tests pauses"),
]


@pytest.fixture(autouse=True)
def _sdk() -> None:
    need(None if find_spec("mcp") else "the package mcp is not installed")


class Bench:
    """One server in a mode, and calls of its tool."""

    def __init__(self, mode: str, folder: Path, timeout_s: float) -> None:
        settings = {"s": McpServer(command=[sys.executable, "-S", PROGRAM, mode])}
        self.servers = McpServers(settings, {}, timeout_s)
        self.box = Toolbox([], Workspaces(folder), None, self.servers)
        self.emitted: list[str] = []
        self.around = Surroundings(Workspace(folder), None, MOST, self.emitted.append)

    async def call(self, what: str | None = None, name: str = "s.echo") -> Result:
        async with asyncio.timeout(60):
            tool = await self.box.find(name)
            given = self.box.given(tool, {} if what is None else {"what": what})
            return await self.box.run(tool, given, self.around)

    async def works(self) -> bool:
        return (await self.call()).ok

    async def listed(self) -> list[str]:
        await until(self.works, bool)
        return self.box.names


async def alive() -> set[psutil.Process]:
    """The programs below this one that have not ended."""
    return {one for one in psutil.Process().children(recursive=True) if runs(one)}


def runs(program: psutil.Process) -> bool:
    """Whether it has not ended; it may end while it is looked at."""
    try:
        return program.is_running() and program.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@asynccontextmanager
async def bench(folder: Path, mode: str = "", timeout_s: float = START_S) -> AsyncIterator[Bench]:
    made, before = Bench(mode, folder, timeout_s), await alive()
    try:
        yield made
    finally:
        await made.box.close()
        await until(alive, lambda found: found == before)


async def test_a_line_without_end_ends_the_connection_within_bounds(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        first = await there.call()
        before = psutil.Process().memory_info().rss
        result = await there.call("endless line")
        assert not result.ok
        assert "it wrote a line of more than 4 MB" in result.output
        assert psutil.Process().memory_info().rss - before < 40 << 20
        await until(there.works, bool)
        assert (await there.call()).output != first.output


async def test_noise_is_passed_over_and_noise_without_end_ends_the_connection(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, "noisy") as there:
        assert (await there.call("noise")).output == "after the noise"
        result = await there.call("endless noise")
        assert "1000 lines of its output in a row were no messages" in result.output
        await until(there.works, bool)


async def test_an_answer_of_too_many_values_ends_the_connection(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        assert "too costly to read" in (await there.call("costly")).output
        await until(there.works, bool)


@pytest.mark.parametrize("what", ["large", "many parts"])
async def test_large_output_is_cut(tmp_path: Path, what: str) -> None:
    async with bench(tmp_path) as there:
        result = await there.call(what)
        assert (result.ok, result.truncated) == (True, True)
        assert MOST - 3 < len(result.output.encode()) <= MOST


async def test_what_is_no_text_is_described_in_a_line(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        assert (await there.call("picture")).output == "[i/, 3000 bytes]"


async def test_text_that_no_codec_takes_is_a_failure_of_the_call(tmp_path: Path) -> None:
    async with bench(tmp_path, timeout_s=2) as there:
        await until(there.works, bool)
        assert not (await there.call("surrogate")).ok
        assert await there.works()


@pytest.mark.parametrize("mode", ["pages", "empty pages"])
async def test_a_list_without_end_is_cut(tmp_path: Path, mode: str) -> None:
    async with bench(tmp_path, mode) as there:
        assert (await there.call(name="s.t0" if mode == "pages" else "s.echo")).ok
        assert len(there.box.names) == (200 if mode == "pages" else 1)


async def test_tools_that_no_model_could_be_given_are_left_out_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench(tmp_path, "odd") as there:
        assert await there.listed() == ["s.echo", "s.read_file", "s.a.b"]
        assert not set(there.box.names) & set(OUR_TOOLS)
        described = there.box.tool("s.read_file").description
        assert len(described) <= 4096
        assert "\x1b" not in described
    (line,) = [one for one in caplog.messages if "left out" in one]
    assert (
        "MCP server s: 10 tools are left out; the first, 'large', for the size of its schema"
        in line
    )


async def test_one_wrong_tool_is_a_fault_that_names_the_server(tmp_path: Path) -> None:
    async with bench(tmp_path, "one wrong", timeout_s=5) as there:
        result = await there.call()
        assert not result.ok
        assert "MCP server s: " in result.output
        assert "\n" not in result.output


async def test_progress_is_output_that_comes_while_the_call_runs(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        assert (await there.call("progress")).output == "done"
        assert there.emitted[:3] == ["step 0\n", "step 1\n", "step 2\n"]
        assert len("".join(there.emitted)) <= MOST + 10


async def test_a_server_may_not_ask_us(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        assert (await there.call("asks back")).output == "asked"
        assert await there.works()


async def test_changes_of_the_list_are_asked_for_now_and_then(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        await until(there.works, bool)
        await there.call("changes")
        assert int((await there.call("changes")).output) <= 5


async def test_a_call_that_is_given_up_is_cancelled_at_the_server(tmp_path: Path) -> None:
    async with bench(tmp_path, timeout_s=2) as there:
        await until(there.works, bool)
        result = await there.call("hang")
        assert "no answer within 2 s" in result.output
        assert (await there.call("cancelled")).output == "1"
        under_way = asyncio.create_task(there.call("hang"))
        assert await there.works()
        under_way.cancel()
        await asyncio.gather(under_way, return_exceptions=True)
        assert (await there.call("cancelled")).output == "2"


async def test_a_server_ends_with_its_children_though_they_ignore_it(tmp_path: Path) -> None:
    async with bench(tmp_path, "stays") as there:
        child = psutil.Process(int((await there.call("child")).output))
        assert child in await alive()
    assert not runs(child)


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_server_gets_no_descriptor_of_ours(tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop")
    (tmp_path / "inherited").touch()

    async def descriptors() -> list[str]:
        async with bench(tmp_path) as there:
            folder = f"/proc/{(await there.call()).output}/fd"
            return [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]

    with (tmp_path / "inherited").open() as file:
        os.set_inheritable(file.fileno(), True)
        found = uvloop.run(descriptors())
    assert {name.partition(":")[0] for name in found} <= {"pipe", "socket", "/dev/null"}


@pytest.mark.parametrize("mode", ["silent", "long"])
async def test_a_server_that_never_begins_can_be_stopped(tmp_path: Path, mode: str) -> None:
    async with bench(tmp_path, mode, timeout_s=1) as there:
        result = await there.call()
        assert not result.ok
        assert ("still starting" in result.output) or ("more than 4 MB" in result.output)


async def packed(writer: Writer) -> None:
    body = gzip.compress(b"{}" + b" " * 10_000_000)
    writer.write(ANSWER % b"application/json\r\ncontent-encoding: gzip" + body)


async def endless_json(writer: Writer) -> None:
    writer.write(ANSWER % b"application/json" + b'{"jsonrpc": "2.0", "id": 1, "result": "')
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def endless_event(writer: Writer) -> None:
    writer.write(ANSWER % b"text/event-stream" + b"event: message\n\ndata: ")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


ANSWER = b"HTTP/1.1 200 x\r\ncontent-type: %b\r\n\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        packed,
        endless_json,
        endless_event,
        nonsense,
        hang_up,
        status(200, "content-type: application/json", body=b"[" * 1000),
        status(307, "location: http://127.0.0.1:1/"),
        status(500, "content-type: text/plain", body=b"\x1b[31m" * 1000),
        silence,
    ],
)
async def test_a_server_over_http_may_answer_anything(tmp_path: Path, reply: Reply) -> None:
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        with suppress(OSError, EOFError, asyncio.CancelledError):
            asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
            await reply(writer)
            await writer.drain()
        writer.close()

    async def was_asked() -> bool:
        return bool(asked)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    servers = McpServers({"s": McpServer(url=url, token_env="T")}, {"T": "its-token"}, 2)
    before = psutil.Process().memory_info().rss
    try:
        async with asyncio.timeout(60):
            servers.begin()
            await until(was_asked, bool)
            tool = await servers.find("s.echo")
            assert tool is not None
            with pytest.raises(ToolFault, match="MCP server s: ") as fault:
                around = Surroundings(Workspace(tmp_path), None, MOST, lambda _: None)
                await tool.run(tool.check({}), around)
    finally:
        await servers.close()
        server.close()
    assert len(str(fault.value)) < 600
    assert "\x1b" not in str(fault.value)
    assert "Bearer its-token" in asked[0]
    assert "accept-encoding: identity" in asked[0].lower()
    assert psutil.Process().memory_info().rss - before < 60 << 20
