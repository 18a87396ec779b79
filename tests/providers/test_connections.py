"""Kept connections: what a call costs that begins on one which the other side has forgotten."""

import asyncio
from typing import Any

import pytest

from asyncsvc.errors import KeptConnectionLost, UpstreamDisconnected
from asyncsvc.providers.client import Client
from asyncsvc.providers.dialects import Preset
from tests.upstreams import ASK, DONE, GOOD, Sheet, client, piece, upstream
from tests.wild.provider import Provider

Object = dict[str, Any]

HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked"
ANSWER: Object = {"head": HEAD, "body": GOOD.decode()}
SLOW: Object = {"steps": [{"wait_s": 0.2}, {"head": HEAD}, {"send": GOOD.decode()}, {"end": True}]}
AGAIN: Object = {"idle_over_s": 0.5}
"""Any request on a connection that was idle for a while."""
IDLE_S = 0.6
GUARD_S = 20


async def ask(made: Client, provider: Provider, sheet: Sheet | None = None, **account: Any) -> str:
    sheet = sheet or Sheet()
    await made.chat(upstream(provider.base_url, **account), ASK, {}, sheet)
    return sheet.text


def connections(provider: Provider) -> int:
    return sum(request.idle_s is None for request in provider.requests)


async def lost(made: Client, provider: Provider, **account: Any) -> UpstreamDisconnected:
    with pytest.raises(UpstreamDisconnected) as found:
        await ask(made, provider, **account)
    return found.value


async def warmed(made: Client, provider: Provider, count: int = 5) -> None:
    """So many kept connections, idle for a while."""
    texts = await asyncio.gather(*(ask(made, provider) for _ in range(count)))
    assert texts == ["Hello"] * count
    assert connections(provider) == count
    await asyncio.sleep(IDLE_S)


@pytest.mark.parametrize("end", [[{"reset": True}], [{"close": True}]])
async def test_one_lost_connection_is_reported_and_the_other_kept_ones_are_dropped(
    end: list[Object],
) -> None:
    script = {"script": [{"when": AGAIN, "steps": end}, SLOW]}
    async with asyncio.timeout(GUARD_S), Provider(script) as provider, client() as made:
        await warmed(made, provider)
        error = await lost(made, provider)
        assert type(error) is KeptConnectionLost
        assert (error.slow_down, error.trips) == (True, False)
        assert await ask(made, provider) == "Hello"
        assert connections(provider) == 6
        assert await ask(made, provider) == "Hello"
        assert connections(provider) == 6
        assert len(provider.requests) == 8


async def test_an_agent_gateway_may_have_begun() -> None:
    script = {"script": [{"when": AGAIN, "steps": [{"reset": True}]}, SLOW]}
    acting = Preset(acts=True)
    async with asyncio.timeout(GUARD_S), Provider(script) as provider, client() as made:
        await warmed(made, provider, 3)
        assert type(await lost(made, provider, preset=acting)) is UpstreamDisconnected
        assert len(provider.requests) == 4
        assert await ask(made, provider, preset=acting) == "Hello"


async def test_a_question_that_does_no_harm_is_asked_again() -> None:
    script = {
        "script": [
            {"when": AGAIN, "steps": [{"reset": True}]},
            {"head": "HTTP/1.1 200 OK\r\nContent-Length: 8", "body": '{"a": 1}'},
        ]
    }
    async with asyncio.timeout(GUARD_S), Provider(script) as provider, client() as made:
        for _ in range(2):
            assert await made.fetch(f"{provider.base_url}/x", {}) == (200, {"a": 1})
            await asyncio.sleep(IDLE_S)
    assert len(provider.requests) == 3


async def test_a_new_connection_that_fails_is_a_failure() -> None:
    script = {"script": [{"steps": [{"reset": True}]}]}
    async with asyncio.timeout(GUARD_S), Provider(script) as provider, client() as made:
        assert type(await lost(made, provider)) is UpstreamDisconnected
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    "steps",
    [
        [{"head": HEAD}, {"reset": True}],
        [{"head": HEAD}, {"send": piece("Hel").decode()}, {"close": True}],
        [{"raw": "HTTP/1.1 200 OK\r\nContent-Ty"}, {"close": True}],
    ],
)
async def test_what_breaks_after_the_answer_has_begun_is_a_failure(steps: list[Object]) -> None:
    script = {"script": [{"when": AGAIN, "steps": steps}, SLOW]}
    async with asyncio.timeout(GUARD_S), Provider(script) as provider, client() as made:
        await warmed(made, provider, 2)
        assert type(await lost(made, provider)) is UpstreamDisconnected
    assert len(provider.requests) == 3


async def test_an_account_whose_calls_are_lost_again_and_again_has_another_fault() -> None:
    kept = {"idle_over_s": -1}
    script = {"script": [{"when": kept | {"field": "seed"}, "steps": [{"reset": True}]}, ANSWER]}
    async with asyncio.timeout(GUARD_S), Provider(script) as provider, client() as made:
        kinds = []
        for _ in range(4):
            # Another account of the same origin keeps a connection each time.
            other = upstream(provider.base_url)
            other.gate.name = "other"
            await made.chat(other, ASK, {}, Sheet())
            with pytest.raises(UpstreamDisconnected) as found:
                await made.chat(upstream(provider.base_url), ASK, {"seed": 1}, Sheet())
            kinds.append(type(found.value))
        assert kinds == [KeptConnectionLost] * 2 + [UpstreamDisconnected] * 2
        assert await ask(made, provider) == "Hello"
        with pytest.raises(KeptConnectionLost):
            await made.chat(upstream(provider.base_url), ASK, {"seed": 1}, Sheet())


async def test_calls_under_way_on_connections_of_that_origin_go_on() -> None:
    begin, rest = piece("Hel").decode(), (piece("lo", "stop") + DONE).decode()
    long = [{"head": HEAD}, {"send": begin}, {"wait_s": 1.5}, {"send": rest}, {"end": True}]
    script = {
        "script": [
            {"when": {"nth_request": 1}, "steps": long},
            {"when": AGAIN, "steps": [{"reset": True}]},
            SLOW,
        ]
    }
    async with asyncio.timeout(GUARD_S), Provider(script) as provider, client() as made:
        sheet = Sheet()
        under_way = asyncio.create_task(ask(made, provider, sheet))
        await sheet.wrote.wait()
        assert await ask(made, provider) == "Hello"
        await asyncio.sleep(IDLE_S)
        assert type(await lost(made, provider)) is KeptConnectionLost
        assert not under_way.done()
        assert await under_way == "Hello"


async def test_other_origins_keep_their_connections() -> None:
    dead = {"script": [{"when": AGAIN, "steps": [{"reset": True}]}, SLOW]}
    alive = {"script": [SLOW]}
    async with asyncio.timeout(GUARD_S), Provider(dead) as one, Provider(alive) as other:
        async with client() as made:
            await asyncio.gather(warmed(made, one), warmed(made, other))
            assert type(await lost(made, one)) is KeptConnectionLost
            assert await ask(made, other) == "Hello"
        assert connections(other) == 5
