"""Serving inside a loop and as a process of its own."""

import asyncio
import logging
import signal
import sys
from pathlib import Path

import pytest

from asyncsvc.simulator import Profile, running
from asyncsvc.simulator.__main__ import main

from .rawhttp import fetch, in_flight, opened, request_bytes, until, user


async def test_stopping_closes_live_connections_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Profile()) as server:
        lines = []
        for tag in ("hang", "hang-stream", "first=1000", "slow-bytes every=1000"):
            for stream in (True, False):
                content = f"[[sim:{tag}]]"
                lines.append(await opened(server.port, request_bytes(user(content, stream=stream))))
        lines.append(await opened(server.port, b""))
        lines.append(await opened(server.port, b"POST /v1/chat/completions HTTP/1.1\r\n"))
        await until(lambda: in_flight(server) == 8)
        simulator, port = server.simulator, server.port
    for reader, writer in lines:
        try:
            while await reader.read(65536):
                pass
        except ConnectionResetError:
            pass
        writer.close()
    assert simulator.stats()["models"]["m"]["in_flight"] == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert caplog.records == []


async def test_a_call_that_will_not_end_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    from asyncsvc.simulator import serving
    from asyncsvc.simulator.exchange import Exchange

    monkeypatch.setattr(serving, "STOP_S", 0.01)
    cancelled = asyncio.Event()

    async def deaf(exchange: Exchange) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()

    monkeypatch.setattr(Exchange, "hang", deaf)
    async with running(Profile()) as server:
        _, writer = await opened(server.port, request_bytes(user("[[sim:hang]]")))
        await until(lambda: in_flight(server) == 1)
    await cancelled.wait()
    writer.close()


async def test_logging_and_signals_are_left_alone() -> None:
    loggers = [logging.getLogger(name) for name in ("", "uvicorn", "uvicorn.access")]
    before = [(list(one.handlers), one.level, one.propagate) for one in loggers]
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with running(Profile()) as server:
        await fetch(server.port, user("hi"))
        assert [(list(o.handlers), o.level, o.propagate) for o in loggers] == before
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


async def test_two_simulators_do_not_know_each_other() -> None:
    async with running(Profile()) as one, running(Profile()) as other:
        assert one.port != other.port
        await fetch(one.port, user("hi"))
        assert len(one.simulator.calls()) == 1
        assert other.simulator.calls() == []


async def test_the_transport_is_had_from_either_http_parser(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from uvicorn.protocols.http.h11_impl import H11Protocol

    from asyncsvc.simulator import serving

    mixed = type("H11", (serving.TransportInScope, H11Protocol), {})
    monkeypatch.setattr(serving, "PROTOCOL", mixed)
    async with running(Profile.parse({"default": {"answer_tokens": 5}})) as server:
        assert (await fetch(server.port, user("[[sim:reset-head]]"))).ended == "reset"
        raw = await fetch(server.port, user("[[sim:reset at=2]]", stream=True))
        assert raw.ended == "reset"
        assert len(raw.chunks()) == 3
        assert len((await fetch(server.port, user("hi", stream=True))).chunks()) == 7


async def test_a_taken_port_is_an_oserror() -> None:
    async with running(Profile()) as server:
        with pytest.raises(OSError, match="in use"):
            async with running(Profile(), port=server.port):
                raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_as_a_process_it_ends_at_once_with_status_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    profile = tmp_path / "p.toml"
    profile.write_text("[server]\nany_model = false\n[models.only]\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "asyncsvc.simulator", "--port", "0", "--profile", str(profile)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith("simulator listening on http://127.0.0.1:")
    port = int(line.rpartition(":")[2])
    models = (await fetch(port, path="/v1/models", method="GET")).json()
    assert [model["id"] for model in models["data"]] == ["only"]
    # The process runs on uvloop where there is one: the reset must be real there, too.
    broken = user("[[sim:reset at=2]]", stream=True) | {"model": "only"}
    raw = await fetch(port, broken)
    assert raw.ended == "reset"
    assert len(raw.chunks()) == 3
    assert not raw.terminated
    request = request_bytes(user("[[sim:hang]]") | {"model": "only"})
    _, writer = await opened(port, request)
    process.send_signal(number)
    out, err = await process.communicate()
    writer.close()
    assert (process.returncode, out, err) == (0, b"", b"")


def test_a_wrong_profile_ends_with_2_and_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--profile", str(tmp_path / "none.toml")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "none.toml: No such file" in err
    assert "Traceback" not in err
