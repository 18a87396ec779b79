"""The client's deadlines, in virtual time."""

import asyncio
from typing import Any

import pytest

from asyncsvc.errors import FirstTokenTimeout, IdleTimeout, ProviderError
from tests.upstreams import DONE, GOOD, HELLO, Reply, Sheet, chat, failure, piece, stream
from tests.virtual_time import loop, virtual

IMPATIENT: dict[str, Any] = {"connect_s": 5, "first_token_s": 60, "idle_s": 20}


def check_late(kind: type[ProviderError], at: float, *replies: Reply, text: str = "") -> Sheet:
    sheet = Sheet()

    @virtual
    async def check() -> None:
        assert type(await failure(*replies, sheet=sheet, **IMPATIENT)) is kind
        assert loop().time() == pytest.approx(at)

    check()
    assert sheet.text == text
    return sheet


def test_no_head_in_time() -> None:
    assert check_late(FirstTokenTimeout, 60, 1000.0).heads == 0


def test_no_token_in_time() -> None:
    check_late(FirstTokenTimeout, 60, 30.0, stream(piece(role="assistant"), 1000.0))


def test_comments_are_no_token() -> None:
    pulse: list[bytes | float] = [b": keep-alive\n\n", 5.0]
    check_late(FirstTokenTimeout, 60, stream(*pulse * 100))


def test_silence_within_the_stream() -> None:
    check_late(IdleTimeout, 25, 5.0, stream(HELLO, 1000.0), text="Hello")


def test_comments_do_not_hide_silence() -> None:
    pulse: list[bytes | float] = [b": keep-alive\n\n", 5.0]
    check_late(IdleTimeout, 20, stream(HELLO, *pulse * 100), text="Hello")


def test_one_byte_a_second_is_silence_while_no_piece_is_whole() -> None:
    slowly = [part for byte in HELLO * 9 for part in (bytes([byte]), 1.0)]
    check_late(FirstTokenTimeout, 60, stream(*slowly))


def test_a_slow_stream_is_no_silent_one() -> None:
    @virtual
    async def check() -> None:
        slow: list[bytes | float] = [piece("x"), 19.0]
        _, sheet = await chat(stream(*slow * 50, piece(finish="stop"), DONE), **IMPATIENT)
        assert sheet.text == "x" * 50
        assert loop().time() == pytest.approx(950)

    check()


@pytest.mark.parametrize("begun", [piece(reasoning="hm"), piece(tool_calls=[{"index": 0}])])
def test_thinking_and_tool_calls_are_tokens(begun: bytes) -> None:
    check_late(IdleTimeout, 20, stream(begun, 1000.0))


@pytest.mark.parametrize(("end", "at"), [(GOOD, 0.2), (GOOD.removesuffix(DONE), 20)])
def test_a_connection_kept_open_after_the_answer_costs_no_answer(end: bytes, at: float) -> None:
    @virtual
    async def check() -> None:
        reply = stream(end, 1000.0)
        _, sheet = await chat(reply, **IMPATIENT)
        assert sheet.text == "Hello"
        assert reply.is_closed
        assert loop().time() == pytest.approx(at)

    check()


@virtual
async def test_a_disk_that_cannot_keep_up_is_no_silence() -> None:
    sheet = Sheet()
    sheet.full = True
    loop().call_later(500, sheet.dry.set)
    await chat(stream(HELLO, 10.0, piece(finish="stop"), DONE), sheet=sheet, **IMPATIENT)
    assert loop().time() == pytest.approx(510)


@virtual
async def test_after_the_disk_caught_up_silence_counts_again() -> None:
    sheet = Sheet()
    sheet.full = True
    loop().call_later(500, sheet.dry.set)
    error = await failure(stream(HELLO, 1000.0), sheet=sheet, **IMPATIENT)
    assert type(error) is IdleTimeout
    assert loop().time() == pytest.approx(520)


@virtual
async def test_a_cancelled_call_is_closed_and_says_nothing_of_its_own() -> None:
    reply, sheet = stream(HELLO, 1000.0), Sheet()
    running = asyncio.create_task(chat(reply, sheet=sheet))
    await sheet.wrote.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert reply.is_closed
