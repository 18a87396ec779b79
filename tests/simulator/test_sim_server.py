"""Keys, models, limits and the paths under /_sim/ over a real socket."""

import asyncio
from unittest.mock import AsyncMock

import orjson
import pytest

from asyncsvc.simulator import Profile, Running, Simulator, exchange, running
from asyncsvc.simulator import simulator as simulator_module
from asyncsvc.simulator.app import application

from .rawhttp import fetch, in_flight, opened, request_bytes, until, user


async def test_the_key_is_wanted_where_there_is_one() -> None:
    profile = Profile.parse({"server": {"api_key": "sk-1"}})
    async with running(profile) as server:
        for headers in (("connection: close",), ("connection: close", "authorization: Bearer sk")):
            raw = await fetch(server.port, user("hi"), headers=headers)
            assert raw.status == 401
            assert raw.json()["error"]["code"] == "invalid_api_key"
        models = await fetch(server.port, path="/v1/models", method="GET")
        assert models.status == 401
        right = ("connection: close", "Authorization: Bearer sk-1")
        assert (await fetch(server.port, user("hi"), headers=right)).status == 200
        shown = await fetch(server.port, path="/_sim/profile", method="GET")
        assert b"sk-1" not in shown.body
        assert server.simulator.stats()["refused"] == {"auth": 2}
        assert [c["outcome"] for c in server.simulator.calls()] == [
            "rejected",
            "rejected",
            "completed",
        ]


async def test_unknown_models() -> None:
    profile = Profile.parse({"server": {"any_model": False}, "models": {"a": {}}})
    async with running(profile) as server:
        raw = await fetch(server.port, user("hi"))
        assert (raw.status, raw.json()["error"]["code"]) == (404, "model_not_found")
        assert (await fetch(server.port, user("hi") | {"model": "a"})).status == 200
        models = (await fetch(server.port, path="/v1/models", method="GET")).json()
        assert [m["id"] for m in models["data"]] == ["a"]


async def test_a_model_does_only_what_it_is_for() -> None:
    async with running(Profile.builtin()) as server:
        raw = await fetch(server.port, user("hi") | {"model": "bge-m3"})
        assert raw.status == 400
        assert raw.json()["error"]["param"] == "model"
        payload = {"model": "glm-4-flash", "input": "x"}
        assert (await fetch(server.port, payload, path="/v1/embeddings")).status == 400


async def test_the_number_of_models_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator_module, "MOST_MODELS", 2)
    async with running(Profile()) as server:
        names = ("a", "b", "c", "a")
        got = [(await fetch(server.port, user("hi") | {"model": n})).status for n in names]
        assert got == [200, 200, 404, 200]


async def test_concurrency_is_enforced_and_counted(server: Running) -> None:
    server.simulator.configure({"models": {"m": {"concurrency": 2}}})
    held = [await opened(server.port, request_bytes(user("[[sim:hang]]"))) for _ in range(2)]
    await until(lambda: in_flight(server) == 2)
    raw = await fetch(server.port, user("one more"))
    assert (raw.status, raw.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert "concurrency limit reached: 2 calls" in raw.json()["error"]["message"]
    held[0][1].close()
    await until(lambda: in_flight(server) == 1)
    assert (await fetch(server.port, user("now"))).status == 200
    held[1][1].close()
    figures = server.simulator.stats()["models"]["m"]
    assert figures["violations"] == {"concurrency": 1, "rate": 0}
    assert figures["rejected"] == {"concurrency": 1}
    assert (figures["calls"], figures["peak_concurrency"]) == (4, 2)


async def test_one_after_the_other_never_breaks_a_concurrency_of_one(server: Running) -> None:
    """A client that has read the end of an answer finds its place free."""
    server.simulator.configure({"models": {"m": {"concurrency": 1}}})
    reader, writer = await opened(server.port, b"")
    for number in range(200):
        stream = number % 2 == 0
        writer.write(request_bytes(user("hi", stream=stream), headers=()))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        if stream:
            await reader.readuntil(b"[DONE]")
            await reader.readuntil(b"0\r\n\r\n")
        else:
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
    writer.close()


async def test_a_successor_is_not_turned_away_for_a_client_that_left(server: Running) -> None:
    server.simulator.configure({"models": {"m": {"concurrency": 1}}})
    other, warm = await opened(server.port, request_bytes(user("warm"), headers=()))
    end = b'"system_fingerprint":"simulator"}'
    await other.readuntil(end)
    for _ in range(50):
        _, gone = await opened(server.port, request_bytes(user("[[sim:first=1000]]", stream=True)))
        await until(lambda: in_flight(server) == 1)
        gone.transport.abort()
        await asyncio.sleep(0)  # the abort closes the socket in the next turn of the loop
        warm.write(request_bytes(user("next"), headers=()))
        assert (await other.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        await other.readuntil(end)
    warm.close()
    assert server.simulator.stats()["models"]["m"]["violations"]["concurrency"] == 0


async def test_the_rate_is_enforced_over_a_sliding_window(server: Running) -> None:
    server.simulator.configure({"models": {"m": {"rpm": 3, "window_s": 1000}}})
    statuses = [(await fetch(server.port, user("hi"))).status for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    figures = server.simulator.stats()["models"]["m"]
    assert figures["violations"] == {"concurrency": 0, "rate": 2}
    assert figures["max_in_window"] == 3
    assert len(figures["arrivals"]) == 3
    raw = await fetch(server.port, user("hi"))
    assert "rate limit reached: 3 calls in 1000 seconds" in raw.json()["error"]["message"]
    server.simulator.configure({"models": {"m": {"rpm": 0}}})
    assert (await fetch(server.port, user("hi"))).status == 200


async def test_network_jitter_delays_the_arrival(server: Running) -> None:
    server.simulator.configure({"default": {"network_jitter_s": 0.03}})
    await asyncio.gather(*(fetch(server.port, user("hi")) for _ in range(10)))
    arrivals = server.simulator.stats()["models"]["m"]["arrivals"]
    assert arrivals == sorted(arrivals)
    assert len(arrivals) == 10


async def test_a_client_that_leaves_on_the_way_never_arrived(server: Running) -> None:
    server.simulator.configure({"models": {"m": {"network_jitter_s": 1e6}}})
    writers = [(await opened(server.port, request_bytes(user("hi"))))[1] for _ in range(3)]
    await fetch(server.port, user("hi") | {"model": "other"})
    for writer in writers:
        writer.close()
    await fetch(server.port, user("hi") | {"model": "other"})
    assert server.simulator.stats()["models"]["m"]["calls"] == 0
    assert [call["model"] for call in server.simulator.calls()] == ["other", "other"]


async def test_calls_are_paged(server: Running) -> None:
    for _ in range(5):
        await fetch(server.port, user("hi"))

    async def numbers(query: str) -> list[int]:
        raw = await fetch(server.port, path=f"/_sim/calls{query}", method="GET")
        return [call["n"] for call in raw.json()["calls"]]

    assert await numbers("") == [1, 2, 3, 4, 5]
    assert await numbers("?after=2&limit=2") == [3, 4]
    assert await numbers("?after=5") == []
    bad = await fetch(server.port, path="/_sim/calls?after=x", method="GET")
    assert bad.status == 400


async def test_profile_over_http(server: Running) -> None:
    changes = {"models": {"m": {"rpm": 1}}, "server": {"any_model": False}}
    raw = await fetch(server.port, changes, path="/_sim/profile")
    assert raw.status == 200
    assert raw.json()["models"]["m"]["rpm"] == 1
    assert raw.json()["default"]["answer_tokens"] == 12
    assert [(await fetch(server.port, user("hi"))).status for _ in range(2)] == [200, 429]
    assert (await fetch(server.port, user("hi") | {"model": "other"})).status == 404
    wrongs: tuple[object, ...] = ({"models": {"m": {"rmp": 1}}}, [], b"{")
    for wrong in wrongs:
        raw = await fetch(server.port, wrong, path="/_sim/profile")
        assert raw.status == 400
        assert raw.json()["error"]["code"] == "invalid_profile"
    shown = await fetch(server.port, path="/_sim/profile", method="GET")
    assert shown.json()["models"]["m"]["rpm"] == 1


async def test_a_model_that_the_profile_drops_is_gone(server: Running) -> None:
    assert (await fetch(server.port, user("hi"))).status == 200
    server.simulator.configure({"server": {"any_model": False}})
    assert (await fetch(server.port, user("hi"))).status == 404


async def test_stats_and_reset_over_http(server: Running) -> None:
    await fetch(server.port, user("hi"))
    await fetch(server.port, b"{")
    _, writer = await opened(server.port, request_bytes(user("[[sim:hang]]")))
    await until(lambda: in_flight(server) == 1)
    before = (await fetch(server.port, path="/_sim/stats", method="GET")).json()
    assert before["models"]["m"] == {
        "calls": 2,
        "answered": 1,
        "rejected": {},
        "violations": {"concurrency": 0, "rate": 0},
        "disconnected": 0,
        "faults": {},
        "tokens_sent": 12,
        "arrivals": before["models"]["m"]["arrivals"],
        "in_flight": 1,
        "peak_concurrency": 1,
        "max_in_window": 2,
    }
    assert (await fetch(server.port, path="/_sim/reset")).json() == {"ok": True}
    after = server.simulator.stats()
    assert after["models"]["m"]["calls"] == 0
    assert after["models"]["m"]["in_flight"] == 1
    assert after["refused"] == {}
    assert server.simulator.calls() == []
    writer.close()
    await until(lambda: in_flight(server) == 0)
    assert server.simulator.calls() == []
    assert server.simulator.stats()["models"]["m"]["disconnected"] == 0


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/v1/chat/completions", "GET", 405),
        ("/v1/models", "POST", 405),
        ("/nowhere", "GET", 404),
        ("/_sim/nowhere", "GET", 404),
        ("/_sim/reset", "GET", 404),
    ],
)
async def test_other_paths(server: Running, path: str, method: str, status: int) -> None:
    raw = await fetch(server.port, path=path, method=method)
    assert raw.status == status
    assert raw.json()["error"]["message"]


async def test_a_body_may_come_in_pieces_and_only_so_large(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = orjson.dumps(user("字" * 200_000))
    assert (await fetch(server.port, long)).status == 200
    monkeypatch.setattr(exchange, "MOST_BODY_BYTES", 100_000)
    raw = await fetch(server.port, long)
    assert raw.status == 413
    assert raw.json()["error"]["code"] == "request_too_large"


async def test_a_client_that_leaves_in_its_request_is_no_call(server: Running) -> None:
    whole = request_bytes(user("hi"))
    _, writer = await opened(server.port, whole[:-3])
    await writer.drain()
    writer.close()
    await fetch(server.port, user("hi"))
    assert len(server.simulator.calls()) == 1


async def test_only_http_is_spoken() -> None:
    with pytest.raises(RuntimeError, match="websocket"):
        await application(Simulator(Profile()))({"type": "websocket"}, AsyncMock(), AsyncMock())
