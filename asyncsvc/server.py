"""The HTTP server: uvicorn, with the process's signals and the order of stopping.

The engine is drained while the sockets are still open (uvicorn by itself closes them first). A
second signal skips the grace period; the process then ends with 0.
"""

import asyncio
import contextlib
import ctypes
import gc
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Generator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from asyncsvc.app import drain, open_services, web
from asyncsvc.config.settings import Server as ServerSettings
from asyncsvc.config.settings import Settings, is_loopback
from asyncsvc.errors import DatabaseLost, SettingsError, StartError
from asyncsvc.lifecycle.reload import hangup
from asyncsvc.net.bounded_reads import RECEIVE_BYTES
from asyncsvc.net.tls import server_context
from asyncsvc.tools import registry
from asyncsvc.web.http.connections import Connections
from asyncsvc.web.http.handshakes import Handshakes
from asyncsvc.web.http.socket_protocol import SocketProtocol
from asyncsvc.web.http.state import Services

log = logging.getLogger(__name__)

REFUSED_BY_PARSER = "Invalid HTTP request received."
"""What uvicorn logs at each: lines that any client could fill the disk with."""
FRAME_BYTES = 1 << 20
SEND_BUFFER = 256 * 1024
"""The kernel's buffer for one client. By itself it grows to megabytes, in which the events of a
client that does not read would pile up unseen."""
UVICORN_CLOSE_S = 5
COLLECT_AFTER = (20_000, 20, 100)
"""Allocations, and collections of the next younger generation."""
SWITCH_S = 0.0001
"""How long a thread waits for a busy loop before the interpreter makes it give way. At Python's
5 ms a commit stood still before its work and after it for a quarter of its time."""
DESCRIPTORS = 65_536
M_ARENA_MAX = -8
"""The option's number in `malloc.h` of glibc, where it has been the same since version 2.10."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Server(uvicorn.Server):
    """A uvicorn server that leaves the signals to us, and TLS to `handshakes`."""

    def __init__(self, config: uvicorn.Config, handshakes: Handshakes | None = None) -> None:
        super().__init__(config)
        self._handshakes = handshakes

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._handshakes is None:
            await super().startup(sockets)
            return
        await super().startup([])
        parts = {"server_state": self.server_state, "app_state": self.lifespan.state}
        make = cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class)
        self._handshakes.begin(partial(make, config=self.config, **parts), self.config.backlog)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._handshakes is not None:
            await self._handshakes.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """The listening socket, so that a taken port is a clear line before anything is opened."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named: without it an answer, written
    # as head and body, waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The connections have the same: one read of the event loop brings a bounded part.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listener.bind((host.strip("[]"), port))
    except OSError as error:
        listener.close()
        raise StartError(
            f"server.port: cannot listen on {host}:{port}: {error.strerror}; "
            "choose another with --port N"
        ) from None
    listener.setblocking(False)
    return listener


async def serve(
    settings: Settings,
    environ: Mapping[str, str],
    announce: Callable[[str], None],
    beside: Callable[[str], Awaitable[None]] | None = None,
    read: Callable[[], Settings] | None = None,
    reloaded: Callable[[], None] = lambda: None,
) -> None:
    """Serve until a signal comes, or until `beside`, which is given the URL, has returned.

    SIGHUP, where the system has it, reads the settings again, by asking `read` for them, and the
    certificate of TLS; `reloaded` is called after each reload. Raises SettingsError for a
    certificate that cannot be used, and DatabaseLost after the stop where the database's file is
    no longer in its place.
    """
    stop, hurry, again = asyncio.Event(), asyncio.Event(), asyncio.Event()
    _prepare_process()
    # The signals are ours from before the store is opened until after it is closed.
    with (
        contextlib.closing(bind(settings.server.host, settings.server.port)) as listener,
        _signals(stop, hurry),
        hangup(again.set, stop.set),
    ):
        handshakes = _handshakes(settings, listener)
        async with open_services(settings, environ, read=read) as services:
            _warn(settings)
            services.reloader.reloaded = reloaded
            server = Server(_config(web(services), settings), handshakes)
            if handshakes is not None:
                services.reloader.renewals.append(handshakes.renew)
            serving = asyncio.create_task(server.serve([listener]), name="server")
            url = _url(settings.server, listener)
            calm_collector()
            sys.setswitchinterval(SWITCH_S)
            reloading = asyncio.create_task(_reload(services, again), name="reload on SIGHUP")
            try:
                await _started(server, serving)
                announce(url)
                services.toolbox.begin()
                await _until(stop, serving, beside(url) if beside else None)
            finally:
                reloading.cancel()
                await drain(services, settings.server.grace_s, hurry)
                server.should_exit = True
                await serving
            lost = await asyncio.to_thread(services.journal.store.upkeep.fault)
        if lost is not None:
            raise DatabaseLost(f"{lost}; what was written since may be gone")


def _prepare_process() -> None:
    """Set what counts for the whole process before it has threads and connections."""
    logging.getLogger("uvicorn.error").addFilter(_worth_a_line)
    make_room_for_connections()
    share_one_heap()
    asyncio.get_running_loop().set_exception_handler(log_loop_fault)


def _worth_a_line(record: logging.LogRecord) -> bool:
    return record.msg != REFUSED_BY_PARSER


def log_loop_fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an exception that reaches no caller; a lack of memory in one line, without a traceback.

    Where the loop gets no memory for the bytes of a socket, it closes that connection before any
    code of the service is called.
    """
    if isinstance(context.get("exception"), MemoryError):
        log.error("there is no memory left: %s", context.get("message"))
    else:
        loop.default_exception_handler(context)


def calm_collector() -> None:
    """Keep Python's garbage collector from looking at everything again and again.

    Waiting tasks are many small objects that live long: with the default thresholds a third
    of the time under load went into full collections, each of which stopped the loop for
    100 ms at 16,000 waiting tasks. What is loaded by now stays for good; reference counts free
    nearly all of the rest, and cycles are still collected, only less often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def share_one_heap() -> None:
    """Let all threads take their memory from one heap, where the C library is glibc.

    By itself each thread gets a heap of its own, and the free end of such a heap is never given
    back: 30 MB stayed after a large answer had passed through the writer's thread. Call it before
    there are threads; those that are there keep the heaps that they have.
    """
    try:
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    except (OSError, AttributeError, TypeError):
        return  # another C library


def make_room_for_connections() -> None:
    """Use as many file descriptors as the system lets us have.

    Many systems give a process 1024 unless it asks: fewer than the connections that the default
    settings allow, with their calls to providers.
    """
    try:
        import resource
    except ImportError:
        return  # a platform that does not count them
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _until(
    stop: asyncio.Event, serving: "asyncio.Task[None]", work: Awaitable[None] | None
) -> None:
    waits = {asyncio.ensure_future(stop.wait()), serving}
    extra = asyncio.ensure_future(work) if work is not None else None
    done, pending = await asyncio.wait(
        waits | ({extra} if extra else set()), return_when=asyncio.FIRST_COMPLETED
    )
    for other in pending - {serving}:
        other.cancel()
    await asyncio.gather(*(pending - {serving}), return_exceptions=True)
    for ended in done:
        ended.result()


async def _reload(services: Services, again: asyncio.Event) -> None:
    """Whenever it is asked for; faults are for the log alone."""
    while True:
        await again.wait()
        again.clear()
        try:
            await services.reload()
        except SettingsError as error:
            for line in error.lines:
                log.error("settings not read again: %s", line)
        except Exception:
            log.exception("settings not read again")


async def _started(server: Server, serving: "asyncio.Task[None]") -> None:
    while not server.started:
        if serving.done():
            serving.result()
            raise StartError("the HTTP server did not start; the log says why")
        await asyncio.sleep(0.002)


@contextlib.contextmanager
def _signals(stop: asyncio.Event, hurry: asyncio.Event) -> Generator[None, None, None]:
    """The first signal stops, the second skips the grace."""
    loop = asyncio.get_running_loop()

    def received() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    def from_thread(*_: Any) -> None:
        loop.call_soon_threadsafe(received)

    before = {number: signal.signal(number, from_thread) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    server = settings.server
    # What an early refusal leaves of a body is read to its end, so that the client sees the answer.
    most = max(settings.queue.max_task_bytes, settings.storage.max_file_bytes)
    connections = Connections(server.max_connections, server.client_timeout_s, most)
    return uvicorn.Config(
        app,
        # uvicorn only calls it; its annotation asks for a class.
        http=cast(type[asyncio.Protocol], connections.protocol),
        ws=SocketProtocol,
        ws_max_size=FRAME_BYTES,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=server.keep_alive_s,
        proxy_headers=False,
        timeout_graceful_shutdown=UVICORN_CLOSE_S,
    )


def _handshakes(settings: Settings, listener: socket.socket) -> Handshakes | None:
    """Where the settings name a certificate. Raises SettingsError."""
    server = settings.server
    if not server.certfile:
        return None
    # Absolute: a reload must find them wherever the process has gone.
    paths = [str(Path(each).absolute()) for each in (server.certfile, server.keyfile)]
    return Handshakes(
        listener,
        partial(server_context, *paths),
        most=server.max_connections,
        patience_s=server.client_timeout_s,
    )


def _warn(settings: Settings) -> None:
    """Log what can be read on the way, and names of tools that no tool has."""
    for line in registry.warnings(settings.tools):
        log.warning("%s", line)
    server = settings.server
    if not (is_loopback(server.host) or server.certfile or server.trusted_proxies):
        log.warning(
            "tokens and prompts can be read on the way to %s: set server.certfile and "
            "server.keyfile, or put a proxy with TLS before it and name it in "
            "server.trusted_proxies",
            server.host,
        )


def _url(server: ServerSettings, listener: socket.socket) -> str:
    host = server.host
    shown = f"[{host.strip('[]')}]" if ":" in host else host
    return f"{server.scheme}://{shown}:{listener.getsockname()[1]}"
