"""Each kind of fault, as it is on the wire."""

import asyncio
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from unittest.mock import AsyncMock

import orjson
import pytest

from asyncsvc.simulator import Profile, Running, Simulator, running
from asyncsvc.simulator.app import application
from asyncsvc.simulator.faults import KINDS

from .rawhttp import Raw, fetch, in_flight, opened, request_bytes, until, user

TOKENS = 12


async def ask(server: Running, tag: str, *, stream: bool = True) -> Raw:
    return await fetch(server.port, user(f"你好 [[sim:{tag}]]", stream=stream))


def last(server: Running) -> dict[str, Any]:
    return server.simulator.calls()[-1]


def plain_text(server: Running) -> str:
    text = last(server)["text"]
    assert isinstance(text, str)
    assert text
    return text


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("tag", "status", "code"),
    [
        ("429", 429, "rate_limit_exceeded"),
        ("429-after=3", 429, "rate_limit_exceeded"),
        ("429-date=30", 429, "rate_limit_exceeded"),
        ("429-garbage", 429, "rate_limit_exceeded"),
        ("500", 500, "server_error"),
        ("503", 503, "overloaded"),
        ("400", 400, None),
        ("401", 401, "invalid_api_key"),
    ],
)
async def test_statuses(server: Running, tag: str, status: int, code: str, stream: bool) -> None:
    raw = await ask(server, tag, stream=stream)
    assert (raw.status, raw.json()["error"]["code"]) == (status, code)
    assert raw.headers["content-type"] == "application/json"
    kind = tag.partition("=")[0]
    assert (last(server)["status"], last(server)["outcome"]) == (status, kind)
    figures = server.simulator.stats()["models"]["m"]
    assert figures["faults"] == {kind: 1}
    assert figures["answered"] == 0
    assert figures["rejected"] == {}
    assert figures["violations"]["rate"] == 0


async def test_retry_after_in_its_forms(server: Running) -> None:
    assert "retry-after" not in (await ask(server, "429")).headers
    assert (await ask(server, "429-after=3")).headers["retry-after"] == "3"
    assert (await ask(server, "429-after=0.5")).headers["retry-after"] == "0.5"
    assert (await ask(server, "429-garbage")).headers["retry-after"] == "soon"
    stated = (await ask(server, "429-date=30")).headers["retry-after"]
    ahead = parsedate_to_datetime(stated) - datetime.fromtimestamp(last(server)["arrived_at"], UTC)
    assert stated.endswith("GMT")
    assert 28 < ahead.total_seconds() < 45


async def test_gone_has_the_form_of_rfc_9457(server: Running) -> None:
    raw = await ask(server, "410")
    assert raw.status == 410
    assert raw.json()["title"] == "Gone"
    assert "error" not in raw.json()


async def test_redirect(server: Running) -> None:
    raw = await ask(server, "redirect")
    assert (raw.status, raw.headers["location"]) == (307, "/moved/v1/chat/completions")
    assert (await fetch(server.port, user("x"), path="/moved/v1/chat/completions")).status == 404


async def test_error_200_and_wrong_type(server: Running) -> None:
    raw = await ask(server, "error-200")
    assert raw.status == 200
    assert raw.headers["content-type"] == "application/json"
    assert "error" in raw.json()
    page = await ask(server, "wrong-type")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.body.startswith(b"<!doctype html>")


@pytest.mark.parametrize("stream", [True, False])
async def test_hang_says_nothing(server: Running, stream: bool) -> None:
    reader, writer = await opened(server.port, request_bytes(user("[[sim:hang]]", stream=stream)))
    await until(lambda: in_flight(server) == 1)
    writer.close()
    await until(lambda: last(server)["outcome"] is not None)
    assert (last(server)["outcome"], last(server)["status"]) == ("hang", None)
    assert last(server)["client_left"]
    assert await reader.read() == b""
    figures = server.simulator.stats()["models"]["m"]
    assert figures["in_flight"] == 0
    assert figures["disconnected"] == 1


async def test_hang_stream_stops_after_its_tokens(server: Running) -> None:
    reader, writer = await opened(
        server.port, request_bytes(user("[[sim:hang-stream at=2]]", stream=True))
    )
    seen = b""
    while seen.count(b'"delta":{"content"') < 2:
        seen += await reader.read(65536)
    assert seen.count(b'"delta":{"content"') == 2
    assert b"[DONE]" not in seen
    assert last(server)["tokens"] == 2
    assert last(server)["outcome"] is None
    writer.close()
    await until(lambda: last(server)["outcome"] == "hang-stream")


async def test_hang_stream_of_a_whole_answer_stops_in_the_body(server: Running) -> None:
    reader, writer = await opened(server.port, request_bytes(user("[[sim:hang-stream]]")))
    await reader.readuntil(b'{"id":')
    writer.close()
    await until(lambda: last(server)["outcome"] == "hang-stream")
    assert last(server)["text"] == ""


@pytest.mark.parametrize("at", [0, 5, 99])
async def test_reset_is_a_real_reset_without_terminator(server: Running, at: int) -> None:
    raw = await ask(server, f"reset at={at}")
    assert raw.ended == "reset"
    assert not raw.terminated
    assert raw.status == 200
    assert len(raw.chunks()) == 1 + min(at, TOKENS)
    assert "[DONE]" not in raw.events()
    assert (last(server)["outcome"], last(server)["tokens"]) == ("reset", min(at, TOKENS))
    assert last(server)["text"] == raw.text()
    assert in_flight(server) == 0


async def test_reset_of_a_whole_answer_breaks_the_body(server: Running) -> None:
    raw = await ask(server, "reset", stream=False)
    assert raw.ended == "reset"
    assert raw.status == 200
    assert not raw.terminated


@pytest.mark.parametrize("stream", [True, False])
async def test_reset_head_sends_nothing(server: Running, stream: bool) -> None:
    raw = await ask(server, "reset-head", stream=stream)
    assert raw.ended == "reset"
    assert raw.reads == []
    assert (last(server)["outcome"], last(server)["status"]) == ("reset-head", None)


async def test_an_abrupt_close_needs_our_server() -> None:
    body = orjson.dumps(user("[[sim:reset-head]]"))
    receive = AsyncMock(return_value={"type": "http.request", "body": body})
    send = AsyncMock()
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
    simulator = Simulator(Profile())
    with pytest.raises(RuntimeError, match="running"):
        await application(simulator)(scope, receive, send)
    send.assert_not_awaited()
    assert simulator.stats()["models"]["m"]["in_flight"] == 0
    assert simulator.calls()[0]["outcome"] == "disconnected"


async def test_malformed_breaks_one_line(server: Running) -> None:
    raw = await ask(server, "malformed at=2")
    broken = [e for e in raw.events() if e != "[DONE]" and not e.endswith("}")]
    assert len(broken) == 1
    assert raw.events().index(broken[0]) == 3
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(broken[0])
    whole = await ask(server, "malformed", stream=False)
    assert whole.status == 200
    assert whole.terminated
    with pytest.raises(orjson.JSONDecodeError):
        whole.json()


async def test_lines_that_are_no_fields_end_the_stream_unnoticed(server: Running) -> None:
    raw = await ask(server, "bad-sse at=2")
    assert raw.status == 200
    assert raw.terminated
    assert raw.ended == "eof"
    assert len(raw.chunks()) == 3
    assert "[DONE]" not in raw.events()
    assert b"\n[DONE]\n" in raw.body
    assert b"no field" in raw.body
    with pytest.raises(orjson.JSONDecodeError):
        (await ask(server, "bad-sse", stream=False)).json()


async def test_error_in_stream(server: Running) -> None:
    raw = await ask(server, "error-in-stream at=4")
    *chunks, error, done = raw.events()
    assert raw.status == 200
    assert raw.terminated
    assert done == "[DONE]"
    assert len(chunks) == 5
    assert "error" in orjson.loads(error)
    assert "error" in (await ask(server, "error-in-stream", stream=False)).json()


async def test_bad_utf8(server: Running) -> None:
    for stream in (True, False):
        raw = await ask(server, "bad-utf8", stream=stream)
        assert raw.status == 200
        assert raw.terminated
        with pytest.raises(UnicodeDecodeError):
            raw.body.decode("utf-8")


@pytest.mark.parametrize("stream", [True, False])
async def test_split_utf8_splits_characters_and_is_right(server: Running, stream: bool) -> None:
    raw = await ask(server, "split-utf8", stream=stream)
    split = [read for read in raw.reads if not _decodes(_unframed(read))]
    assert len(split) > 5
    text = raw.text() if stream else raw.json()["choices"][0]["message"]["content"]
    assert text == plain_text(server)
    assert raw.terminated
    if stream:
        assert raw.events()[-1] == "[DONE]"


def _unframed(read: bytes) -> bytes:
    return read.partition(b"\r\n")[2].rpartition(b"\r\n")[0]


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("stream", [True, False])
async def test_slow_bytes_come_one_by_one(server: Running, stream: bool) -> None:
    tag = "[[sim:slow-bytes every=0.0001]][[sim:tokens=2]]"
    raw = await fetch(server.port, user(tag, stream=stream))
    text = raw.text() if stream else raw.json()["choices"][0]["message"]["content"]
    assert raw.terminated
    assert text == plain_text(server)
    chunks = b"".join(raw.reads).partition(b"\r\n\r\n")[2]
    assert chunks.count(b"\r\n1\r\n") > len(raw.body) * 0.9


async def test_slow_bytes_are_a_second_apart_and_end_with_the_client(server: Running) -> None:
    request = request_bytes(user("[[sim:slow-bytes]]", stream=True))
    reader, writer = await opened(server.port, request)
    await reader.readuntil(b"\r\n\r\n")
    loop = asyncio.get_running_loop()
    assert await reader.readexactly(6) == b"1\r\nd\r\n"
    start = loop.time()
    assert await reader.readexactly(6) == b"1\r\na\r\n"
    assert loop.time() - start > 0.9
    writer.close()
    await until(lambda: last(server)["outcome"] == "slow-bytes")


async def test_no_done_is_whole_otherwise(server: Running) -> None:
    raw = await ask(server, "no-done")
    assert raw.terminated
    assert "[DONE]" not in raw.events()
    assert raw.chunks()[-1]["choices"][0]["finish_reason"] == "stop"
    assert raw.text() == plain_text(server)
    whole = await ask(server, "no-done", stream=False)
    assert whole.json()["choices"][0]["finish_reason"] == "stop"


async def test_cut_ends_cleanly_without_a_finish(server: Running) -> None:
    raw = await ask(server, "cut at=4")
    assert raw.terminated
    assert raw.ended == "eof"
    assert len(raw.chunks()) == 5
    assert "[DONE]" not in raw.events()
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in raw.chunks())


async def test_empty(server: Running) -> None:
    raw = await ask(server, "empty")
    assert raw.text() == ""
    assert raw.events()[-1] == "[DONE]"
    assert raw.chunks()[-1]["choices"][0]["finish_reason"] == "stop"
    whole = await ask(server, "empty", stream=False)
    assert whole.json()["choices"][0]["message"]["content"] == ""


@pytest.mark.parametrize("stream", [True, False])
async def test_huge_line(server: Running, stream: bool) -> None:
    raw = await ask(server, "huge-line size=300001 at=1", stream=stream)
    assert raw.terminated
    assert raw.body.count(b"x" * 300001) == 1
    if stream:
        assert raw.text().replace("x" * 300001, "") == plain_text(server)
    else:
        assert raw.json()["choices"][0]["message"]["content"] == plain_text(server)


async def test_a_huge_line_is_abandoned_when_the_client_leaves(server: Running) -> None:
    reader, writer = await opened(
        server.port, request_bytes(user("[[sim:huge-line size=1000000000]]", stream=True))
    )
    await reader.readuntil(b"xxxx")
    writer.close()
    await until(lambda: last(server)["outcome"] == "huge-line")
    assert last(server)["client_left"]
    assert last(server)["tokens"] == 3


async def test_keepalive_is_right_with_comments(server: Running) -> None:
    raw = await ask(server, "keepalive")
    assert raw.body.count(b": keep-alive\n\n\n") == TOKENS
    assert raw.text() == plain_text(server)
    assert raw.events()[-1] == "[DONE]"
    whole = await ask(server, "keepalive", stream=False)
    assert whole.body.startswith(b"\n\n\n{")
    assert whole.json()["choices"][0]["message"]["content"] == plain_text(server)


async def test_no_choices(server: Running) -> None:
    raw = await ask(server, "no-choices")
    assert sum(1 for chunk in raw.chunks() if chunk["choices"] == []) == TOKENS
    assert raw.text() == plain_text(server)
    assert (await ask(server, "no-choices", stream=False)).json()["choices"] == []


async def test_think_tags_straddle_chunks(server: Running) -> None:
    raw = await ask(server, "think")
    pieces = [c["choices"][0]["delta"].get("content", "") for c in raw.chunks()]
    text = raw.text()
    assert text.startswith("<think>")
    assert text.count("</think>") == 1
    assert not any("<think>" in piece or "</think>" in piece for piece in pieces)
    assert "模拟器" in text.partition("</think>")[2]
    assert text == plain_text(server)


async def test_a_script_of_tags_over_calls(server: Running) -> None:
    content = "once [[sim:500 x1]] [[sim:429-after=1 x1]]"
    statuses = [(await fetch(server.port, user(content))).status for _ in range(4)]
    assert statuses == [500, 429, 200, 200]
    assert "[[" not in plain_text(server)


async def test_shares_of_the_profile_give_faults() -> None:
    settings = {"answer_tokens": 4, "faults": {"429": 0.3, "cut at=1": 0.3}}
    profile = Profile.parse({"server": {"seed": 3}, "models": {"m": settings}})

    async def outcomes() -> list[str]:
        async with running(profile) as server:
            for _ in range(40):
                await fetch(server.port, user("hi", stream=True))
            figures = server.simulator.stats()["models"]["m"]
            made = [call["outcome"] for call in server.simulator.calls()]
            assert figures["answered"] == made.count("completed")
            assert figures["faults"] == {"429": made.count("429"), "cut": made.count("cut")}
            return made

    first = await outcomes()
    assert set(first) == {"completed", "429", "cut"}
    assert first == await outcomes()


def test_every_kind_has_a_test_here() -> None:
    import inspect
    import sys

    source = inspect.getsource(sys.modules[__name__])
    assert [kind for kind in KINDS if f'"{kind}' not in source and f":{kind}" not in source] == []
