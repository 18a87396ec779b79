"""The simulated provider on a socket: inside the current loop, or until a signal comes.

uvicorn's protocol class does the HTTP. Its Server is not used: it polls, catches signals, sets up
logging and waits for clients, while a simulator in a test is gone at once.
"""

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.server import ServerState

from asyncsvc.simulator.app import application
from asyncsvc.simulator.profile import Profile
from asyncsvc.simulator.simulator import Simulator

# Longer than any client keeps a connection in its pool: a close of ours that crosses a request on
# the wire would be a fault that was not asked for.
KEEP_ALIVE_S = 600
STOP_S = 1.0


@dataclass(frozen=True, slots=True)
class Running:
    """A simulator that is being served; ``url`` is without a path, ``base_url`` ends in /v1."""

    url: str
    port: int
    simulator: Simulator

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"


class TransportInScope:
    """Mixin for uvicorn's protocol: gives the application the connection's transport.

    It is in ``scope["state"]["transport"]``; an abrupt close needs it. No access log is written.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:
        protocol = cast(Any, self)
        protocol.access_log = False
        protocol.app_state = {"transport": transport}
        super().connection_made(transport)  # type: ignore[misc]


PROTOCOL = cast(
    Callable[..., asyncio.Protocol],
    type("SimulatorProtocol", (TransportInScope, AutoHTTPProtocol), {}),
)


@asynccontextmanager
async def running(
    profile: Profile, host: str = "127.0.0.1", port: int = 0
) -> AsyncGenerator[Running]:
    """Serve a new simulator while the block runs; port 0 takes a free one. Raises OSError where
    the address cannot be had."""
    simulator = Simulator(profile)
    state = ServerState()
    config = Config(
        application(simulator),
        log_config=None,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: PROTOCOL(config=config, server_state=state, app_state={}, _loop=loop),
        host,
        port,
        backlog=config.backlog,
    )
    try:
        bound: int = server.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        yield Running(f"http://{shown}:{bound}", bound, simulator)
    finally:
        server.close()
        await _drop(state)
        await server.wait_closed()


def serve(profile: Profile, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; ``announce`` is given the URL. Raises OSError."""
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with suppress(ImportError):
        from uvloop import new_event_loop as loop_factory
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_until_signalled(profile, host, port, announce))


async def _until_signalled(
    profile: Profile, host: str, port: int, announce: Callable[[str], None]
) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C ends the runner there
            loop.add_signal_handler(number, stop.set)
    async with running(profile, host, port) as server:
        announce(server.url)
        await stop.wait()


async def _drop(state: ServerState) -> None:
    """Close all connections; calls then end by themselves, as if their clients had left."""
    for connection in list(state.connections):
        cast(Any, connection).transport.abort()
    tasks = set(state.tasks)
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=STOP_S)
        for task in late:
            task.cancel()
