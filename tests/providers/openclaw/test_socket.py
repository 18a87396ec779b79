"""The gateway's WebSocket by what a real one has sent: recorded exchanges over a real socket."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve

from asyncsvc.errors import (
    EmptyAnswer,
    FirstTokenTimeout,
    GatewayAway,
    GatewayUnavailable,
    IdleTimeout,
    ProviderError,
    UpstreamAuth,
    UpstreamDisconnected,
    UpstreamInvalid,
    UpstreamTooLarge,
)
from asyncsvc.providers.agents import RunState
from asyncsvc.providers.client import Client
from asyncsvc.providers.dialects import PRESETS
from asyncsvc.providers.openclaw import chat
from asyncsvc.providers.openclaw.chat import _Run, prompt
from asyncsvc.providers.openclaw.socket import Listener, _message, fault_in
from asyncsvc.providers.upstream import Upstream
from tests.upstreams import ASK, Sheet, client, upstream

RECORDED = Path(__file__).parents[2] / "openclaw" / "recorded"
Frames = list[dict[str, Any]]
KEY = "asyncsvc:recorded-{}:1"


def recorded(name: str) -> Frames:
    found: Frames = orjson.loads((RECORDED / f"{name}.json").read_bytes())
    return found


class Played:
    """A gateway that says what was recorded; an `asked` waits for that request first."""

    def __init__(self) -> None:
        self.frames: Frames = []
        self.requests: list[dict[str, Any]] = []
        self.connections = 0
        self.came = asyncio.Event()
        self.then: Callable[[ServerConnection], Any] | None = None
        """What follows the last frame; else it stays open."""

    async def __call__(self, socket: ServerConnection) -> None:
        self.connections += 1
        numbers: dict[str, str] = {}
        for frame in self.frames:
            if "asked" in frame:
                request = await self._request(socket)
                assert request["method"] == frame["asked"]
                numbers[str(len(numbers))] = request["id"]
                continue
            if frame.get("type") == "res":
                frame = frame | {"id": numbers[frame["id"]]}
            await socket.send(orjson.dumps(frame).decode())
        if self.then is not None:
            await self.then(socket)
        async for text in socket:
            self._heard(text)

    async def _request(self, socket: ServerConnection) -> dict[str, Any]:
        return self._heard(await socket.recv())

    def _heard(self, text: str | bytes) -> dict[str, Any]:
        request: dict[str, Any] = orjson.loads(text)
        self.requests.append(request)
        self.came.set()
        return request

    @property
    def methods(self) -> list[str]:
        return [request["method"] for request in self.requests]


@asynccontextmanager
async def playing(
    frames: Frames, **timeouts: Any
) -> AsyncGenerator[tuple[Played, Client, Upstream]]:
    played = Played()
    played.frames = frames
    async with serve(played, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        preset = replace(PRESETS["openclaw"], silence_s=0.0)
        account = upstream(
            f"http://127.0.0.1:{port}/v1",
            preset=preset,
            key="the-token",
            model="openclaw/main",
            protocol="openclaw-ws",
        )
        async with asyncio.timeout(20), client(**timeouts) as made:
            yield played, made, account


async def ask(made: Client, account: Upstream, sheet: Sheet, name: int = 0) -> Any:
    return await made.chat(account, ASK, {}, sheet, KEY.format(name))


def until_text(frames: Frames) -> Frames:
    """Up to the first text."""
    at = next(i for i, f in enumerate(frames) if f.get("payload", {}).get("state") == "delta")
    return frames[: at + 1]


def text_of(frames: Frames) -> str:
    final = next(f for f in frames if f.get("payload", {}).get("state") == "final")
    return "".join(part["text"] for part in final["payload"]["message"]["content"])


async def test_a_recorded_run_is_received_as_it_was_written() -> None:
    frames, sheet = recorded("chat"), Sheet()
    async with playing(frames) as (played, made, account):
        answer = await ask(made, account, sheet)
        assert answer.done
        assert sheet.accepted
        assert len(sheet.deltas) > 1
        assert sheet.text == text_of(frames)
        assert sheet.text.startswith("#")
        connecting, sending = played.requests
        assert connecting["params"]["auth"] == {"token": "the-token"}
        assert sending["params"]["message"] == "hello"
        assert sending["params"]["sessionKey"] == "agent:main:asyncsvc:recorded-0:1"
        assert sending["params"]["suppressCommandInterpretation"] is True


async def test_leaving_aborts_the_run_unless_it_will_be_asked_for() -> None:
    class Returning(Sheet):
        @property
        def returns(self) -> bool:
            return True

    for sheet, methods in ((Sheet(), ["chat.abort"]), (Returning(), [])):
        async with playing(until_text(recorded("abort"))) as (played, made, account):
            call = asyncio.create_task(ask(made, account, sheet, 1))
            await sheet.wrote.wait()
            played.came.clear()
            call.cancel()
            if methods:
                await played.came.wait()
                assert played.requests[-1]["params"]["runId"] == KEY.format(1)
                # The abort waits for its answer: closing the socket is one.
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert played.methods[2:] == methods


async def test_a_recorded_abort_is_no_answer() -> None:
    frames = [f for f in recorded("abort") if f.get("asked") != "chat.abort" and f.get("id") != "2"]
    async with playing(frames) as (_, made, account):
        with pytest.raises(UpstreamDisconnected, match="aborted"):
            await ask(made, account, Sheet(), 1)


async def test_a_recorded_refusal_of_the_token_stops_the_model() -> None:
    async with playing(recorded("wrong_token")) as (_, made, account):
        with pytest.raises(UpstreamAuth) as refused:
            await ask(made, account, Sheet())
        assert "the-token" not in str(refused.value)


@pytest.mark.parametrize("code", [1006, 1012, 1008])
async def test_a_socket_that_breaks_is_a_cut_and_never_sent_twice(code: int) -> None:
    async with playing(until_text(recorded("chat"))) as (played, made, account):

        async def end(socket: ServerConnection) -> None:
            if code == 1006:
                socket.transport.abort()
            else:
                await socket.close(code)

        played.then = end
        with pytest.raises(UpstreamDisconnected, match=str(code)):
            await ask(made, account, Sheet())
        assert played.methods == ["connect", "chat.send"]
        # The next use connects again.
        played.then, played.frames = None, recorded("chat")
        sheet = Sheet()
        await ask(made, account, sheet)
        assert played.connections == 2
        assert sheet.text


async def test_a_gateway_that_starts_is_waited_for() -> None:
    async with playing([]) as (played, made, account):
        played.then = lambda socket: socket.close(1013, "gateway starting")
        with pytest.raises(GatewayUnavailable) as away:
            await ask(made, account, Sheet())
        assert away.value.slow_down
        assert away.value.retry_after


async def test_no_client_there_is_waited_for() -> None:
    async with playing([]) as (_, made, account):
        nowhere = replace(account, base_url="http://127.0.0.1:9/v1")
        with pytest.raises(GatewayAway):
            await ask(made, nowhere, Sheet())
        assert (await made.run_status(nowhere, "k")).state is RunState.AWAY
        assert "could not be asked" in await made.abort(nowhere, "k")
        await made.look([nowhere, upstream()])
        assert nowhere.ready is False


async def test_no_challenge_is_no_gateway() -> None:
    async with playing([{"type": "event", "event": "hello"}]) as (_, made, account):
        with pytest.raises(UpstreamInvalid):
            await ask(made, account, Sheet())


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"state": "error", "errorMessage": "too many", "errorKind": "rate_limit"}, "rate_limited"),
        ({"state": "error", "errorMessage": "broke"}, "overloaded"),
        ({"state": "final", "message": {"content": "other"}}, "upstream_disconnected"),
    ],
)
async def test_how_a_run_may_end_without_an_answer(event: dict[str, Any], kind: str) -> None:
    frames = until_text(recorded("chat"))
    last = frames[-1]["payload"]
    kept = {name: last[name] for name in ("runId", "sessionKey")}
    odd: Frames = [
        {
            "type": "event",
            "event": "chat",
            "payload": kept | {"runId": "another", "state": "final"},
        },
        {"type": "event", "event": "chat", "payload": {"sessionKey": "unknown"}},
        {"type": "event", "event": "chat", "payload": kept | {"state": "delta", "message": "odd"}},
    ]
    frames += [*odd, {"type": "event", "event": "chat", "payload": kept | event}]
    async with playing(frames) as (_, made, account):
        with pytest.raises(ProviderError) as ended:
            await ask(made, account, Sheet())
        assert ended.value.code == kind


async def test_tools_of_the_agent_are_reported() -> None:
    frames = recorded("chat")
    at = next(i for i, f in enumerate(frames) if f.get("payload", {}).get("state") == "delta")
    kept = {name: frames[at]["payload"][name] for name in ("runId", "sessionKey")}

    def tool(**data: Any) -> dict[str, Any]:
        payload = kept | {"stream": "tool", "data": {"name": "read", "toolCallId": "c1"} | data}
        return {"type": "event", "event": "agent", "payload": payload}

    long = "x" * 3000
    frames[at:at] = [tool(phase="start", args={"path": "a"}), tool(phase="result", result=long)]
    async with playing(frames) as (_, made, account):
        sheet = Sheet()
        await ask(made, account, sheet)
        events = [delta.event for delta in sheet.deltas if delta.event is not None]
        assert [kind for kind, _ in events] == ["tool_call", "tool_result"]
        assert events[0][1]["function"] == {"name": "read", "arguments": '{"path":"a"}'}
        assert len(events[1][1]["result"]) == 2000
        assert sheet.text == text_of(frames)


async def test_silence_ends_a_run_and_aborts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "LEAVING_S", 0.3)  # this gateway does not answer an abort
    started = [f for f in recorded("chat") if "asked" in f or f.get("type") == "res"]
    quiet = [recorded("chat")[0], *started]
    aborted: list[dict[str, Any]] = [
        {"asked": "chat.abort"},
        {"type": "res", "id": "2", "ok": True, "payload": {}},
    ]
    for frames, kind in ((quiet, FirstTokenTimeout), (until_text(recorded("chat")), IdleTimeout)):
        async with playing([*frames, *aborted], first_token_s=0.3, idle_s=0.2) as (
            played,
            made,
            account,
        ):
            with pytest.raises(kind):
                await ask(made, account, Sheet())
            assert played.methods[-1] == "chat.abort"


async def test_no_response_is_empty() -> None:
    frames = until_text(recorded("chat"))
    last = frames.pop()["payload"]
    message = {"content": "No response from OpenClaw."}
    payload = {name: last[name] for name in ("runId", "sessionKey")}
    frames.append(
        {
            "type": "event",
            "event": "chat",
            "payload": payload | {"state": "final", "message": message},
        }
    )
    async with playing(frames) as (_, made, account):
        with pytest.raises(EmptyAnswer):
            await ask(made, account, Sheet())


def test_a_conversation_becomes_one_text() -> None:
    before = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one"}]
    asked = [*before, {"role": "assistant", "content": "1"}, {"role": "user", "content": "two"}]
    text = prompt(asked)
    assert text.endswith("[Now]\n\ntwo")
    assert text.index("System: Be brief.") < text.index("User: one") < text.index("Assistant: 1")
    assert prompt([]) == ""


def test_what_an_error_means() -> None:
    assert fault_in({"code": "UNAVAILABLE", "retryAfterMs": 500}, []).retry_after == pytest.approx(
        0.5
    )
    assert fault_in({"code": "INVALID_REQUEST"}, []).code == "upstream_rejected"
    assert "[key]" in str(fault_in("bad secret-token", ["secret-token"]))
    assert isinstance(fault_in({"details": {"code": "PAIRING_REQUIRED"}}, []), UpstreamAuth)


# Bounds ---------------------------------------------------------------------------------------


def of_chat(state: str, size: int) -> dict[str, Any]:
    return {"event": "chat", "state": state, "message": {"content": "x" * size}}


async def test_text_that_finds_no_room_is_left_out_and_the_last_of_it_is_kept() -> None:
    listener = Listener(1000)
    for _ in range(5):
        listener.put(of_chat("delta", 400), 400)
    taken = [await listener.get(), await listener.get()]
    listener.put(of_chat("final", 500), 500)
    last = await listener.get()
    assert [event["state"] for event in [*taken, last] if isinstance(event, dict)] == [
        "delta", "delta", "final",
    ]  # fmt: skip


async def test_another_event_that_finds_no_room_ends_the_run() -> None:
    listener = Listener(1000)
    listener.put(of_chat("delta", 900), 900)
    listener.put({"event": "agent"}, 200)
    await listener.get()
    assert isinstance(await listener.get(), UpstreamTooLarge)


async def test_many_pieces_of_a_run_end_at_the_bound() -> None:
    run = _Run(Sheet(), upstream(preset=PRESETS["openclaw"]), 1000)
    run.take(of_chat("delta", 900))
    with pytest.raises(UpstreamTooLarge, match=r"limits\.answer_mb"):
        run.take(of_chat("delta", 1100))


@pytest.mark.parametrize("frame", [b"{", b"[" * 300_000, b'{"x":' + b"7" * 2_000_000 + b"}"])
def test_a_frame_that_is_not_read_is_an_error_of_the_gateway(frame: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        _message(frame)
