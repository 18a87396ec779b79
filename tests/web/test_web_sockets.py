"""One socket by itself, under a server that is not ours and with clients that go."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message
from starlette.websockets import WebSocket
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.protocol import State
from websockets.uri import parse_uri

from asyncsvc.access import SERVICE
from asyncsvc.web.http.sockets import DONE, STOPPING, TOO_SLOW, WRITE, Closed, Socket, Sockets


class Peer:
    """The other side: what it was sent, what it says, and whether it takes anything."""

    def __init__(self, *says: Message, takes: bool = True, fault: Exception | None = None) -> None:
        self.says = [{"type": "websocket.connect"}, *says]
        self.takes = takes
        self.fault = fault
        self.got: list[Message] = []

    async def receive(self) -> Message:
        return self.says.pop(0)

    async def send(self, message: Message) -> None:
        if message["type"] == "websocket.send" and not self.takes:
            await asyncio.Event().wait()
        if message["type"] == "websocket.send" and self.fault is not None:
            raise self.fault
        self.got.append(message)

    async def socket(
        self, stall_s: float = 20.0, extensions: dict[str, Any] | None = None
    ) -> Socket:
        scope = {"type": "websocket", "headers": [], "extensions": extensions or {}}
        websocket = WebSocket(scope, self.receive, self.send)
        await websocket.accept()
        return Socket(websocket, stall_s=stall_s)

    def codes(self) -> list[int]:
        return [message["code"] for message in self.got if message["type"] == "websocket.close"]


async def test_a_client_that_takes_nothing_is_closed_as_too_slow() -> None:
    peer = Peer(takes=False)
    socket = await peer.socket(stall_s=0.01)
    with pytest.raises(Closed):
        await socket.send(["x"])
    assert peer.codes() == [TOO_SLOW]


async def test_only_the_first_code_counts() -> None:
    peer = Peer()
    socket = await peer.socket()
    await socket.close(DONE)
    await socket.close(STOPPING)
    assert peer.codes() == [DONE]


async def test_nothing_is_sent_after_the_close() -> None:
    peer = Peer()
    socket = await peer.socket()
    await socket.close(DONE)
    with pytest.raises(Closed):
        await socket.send(["x"])
    assert len(peer.got) == 2


@pytest.mark.parametrize("fault", [OSError("gone"), RuntimeError("closed before")])
async def test_a_client_that_has_gone_ends_the_sending(fault: Exception) -> None:
    peer = Peer(fault=fault)
    socket = await peer.socket()
    with pytest.raises(Closed):
        await socket.send(["x"])
    await socket.close(DONE)
    assert peer.codes() == []


async def test_our_own_server_closes_by_its_extension() -> None:
    peer, closed = Peer(), list[tuple[int, str]]()
    extension: dict[str, Any] = {
        "asyncsvc.close": lambda code, reason: closed.append((code, reason))
    }
    socket = await peer.socket(extensions=extension)
    await socket.close(STOPPING, "why")
    assert closed == [(STOPPING, "why")]
    assert peer.codes() == []


@pytest.mark.parametrize("size", [0, 125, 126, 4096, 4097, 65_535, 65_536])
async def test_our_own_server_gets_whole_frames_that_a_client_reads_as_the_texts(size: int) -> None:
    frames: list[bytes] = []

    def write(frame: bytes) -> bool:
        frames.append(frame)
        return True

    peer = Peer()
    socket = await peer.socket(extensions={WRITE: write})
    texts = ["ü" + "x" * size, "x" * size]
    await socket.send(texts)
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN)
    client.receive_data(b"".join(frames))
    received = [event.data for event in client.events_received() if isinstance(event, Frame)]
    assert received == [text.encode() for text in texts]
    assert [message["type"] for message in peer.got] == ["websocket.accept"]


async def test_a_frame_without_room_and_all_after_it_wait_in_order() -> None:
    written: list[bytes] = []

    def write(frame: bytes) -> bool:
        if written:
            return False
        written.append(frame)
        return True

    peer = Peer()
    socket = await peer.socket(extensions={WRITE: write})
    await socket.send(["a", "b", "c"])
    assert written == [b"\x81\x01a"]
    assert [message["text"] for message in peer.got[1:]] == ["b", "c"]


async def test_what_a_client_says_is_text_and_its_leaving_is_reported() -> None:
    peer = Peer(
        {"type": "websocket.receive", "text": "a"},
        {"type": "websocket.receive", "bytes": "b你".encode()},
        {"type": "websocket.disconnect", "code": 1001},
    )
    socket = await peer.socket()
    assert [await socket.receive() for _ in range(2)] == ["a", "b你"]
    for _ in range(2):
        with pytest.raises(Closed):
            await socket.receive()


async def test_a_stop_waits_for_the_readers_and_then_closes_all() -> None:
    order: list[str] = []
    peers = [Peer(), Peer()]
    sockets = Sockets()

    async def caught_up() -> None:
        order.append("caught up")
        assert not any(peer.codes() for peer in peers)

    for peer in peers:
        sockets.add(await peer.socket(), caught_up, SERVICE)
    assert len(sockets) == 2
    await sockets.close_all()
    assert order == ["caught up"] * 2
    assert [peer.codes() for peer in peers] == [[STOPPING]] * 2


async def test_a_stop_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncsvc.web.http.sockets.FLUSH_S", 0.01)
    peer, sockets = Peer(), Sockets()

    async def never() -> None:
        await asyncio.Event().wait()

    sockets.add(await peer.socket(), never, SERVICE)
    await sockets.close_all()
    assert peer.codes() == [STOPPING]
