"""Serving a simulator on a real socket, inside the current loop.

Owns the listening socket and the live connections. Promises to install no signal handler, to leave
logging as it is, and to be gone at once on exit, whatever clients are doing. uvicorn's protocol
class does the HTTP; its Server is not used, because it polls, catches signals and waits for
clients to finish.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.server import ServerState

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


class _TransportInScope:
    """Mixed into uvicorn's protocol: hands the connection's transport to the application as
    ``scope["state"]["transport"]``, which an abrupt close needs, and writes no access log."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        protocol = cast(Any, self)
        protocol.access_log = False
        protocol.app_state = {"transport": transport}
        super().connection_made(transport)  # type: ignore[misc]


_PROTOCOL = cast(
    Callable[..., asyncio.Protocol],
    type("SimulatorProtocol", (_TransportInScope, AutoHTTPProtocol), {}),
)


@asynccontextmanager
async def running(
    profile: Profile, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Running]:
    """Serve a new simulator while the block runs; port 0 takes a free one. Raises OSError where
    the address cannot be had."""
    simulator = Simulator(profile)
    state = ServerState()
    config = Config(
        simulator.app,
        log_config=None,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _PROTOCOL(config=config, server_state=state, app_state={}, _loop=loop),
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


async def serve(profile: Profile, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until cancelled; ``announce`` is given the one line that says where."""
    async with running(profile, host, port) as server:
        announce(f"simulator listening on {server.url}")
        await asyncio.Event().wait()


async def _drop(state: ServerState) -> None:
    """Close all connections; calls then end by themselves, as if their clients had left."""
    for connection in list(state.connections):
        cast(Any, connection).transport.abort()
    tasks = set(state.tasks)
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=STOP_S)
        for task in late:
            task.cancel()
