"""Wrong tokens from one address: counted, limited, forgotten."""

import asyncio
from pathlib import Path

import pytest

from asyncsvc.errors import TooManyAttempts
from asyncsvc.web.http.auth import ADDRESSES_MOST, WINDOW_S, Attempts, origin
from tests.virtual_time import virtual
from tests.web.serving import Service, refused, rest, serving

HERE = "192.0.2.1"


def wrong(attempts: Attempts, address: str) -> bool:
    """One more wrong token; whether it was one too many."""
    try:
        attempts.failed(address)
    except TooManyAttempts:
        return True
    return False


@virtual
async def test_the_window_slides() -> None:
    attempts = Attempts(3)
    for _ in range(3):
        assert not wrong(attempts, HERE)
        await asyncio.sleep(10)
    with pytest.raises(TooManyAttempts, match="3 wrong tokens") as refusal:
        attempts.failed(HERE)
    assert refusal.value.retry_after == pytest.approx(WINDOW_S - 30)
    await asyncio.sleep(WINDOW_S - 30)
    assert not wrong(attempts, HERE)
    assert wrong(attempts, HERE)  # one has left the window, one has come


@virtual
async def test_other_addresses_are_not_counted() -> None:
    attempts = Attempts(1)
    assert not wrong(attempts, "2001:db8::1")
    assert wrong(attempts, "2001:db8::ffff")  # the same customer
    assert not wrong(attempts, "2001:db8:0:1::1")
    assert not wrong(attempts, f"::ffff:{HERE}")
    assert wrong(attempts, HERE)
    assert origin("") == ""
    assert origin("unix:/run/x") == "unix:/run/x"


@virtual
async def test_all_addresses_together_have_a_limit() -> None:
    attempts = Attempts(2, in_all=3)
    assert [wrong(attempts, f"192.0.2.{n}") for n in range(5)] == [False] * 3 + [True] * 2
    await asyncio.sleep(WINDOW_S)
    assert not wrong(attempts, "192.0.2.4")


@virtual
async def test_memory_is_bounded() -> None:
    attempts = Attempts(2, in_all=10**6)
    for number in range(ADDRESSES_MOST + 100):
        for _ in range(5):
            wrong(attempts, f"10.0.{number // 256}.{number % 256}")
    assert len(attempts) == ADDRESSES_MOST
    assert not wrong(attempts, "10.0.0.0")
    assert wrong(attempts, "10.0.16.0")


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def closed(service: Service, token: str) -> int | None:
    async with service.ws(additional_headers=bearer(token)) as socket:
        return (await rest(socket))[1]


async def test_guessing_ends_in_a_429_and_the_right_token_still_comes_in(tmp_path: Path) -> None:
    environ = {"ASYNCSVC_TOKENS": "secret"}
    async with serving(tmp_path, environ, server={"wrong_tokens": 3}) as service:
        get = service.http.get
        for _ in range(5):  # no token is no guess
            refused(await get("/tasks"), 401, "unauthorized")
        for guess in ("a", "b"):
            refused(await get("/tasks", headers=bearer(guess)), 401, "unauthorized")
        assert await closed(service, "c") == 1008
        for guess in ("d", "e"):
            answer = await get("/tasks", headers=bearer(guess))
            refused(answer, 429, "too_many_attempts")
            assert 1 <= int(answer.headers["retry-after"]) <= WINDOW_S
            assert await closed(service, guess) == 1008
        # People share an address: the wrong tokens of another one must not lock out the right one.
        assert (await get("/tasks", headers=bearer("secret"))).status_code == 200
        async with service.ws(additional_headers=bearer("secret")) as socket:
            await socket.send('{"op": "ping"}')
            assert "pong" in str(await socket.recv())
        for path in ("/", "/health", "/livez"):
            assert (await get(path, headers=bearer("d"))).status_code == 200
