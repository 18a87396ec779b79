"""Kept connections: what a call costs that begins on one which the other side has forgotten."""

import asyncio
from typing import Any

import pytest

from asyncsvc.errors import UpstreamDisconnected
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


async def warmed(made: Client, provider: Provider, count: int = 5) -> None:
    """So many kept connections, idle for a while."""
    texts = await asyncio.gather(*(ask(made, provider) for _ in range(count)))
    assert texts == ["Hello"] * count
    assert connections(provider) == count
    await asyncio.sleep(IDLE_S)


@pytest.mark.parametrize("end", [[{"reset": True}], [{"close": True}]])
async def test_kept_connections_that_are_dead_cost_nothing(end: list[Object]) -> None:
    script = {"script": [{"when": AGAIN, "steps": end}, SLOW]}
    async with asyncio.timeout(GUARD_S), Provider(script) as provider, client() as made:
        await warmed(made, provider)
        assert await ask(made, provider) == "Hello"
        # One request on a dead connection, the next on a new one; the other dead ones are gone.
        assert len(provider.requests) == 7
        assert connections(provider) == 6
        assert await ask(made, provider) == "Hello"
        assert connections(provider) == 6


async def test_many_calls_at_once_on_dead_connections() -> None:
    script = {"script": [{"when": AGAIN, "steps": [{"reset": True}]}, SLOW]}
    async with asyncio.timeout(GUARD_S), Provider(script) as provider, client() as made:
        await warmed(made, provider, 20)
        texts = await asyncio.gather(*(ask(made, provider) for _ in range(30)))
    assert texts == ["Hello"] * 30


async def test_an_agent_gateway_is_never_called_again_unasked() -> None:
    script = {"script": [{"when": AGAIN, "steps": [{"reset": True}]}, SLOW]}
    acting = Preset(acts=True)
    async with asyncio.timeout(GUARD_S), Provider(script) as provider, client() as made:
        await warmed(made, provider, 3)
        with pytest.raises(UpstreamDisconnected):
            await ask(made, provider, preset=acting)
        assert len(provider.requests) == 4
        assert await ask(made, provider, preset=acting) == "Hello"
        assert len(provider.requests) == 5


async def test_a_new_connection_that_fails_is_a_failure() -> None:
    script = {"script": [{"steps": [{"reset": True}]}]}
    async with asyncio.timeout(GUARD_S), Provider(script) as provider, client() as made:
        with pytest.raises(UpstreamDisconnected):
            await ask(made, provider)
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
        with pytest.raises(UpstreamDisconnected):
            await ask(made, provider)
    assert len(provider.requests) == 3


async def test_a_provider_that_drops_each_kept_connection_is_not_called_for_ever() -> None:
    script = {"script": [{"when": {"idle_over_s": -1}, "steps": [{"reset": True}]}, ANSWER]}
    async with asyncio.timeout(GUARD_S), Provider(script) as provider, client() as made:
        for _ in range(4):
            assert await ask(made, provider) == "Hello"
    assert len(provider.requests) == 7


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
        assert await ask(made, provider) == "Hello"
        assert not under_way.done()
        assert await under_way == "Hello"


async def test_other_origins_keep_their_connections() -> None:
    dead = {"script": [{"when": AGAIN, "steps": [{"reset": True}]}, SLOW]}
    alive = {"script": [SLOW]}
    async with asyncio.timeout(GUARD_S), Provider(dead) as one, Provider(alive) as other:
        async with client() as made:
            await asyncio.gather(warmed(made, one), warmed(made, other))
            assert await ask(made, one) == "Hello"
            assert await ask(made, other) == "Hello"
        assert connections(other) == 5
