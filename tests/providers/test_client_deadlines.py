"""The client's deadlines, in virtual time."""

import asyncio
from typing import Any

import httpx
import pytest

from asyncsvc.config.settings import Limits, Timeouts
from asyncsvc.errors import FirstTokenTimeout, IdleTimeout, ProviderError, UpstreamTooLarge
from asyncsvc.providers.answers.answer import Answer
from asyncsvc.providers.answers.chat_reading import ChatReading
from asyncsvc.providers.answers.size import AnswerRoom
from tests.upstreams import (
    DONE,
    GOOD,
    HELLO,
    Reply,
    Script,
    Sheet,
    chat,
    event,
    failure,
    piece,
    stream,
    upstream,
)
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


@pytest.mark.parametrize(
    "sign", [b": keep-alive\n\n", b"event: ping\n\n", b"data:\n\n", b"id: 7\n\n", piece()]
)
def test_within_the_stream_whatever_comes_is_a_sign_of_life(sign: bytes) -> None:
    pulse: list[bytes | float] = [sign, 19.0]

    @virtual
    async def check() -> None:
        body = [HELLO, *pulse * 5, piece(" world"), *pulse * 5, piece(finish="stop"), DONE]
        _, sheet = await chat(stream(*body), **IMPATIENT)
        assert sheet.text == "Hello world"
        assert loop().time() == pytest.approx(190)

    check()


def test_signs_of_life_that_cease_are_silence() -> None:
    check_late(IdleTimeout, 29, stream(HELLO, 9.0, b": keep-alive\n\n", 1000.0), text="Hello")


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


USAGE = event({"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 3}})
ENDED = GOOD.removesuffix(DONE)
WHOLE = event({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]})
PULSES: list[bytes | float] = [b": keep-alive\n\n", 0.3] * 20


@pytest.mark.parametrize(
    ("end", "at"),
    [
        ([GOOD], 0.2),
        ([ENDED], 1),
        ([ENDED, *PULSES], 1),
        ([ENDED, 0.5, USAGE], 0.7),
        ([ENDED + USAGE], 0.2),
        ([ENDED + USAGE, *PULSES], 0.2),
        ([GOOD, USAGE], 0.2),
        ([piece("Hel"), piece("lo", "stop")], 1),
        ([WHOLE], 1),
        ([WHOLE[6:]], 1),
        ([piece("Hello", "stop") + piece(finish="stop")], 1),
    ],
)
def test_a_connection_kept_open_after_the_answer_holds_it_no_longer_than_a_grace(
    end: list[bytes | float], at: float
) -> None:
    @virtual
    async def check() -> None:
        reply = stream(*end, 1000.0)
        _, sheet = await chat(reply, **IMPATIENT)
        assert sheet.text == "Hello"
        assert reply.is_closed
        assert loop().time() == pytest.approx(at)

    check()


def test_where_each_piece_has_a_finish_reason_none_is_an_end() -> None:
    @virtual
    async def check() -> None:
        pieces = [part for text in "Hello" for part in (piece(text, "stop"), 5.0)]
        _, sheet = await chat(stream(*pieces, piece(finish="stop"), 1000.0), **IMPATIENT)
        assert sheet.text == "Hello"
        assert loop().time() == pytest.approx(26)

    check()


@pytest.mark.parametrize(
    "words", [b"upstream is busy", b"<title>upstream is busy", b"data: upstream is busy\n\n"]
)
def test_the_words_of_a_body_without_an_end_are_in_the_error(words: bytes) -> None:
    @virtual
    async def check() -> None:
        error = await failure(stream(words, 1000.0), **IMPATIENT)
        assert "upstream is busy" in str(error)
        assert loop().time() == pytest.approx(60)

    check()


@virtual
async def test_a_refusal_whose_explanation_does_not_end_is_reported_soon() -> None:
    reply = httpx.Response(401, stream=Script([b"bad key", 1000.0]))
    error = await failure(reply, **IMPATIENT)
    assert error.code == "upstream_auth"
    assert "bad key" in str(error)
    assert loop().time() == pytest.approx(1)


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


def test_an_answer_that_takes_longer_than_its_deadlines_is_bounded_as_well() -> None:
    parts: list[bytes | float] = [piece("x" * (1 << 20)), 19.0]

    @virtual
    async def check() -> None:
        error = await failure(stream(*parts * 40, DONE), **IMPATIENT)
        assert type(error) is UpstreamTooLarge

    check()


def test_a_connection_that_is_slow_to_close_moves_no_deadline() -> None:
    """The time of a reading ends again while the connection of the first end is being closed."""
    noted: list[str] = []

    @virtual
    async def check() -> None:
        loop().set_exception_handler(lambda _, context: noted.append(str(context)))
        deadline, room = asyncio.timeout(5), AnswerRoom(Limits())
        timeouts = Timeouts(**IMPATIENT)
        reading = ChatReading(Answer(), Sheet(), upstream(), timeouts, deadline, 0, room)
        with pytest.raises(TimeoutError):
            async with deadline:
                try:
                    await asyncio.sleep(1000)
                finally:
                    await asyncio.sleep(100)
        reading.close()
        assert loop().time() == pytest.approx(105)

    check()
    assert noted == []
