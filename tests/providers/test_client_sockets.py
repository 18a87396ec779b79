"""The client against a provider on real sockets: every fault that the simulator knows."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import httpx
import pytest

from asyncsvc.errors import (
    ConnectTimeout,
    EmptyAnswer,
    FirstTokenTimeout,
    IdleTimeout,
    ModelGone,
    ProviderError,
    RateLimited,
    UpstreamAuth,
    UpstreamDisconnected,
    UpstreamInvalid,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamTooLarge,
)
from asyncsvc.providers.answers.answer import Answer
from asyncsvc.simulator import Profile, Running, running
from asyncsvc.simulator.faults import KINDS
from tests.upstreams import DONE, GOOD, KEY, Sheet, client, piece, unheard, upstream

GUARD_S = 30


@pytest.fixture
async def sim() -> AsyncIterator[Running]:
    """Any model, no limits, twelve tokens as fast as possible; only our key opens it."""
    raw = {"server": {"api_key": KEY}, "default": {"answer_tokens": 12}}
    async with running(Profile.parse(raw)) as server, asyncio.timeout(GUARD_S):
        yield server


def ask(tags: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"讲一讲速率限制 {tags}"}]


async def chat(sim: Running, tags: str, sheet: Sheet, **timeouts: Any) -> Answer:
    async with client(**timeouts) as made:
        return await made.chat(upstream(sim.base_url), ask(tags), {}, sheet)


async def ended(sim: Running) -> dict[str, Any]:
    """The record of the only call, once the provider is through with it."""
    while True:
        (call,) = await shown(sim)
        if call["outcome"] is not None:
            return call


async def arrived(sim: Running) -> None:
    while not await shown(sim):
        pass


async def shown(sim: Running) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:
        calls: list[dict[str, Any]] = (await http.get(f"{sim.url}/_sim/calls")).json()["calls"]
    return calls


RIGHT = ["split-utf8", "no-done", "keepalive", "no-choices"]
REFUSED: dict[str, type[ProviderError]] = {
    **dict.fromkeys(["429", "429-after=7", "429-date=7", "429-garbage"], RateLimited),
    **dict.fromkeys(["500", "503", "error-200"], UpstreamOverloaded),
    "400": UpstreamRejected,
    "401": UpstreamAuth,
    "410": ModelGone,
    "reset-head": UpstreamDisconnected,
    "wrong-type": UpstreamInvalid,
    "redirect": UpstreamInvalid,
    "empty": EmptyAnswer,
    "hang": FirstTokenTimeout,
    "slow-bytes every=0.2": FirstTokenTimeout,
}
BROKEN: dict[str, type[ProviderError]] = {
    "hang-stream": IdleTimeout,
    "reset": UpstreamDisconnected,
    "malformed": UpstreamInvalid,
    "error-in-stream": UpstreamOverloaded,
    "bad-utf8": UpstreamInvalid,
    "cut": UpstreamDisconnected,
    "bad-sse": UpstreamDisconnected,
    "huge-line": UpstreamTooLarge,
}
EARLY = {"hang", "slow-bytes every=0.2"}


def test_no_fault_is_left_out() -> None:
    tried = {fault.split()[0].split("=")[0] for fault in ["think", *RIGHT, *REFUSED, *BROKEN]}
    assert tried == set(KINDS)


@pytest.mark.parametrize("fault", [None, *RIGHT])
async def test_a_right_answer_comes_whole(sim: Running, fault: str | None) -> None:
    sheet = Sheet()
    answer = await chat(sim, f"[[sim:{fault}]]" if fault else "", sheet)
    call = await ended(sim)
    assert (sheet.text, sheet.heads) == (call["text"], 1)
    assert len(sheet.text) > 12
    assert answer.usage is not None
    assert answer.usage["completion_tokens"] == call["tokens"]
    assert not call["client_left"]


async def test_thinking_comes_apart_from_the_answer(sim: Running) -> None:
    sheet = Sheet()
    await chat(sim, "[[sim:reasoning=9]]", sheet)
    assert sheet.thoughts
    assert sheet.text == (await ended(sim))["text"]


async def test_thinking_between_tags_comes_apart_as_well(sim: Running) -> None:
    sheet = Sheet()
    await chat(sim, "[[sim:think]]", sheet)
    assert sheet.thoughts
    assert "think>" not in sheet.text + sheet.thoughts
    text = (await ended(sim))["text"]
    assert text == f"<think>{sheet.thoughts}</think>" + text.rpartition("</think>")[2]
    assert text.endswith(sheet.text)


@pytest.mark.parametrize("fault", REFUSED)
async def test_a_fault_instead_of_an_answer_is_the_right_error(sim: Running, fault: str) -> None:
    sheet = Sheet()
    with pytest.raises(ProviderError) as found:
        await chat(sim, f"[[sim:{fault}]]", sheet, first_token_s=1 if fault in EARLY else GUARD_S)
    assert type(found.value) is REFUSED[fault]
    assert sheet.deltas == []
    assert len(await shown(sim)) == 1


async def test_the_time_to_wait_is_understood_in_any_form(sim: Running) -> None:
    waits = []
    for fault in ("429", "429-after=7", "429-garbage"):
        with pytest.raises(RateLimited) as found:
            await chat(sim, f"[[sim:{fault}]]", Sheet())
        waits.append(found.value.retry_after)
    assert waits == [None, 7, None]


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_break_in_the_stream_is_the_right_error_and_doubles_nothing(
    sim: Running, fault: str
) -> None:
    sheet = Sheet()
    with pytest.raises(ProviderError) as found:
        await chat(sim, f"[[sim:{fault} at=4]]", sheet, idle_s=2, first_token_s=GUARD_S)
    assert type(found.value) is BROKEN[fault]
    sent = (await ended(sim))["text"]
    assert sent.startswith(sheet.text)
    if fault not in ("reset", "bad-utf8"):  # which may take what arrived just before with them
        assert sheet.text == sent[: len(sheet.text)] != ""
    assert len(sheet.deltas) <= 4


@pytest.mark.parametrize("fault", ["", "[[sim:hang]]", "[[sim:hang-stream at=2]]"])
async def test_a_cancelled_call_leaves_the_provider_at_once(sim: Running, fault: str) -> None:
    sheet = Sheet()
    tags = fault or "[[sim:tokens=1000 rate=5]]"
    running_call = asyncio.create_task(chat(sim, tags, sheet))
    if "hang]" in fault:
        await arrived(sim)
    else:
        await sheet.wrote.wait()
    running_call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running_call
    call = await ended(sim)
    assert call["client_left"]
    assert call["tokens"] < 1000


async def test_a_wrong_key_is_reported_without_the_key(sim: Running) -> None:
    wrong = upstream(sim.base_url, key="sk-wrong-0123456789abcdef")
    async with client() as made:
        with pytest.raises(UpstreamAuth) as found:
            await made.chat(wrong, ask(""), {}, Sheet())
    assert "sk-wrong" not in str(found.value)


async def test_embeddings_over_sockets(sim: Running) -> None:
    heads: list[int] = []
    async with client() as made:
        found = await made.embed(
            upstream(sim.base_url), ["a", "你好", "a"], {}, lambda _: heads.append(1)
        )
    assert found.vectors[0] == found.vectors[2] != found.vectors[1]
    assert [len(vector) for vector in found.vectors] == [64] * 3
    assert heads == [1]


SPOILT: dict[str, type[ProviderError]] = {
    "429-after=7": RateLimited,
    "500": UpstreamOverloaded,
    "error-200": UpstreamOverloaded,
    "hang": FirstTokenTimeout,
    "hang-stream": FirstTokenTimeout,
    "reset": UpstreamDisconnected,
    "reset-head": UpstreamDisconnected,
    "malformed": UpstreamInvalid,
    "bad-utf8": UpstreamInvalid,
    "huge-line": UpstreamTooLarge,
    "wrong-type": UpstreamInvalid,
}


@pytest.mark.parametrize("fault", SPOILT)
async def test_spoilt_embeddings_are_the_right_error(sim: Running, fault: str) -> None:
    first_token_s = 1 if "hang" in fault else GUARD_S
    async with client(first_token_s=first_token_s) as made:
        with pytest.raises(ProviderError) as found:
            await made.embed(upstream(sim.base_url), f"x [[sim:{fault}]]", {}, unheard)
    assert type(found.value) is SPOILT[fault]


# Connections ----------------------------------------------------------------------------------


class Tiny:
    """Answers every request on a connection with the same bytes, and counts connections."""

    def __init__(self, *parts: bytes, rest: bytes = b"0\r\n\r\n") -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        self.answer = head + b"transfer-encoding: chunked\r\n\r\n" + body + rest
        self.connections = 0
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            )
            await reader.readexactly(length)
            self.requests += 1
            writer.write(self.answer)
            await writer.drain()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncGenerator[str]:
    """A server; the clients must be gone before the block ends."""
    served: set[asyncio.Task[Any]] = set()

    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            served.add(task)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await serve(reader, writer)
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve_and_close, "127.0.0.1", 0, backlog=500)
    async with server, asyncio.timeout(GUARD_S):
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*served)


async def asked_thrice(tiny: Tiny) -> list[str]:
    async with serving(tiny.serve) as url, client() as made:
        sheets = [Sheet() for _ in range(3)]
        for sheet in sheets:
            await made.chat(upstream(url), ask(""), {}, sheet)
    assert tiny.requests == 3
    return [sheet.text for sheet in sheets]


async def test_a_connection_is_used_again_after_done() -> None:
    tiny = Tiny(GOOD)
    assert await asked_thrice(tiny) == ["Hello"] * 3
    assert tiny.connections == 1


async def test_a_body_kept_open_after_done_costs_the_connection_only() -> None:
    tiny = Tiny(GOOD, rest=b"")
    assert await asked_thrice(tiny) == ["Hello"] * 3
    assert tiny.connections == 3


async def test_many_calls_at_once_each_have_a_connection() -> None:
    tiny = Tiny(piece("x") * 50, piece(finish="stop") + DONE)
    async with serving(tiny.serve) as url, client() as made:
        sheets = [Sheet() for _ in range(200)]
        await asyncio.gather(*(made.chat(upstream(url), ask(""), {}, sheet) for sheet in sheets))
    assert {sheet.text for sheet in sheets} == {"x" * 50}
    assert tiny.requests == 200


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
    return port


async def failed(url: str, **timeouts: Any) -> ProviderError:
    async with client(**timeouts) as made, asyncio.timeout(GUARD_S):
        with pytest.raises(ProviderError) as found:
            await made.chat(upstream(url), ask(""), {}, Sheet())
    return found.value


async def test_no_client_listens() -> None:
    error = await failed(f"http://127.0.0.1:{free_port()}")
    assert type(error) is UpstreamDisconnected
    assert "cannot connect" in str(error)


async def test_a_name_that_no_client_has(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    error = await failed("http://provider.invalid")
    assert type(error) is UpstreamDisconnected
    assert "cannot connect" in str(error)


@contextmanager
def full_backlog() -> Generator[int]:
    """A port whose queue of connections is full: the next attempt hangs."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(listening.getsockname())
            yield listening.getsockname()[1]
        finally:
            for each in waiting:
                each.close()


async def test_a_connect_that_hangs() -> None:
    with full_backlog() as port:
        error = await failed(f"http://127.0.0.1:{port}", connect_s=0.5, first_token_s=GUARD_S)
    assert type(error) is ConnectTimeout
    assert str(error).endswith(": no connection within 0.5 s")


@pytest.mark.parametrize("text", [b"", b"not http at all\r\n\r\n", b"HTTP/1.1 200"])
async def test_a_server_that_speaks_something_else(text: bytes) -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(text)

    async with serving(rude) as url:
        error = await failed(url)
    assert type(error) is UpstreamDisconnected


async def interim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Interim answers without end."""
    await reader.read(1)
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 1000)
        await writer.drain()


async def test_interim_answers_without_end_end_the_call() -> None:
    async with serving(interim) as url:
        error = await failed(url, first_token_s=GUARD_S)
    assert type(error) is UpstreamDisconnected
    assert "more than 256 interim answers" in str(error)


async def test_interim_answers_before_an_answer_are_left_out() -> None:
    tiny = Tiny(GOOD)
    tiny.answer = b"HTTP/1.1 102 Processing\r\n\r\n" * 200 + tiny.answer
    assert await asked_thrice(tiny) == ["Hello"] * 3
    assert tiny.connections == 1
