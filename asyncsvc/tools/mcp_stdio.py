"""An MCP server as a child process: messages by lines over its stdin and stdout, within bounds.

The SDK's own transport keeps a line of any length, and searches it again with each piece: a server
that writes 100 MB without a newline stops the event loop. Promises that no more than one line of
`LINE_MOST` is kept, that noise and floods end the connection or wait in the pipe, and that the
program ends with the connection, with its children: stdin is closed first, then it is killed.
"""

import asyncio
import os
import shutil
import signal
from asyncio.subprocess import PIPE, SubprocessStreamProtocol
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TextIO

import anyio
import psutil
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from asyncsvc.net import json_bounds

LINE_MOST = 4 << 20
"""Bytes of a message, which is a line."""
NOISE_MOST = 1000
"""Lines in a row that are no messages."""
MESSAGES_PER_S = 1000
"""Beyond it the rest waits in the pipe: each message takes a turn of the event loop."""
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
EXIT_S = 2.0
"""How long a program may take to end by itself, and again once it is asked to."""

Streams = tuple[Any, Any]
"""What the SDK calls a transport: a stream of messages from the server, and one to it."""


class _Pipes(SubprocessStreamProtocol):
    """The pipes of a program, and whether it has ended, which a child of it that holds them may
    not have."""

    def __init__(self) -> None:
        super().__init__(limit=LINE_MOST, loop=asyncio.get_running_loop())
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()


@asynccontextmanager
async def program(
    command: Sequence[str],
    environ: Mapping[str, str],
    errlog: TextIO,
    ended: Callable[[str], None],
) -> AsyncGenerator[Streams]:
    """The streams of a program. `ended` is called with the reason when its connection is gone.
    Raises OSError or ValueError for what cannot be started."""
    loop = asyncio.get_running_loop()
    _keep_descriptors()
    transport, pipes = await loop.subprocess_exec(
        _Pipes,
        shutil.which(command[0]) or command[0],
        *command[1:],
        stdin=PIPE,
        stdout=PIPE,
        stderr=errlog,
        env=environ,
        start_new_session=True,
    )
    assert pipes.stdout is not None
    assert pipes.stdin is not None
    from_server, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    to_send, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    reading = asyncio.create_task(_read(pipes.stdout, from_server, ended), name="MCP stdout")
    writing = asyncio.create_task(_write(pipes.stdin, outgoing), name="MCP stdin")
    try:
        yield received, to_send
    finally:
        with anyio.CancelScope(shield=True):
            reading.cancel()
            writing.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)
            for stream in (from_server, received, to_send, outgoing):
                stream.close()
            pipes.stdin.close()
            await _stop(transport, pipes.exited)


def _keep_descriptors() -> None:
    """Pass on nothing that the service itself was started with: uvloop closes none of it."""
    for name in os.listdir("/dev/fd") if os.path.isdir("/dev/fd") else ():
        if int(name) > 2:
            with suppress(OSError):
                os.set_inheritable(int(name), False)


async def _read(stream: asyncio.StreamReader, sink: Any, ended: Callable[[str], None]) -> None:
    """Pass on the messages of the program until it ends or misbehaves."""
    async with sink:
        try:
            reason = await _pass_on(stream, sink)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            reason = "its connection was closed"
        except json_bounds.BeyondBounds as wrong:
            reason = f"a message of its is too costly to read: {wrong}"
        except ValueError:  # of readline
            reason = f"it wrote a line of more than {LINE_MOST >> 20} MB"
        except OSError as error:
            reason = f"its output cannot be read: {error}"
        ended(reason)


async def _pass_on(stream: asyncio.StreamReader, sink: Any) -> str:
    """Why it ended. Raises BeyondBounds, ValueError or OSError, and what `sink` raises."""
    loop = asyncio.get_running_loop()
    noise, count, since = 0, 0, loop.time()
    while line := await stream.readline():
        if (message := _message(line)) is not None:
            noise = 0
            await sink.send(message)
        elif (noise := noise + 1) > NOISE_MOST:
            return f"{NOISE_MOST} lines of its output in a row were no messages"
        count += 1
        if count == MESSAGES_PER_S:
            await asyncio.sleep(since + 1 - loop.time())
            count, since = 0, loop.time()
    return "its connection was lost"


def _message(line: bytes) -> SessionMessage | None:
    """Raises BeyondBounds."""
    json_bounds.check(line)
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:
        return None


async def _write(stream: asyncio.StreamWriter, source: Any) -> None:
    async with source:
        async for one in source:
            text = one.message.model_dump_json(by_alias=True, exclude_unset=True)
            stream.write(text.encode() + b"\n")
            with suppress(OSError):
                await stream.drain()


async def _stop(transport: asyncio.SubprocessTransport, exited: asyncio.Event) -> None:
    """End the program with its children, and close what is left of its pipes; at once where the
    wait for it is cancelled."""
    try:
        for number in (None, signal.SIGTERM):
            if number is not None:
                _signal(transport.get_pid(), number)
            with suppress(TimeoutError):
                await asyncio.wait_for(exited.wait(), EXIT_S)
                break
    finally:
        # Also what it has left behind in its group.
        _signal(transport.get_pid(), KILL)
        transport.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(exited.wait(), EXIT_S)


def _signal(pid: int, number: int) -> None:
    with suppress(OSError, psutil.Error):
        if os.name == "posix":
            os.killpg(pid, number)
            return
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process]:
            one.kill()
