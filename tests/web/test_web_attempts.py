"""Wrong tokens from one address: counted, limited, forgotten."""

import asyncio
from pathlib import Path

import pytest

from asyncsvc.errors import TooManyAttempts
from asyncsvc.web.http.auth import ADDRESSES_MOST, WINDOW_S, Attempts, origin
from tests.virtual_time import virtual
from tests.web.serving import Service, refused, rest, serving

HERE = "192.0.2.1"


def blocked(attempts: Attempts, address: str) -> bool:
    try:
        attempts.check(address)
    except TooManyAttempts:
        return True
    return False


@virtual
async def test_the_window_slides() -> None:
    attempts = Attempts(3)
    for _ in range(3):
        assert not blocked(attempts, HERE)
        attempts.failed(HERE)
        await asyncio.sleep(10)
    with pytest.raises(TooManyAttempts, match="3 wrong tokens") as refusal:
        attempts.check(HERE)
    assert refusal.value.retry_after == pytest.approx(WINDOW_S - 30)
    await asyncio.sleep(WINDOW_S - 30)
    assert not blocked(attempts, HERE)
    attempts.failed(HERE)
    assert blocked(attempts, HERE)  # one has left the window, one has come


@virtual
async def test_other_addresses_are_not_shut_out() -> None:
    attempts = Attempts(1)
    attempts.failed("2001:db8::1")
    assert blocked(attempts, "2001:db8::ffff")  # the same customer
    assert not blocked(attempts, "2001:db8:0:1::1")
    assert not blocked(attempts, HERE)
    attempts.failed(f"::ffff:{HERE}")
    assert blocked(attempts, HERE)
    assert origin("") == ""
    assert origin("unix:/run/x") == "unix:/run/x"


@virtual
async def test_memory_is_bounded() -> None:
    attempts = Attempts(2)
    for number in range(ADDRESSES_MOST + 100):
        for _ in range(5):
            attempts.failed(f"10.0.{number // 256}.{number % 256}")
    assert len(attempts) == ADDRESSES_MOST
    assert not blocked(attempts, "10.0.0.0")
    assert blocked(attempts, "10.0.16.0")


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def closed(service: Service, token: str) -> int | None:
    async with service.ws(additional_headers=bearer(token)) as socket:
        return (await rest(socket))[1]


async def test_guessing_ends_in_a_429_on_this_machine_too(tmp_path: Path) -> None:
    environ = {"ASYNCSVC_TOKENS": "secret"}
    async with serving(tmp_path, environ, server={"wrong_tokens": 3}) as service:
        get = service.http.get
        for _ in range(5):  # no token is no guess
            refused(await get("/tasks"), 401, "unauthorized")
        for guess in ("a", "b"):
            refused(await get("/tasks", headers=bearer(guess)), 401, "unauthorized")
        assert (await get("/tasks", headers=bearer("secret"))).status_code == 200
        assert await closed(service, "c") == 1008
        for token in ("d", "secret"):  # a right guess looks like a wrong one
            answer = await get("/tasks", headers=bearer(token))
            refused(answer, 429, "too_many_attempts")
            assert 1 <= int(answer.headers["retry-after"]) <= WINDOW_S
            assert await closed(service, token) == 1008
        for path in ("/", "/health", "/livez"):
            assert (await get(path, headers=bearer("d"))).status_code == 200
