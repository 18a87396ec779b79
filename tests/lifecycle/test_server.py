"""The listening socket and the order of starting and stopping, in this process."""

import asyncio
import contextlib
import platform
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncsvc import server
from asyncsvc.config.settings import Settings
from asyncsvc.errors import StartError
from asyncsvc.server import SEND_BUFFER, bind, make_room_for_connections, serve


def settings(folder: Path, **of_server: Any) -> Settings:
    values = {"port": 0, "grace_s": 0} | of_server
    return Settings.model_validate(
        {"server": values, "storage": {"path": str(folder / "tasks.db")}}
    )


async def nothing(_: str) -> None:
    """Work beside the server that is done at once."""


def test_small_answers_are_sent_at_once() -> None:
    with bind("127.0.0.1", 0) as listener:
        # asyncio looks at this before it switches Nagle's algorithm off.
        assert listener.proto == socket.IPPROTO_TCP
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * SEND_BUFFER


def test_a_taken_port_is_named() -> None:
    with bind("127.0.0.1", 0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(StartError, match=rf"127\.0\.0\.1:{port}.*--port"):
            bind("127.0.0.1", port)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(StartError, match=r"server\.port: cannot listen on 192\.0\.2\.1:0"):
        bind("192.0.2.1", 0)


async def test_the_url_is_announced_before_the_work_begins(tmp_path: Path) -> None:
    lines: list[str] = []

    async def work(url: str) -> None:
        lines.append(f"work {url}")

    await serve(settings(tmp_path), {}, lines.append, work)
    assert len(lines) == 2
    assert lines[0].startswith("http://127.0.0.1:")
    assert lines[1] == f"work {lines[0]}"


async def test_an_ipv6_address_is_shown_in_brackets(tmp_path: Path) -> None:
    try:
        bind("::1", 0).close()
    except StartError:
        pytest.skip("this machine has no IPv6 loopback")
    lines: list[str] = []
    await serve(settings(tmp_path, host="::1"), {}, lines.append, nothing)
    assert lines[0].startswith("http://[::1]:")


async def test_a_fault_of_the_work_ends_the_service_and_is_reported(tmp_path: Path) -> None:
    async def work(_: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await serve(settings(tmp_path), {}, lambda _: None, work)
    await serve(settings(tmp_path), {}, lambda _: None, nothing)  # all was given back


async def test_cancelling_gives_all_back(tmp_path: Path) -> None:
    began = asyncio.Event()
    serving = asyncio.create_task(serve(settings(tmp_path), {}, lambda _: began.set()))
    await began.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    await serve(settings(tmp_path), {}, lambda _: None, nothing)


async def test_a_server_that_does_not_start_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def startup(*_: object, **__: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(server.Server, "startup", startup)
    with pytest.raises(OSError, match="no"):
        await serve(settings(tmp_path), {}, lambda _: None, nothing)


async def test_a_server_that_ends_before_it_serves_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gives_up(*_: object, **__: object) -> None:
        return

    monkeypatch.setattr(server.Server, "serve", gives_up)
    announced: Callable[[str], None] = pytest.fail
    with pytest.raises(StartError, match="did not start"):
        await serve(settings(tmp_path), {}, announced, nothing)


@pytest.mark.parametrize(
    ("soft", "hard", "then"),
    [
        (1024, 4096, 4096),
        (1024, 1 << 20, 65_536),
        (1024, resource.RLIM_INFINITY, 65_536),
        (100_000, 1 << 20, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
    ],
)
def test_the_limit_of_descriptors_is_raised_as_far_as_allowed(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, then: int | None
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    make_room_for_connections()
    assert asked == ([] if then is None else [(then, hard)])


def test_a_lack_of_memory_in_the_loop_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    with contextlib.closing(loop):
        server.log_loop_fault(loop, {"message": "no bytes", "exception": MemoryError()})
        server.log_loop_fault(loop, {"message": "a fault", "exception": ZeroDivisionError()})
    first, second = caplog.records
    assert (first.getMessage(), first.exc_info) == ("there is no memory left: no bytes", None)
    assert second.exc_info


THREAD_THAT_TOOK_MEMORY = """
import asyncio, sys, threading
import psutil
from asyncsvc.monitoring.process_statistics import give_back
from asyncsvc.server import share_one_heap

if sys.argv[1] == "one heap":
    share_one_heap()
bytes(30_000_000)  # from now on the C library keeps free memory of up to twice this size
begun, done, end = (threading.Event() for _ in range(3))

def take():
    begun.wait()
    held = [b"x" * 100_000 for _ in range(500)]
    del held
    done.set()
    end.wait()

thread = threading.Thread(target=take)
thread.start()
before = psutil.Process().memory_info().rss
begun.set()
done.wait()
asyncio.run(give_back())
print(psutil.Process().memory_info().rss - before)
end.set()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not platform.libc_ver()[0], reason="needs glibc")
def test_memory_that_a_thread_took_is_given_back_while_the_thread_lives() -> None:
    argv = [sys.executable, "-c", THREAD_THAT_TOOK_MEMORY]
    stays = [
        int(subprocess.run([*argv, word], check=True, capture_output=True).stdout)
        for word in ("one heap", "own heaps")
    ]
    assert stays[0] < 10_000_000 < stays[1], stays
