"""The gateway's HTTP side by what a real one has sent: recorded bytes over a real socket."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest

from asyncsvc.errors import (
    GatewayUnavailable,
    ProviderError,
    UpstreamAuth,
    UpstreamDisconnected,
    UpstreamRejected,
)
from asyncsvc.providers.agents import RunState
from asyncsvc.providers.client import Client
from asyncsvc.providers.dialects import PRESETS, SESSION_HEADER
from asyncsvc.providers.upstream import Upstream
from tests.openclaw.record_http import KEY
from tests.openclaw.wiretap import Exchange, Player, load, pieces, played
from tests.upstreams import ASK, Sheet, client, upstream


@asynccontextmanager
async def playing(name: str, **how: Any) -> AsyncGenerator[tuple[Player, Client, Upstream]]:
    async with asyncio.timeout(20), played(load(name)) as (player, port), client() as made:
        given = {"key": "the-token", "model": "openclaw/main"} | how
        account = upstream(f"http://127.0.0.1:{port}/v1", preset=PRESETS["openclaw"], **given)
        yield player, made, account


async def ask(made: Client, account: Upstream, sheet: Sheet, name: str = "chat") -> Any:
    return await made.chat(account, ASK, {}, sheet, KEY.format(name))


def text_of(one: Exchange) -> str:
    """The text of an answer by the bytes of its chunks."""
    body = b"".join(piece.partition(b"\r\n")[2].removesuffix(b"\r\n") for piece in one.sent[1:])
    rows = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")]
    deltas = [row["choices"][0]["delta"] for row in map(orjson.loads, rows) if row.get("choices")]
    return "".join(delta.get("content", "") for delta in deltas)


async def test_a_recorded_run_is_received_as_it_was_written() -> None:
    sheet = Sheet()
    async with playing("chat") as (player, made, account):
        answer = await ask(made, account, sheet)
    assert answer.done
    assert answer.finish_reason == "stop"
    assert answer.usage["completion_tokens"] == 12
    assert sheet.text == text_of(load("chat")[0])
    assert len(sheet.deltas) > 1
    assert player.asked[0].body == load("chat")[0].body, "we ask as we did when it was recorded"
    head = player.heads[0].lower()
    assert "authorization: bearer the-token" in head
    assert f"{SESSION_HEADER}: {KEY.format('chat')}" in head


async def test_the_role_is_no_first_token() -> None:
    one = load("chat")[0]
    at = next(i for i, piece in enumerate(one.sent) if b'"role"' in piece)
    assert not text_of(Exchange("", None, one.sent[: at + 1]))
    one.sent, one.end, sheet = one.sent[: at + 1], "left", Sheet()
    async with played([one]) as (_, port), client(first_token_s=0.05) as made:
        preset = replace(PRESETS["openclaw"], silence_s=0.0)
        account = upstream(f"http://127.0.0.1:{port}/v1", preset=preset, model="openclaw")
        with pytest.raises(ProviderError, match="no token"):
            await ask(made, account, sheet)
    assert not sheet.deltas


async def test_cancelling_hangs_up() -> None:
    sheet = Sheet()
    async with playing("cancel") as (player, made, account):
        call = asyncio.create_task(ask(made, account, sheet, "cancel"))
        await sheet.wrote.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await player.left.wait()


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("wrong_token", UpstreamAuth, "Unauthorized"),
        ("unknown_agent", UpstreamRejected, "Unknown agent"),
        ("model_refused", UpstreamAuth, "wrong key"),
        ("cut", UpstreamDisconnected, "."),
    ],
)
async def test_a_recorded_failure_is_no_answer(
    name: str, kind: type[ProviderError], text: str
) -> None:
    async with playing(name) as (player, made, account):
        with pytest.raises(kind, match=text) as found:
            await ask(made, account, Sheet(), name)
    assert "the-token" not in str(found.value)
    assert len(player.asked) == 1


def test_the_recorded_refusal_of_the_model_is_200_and_done() -> None:
    raw = b"".join(load("model_refused")[0].sent)
    assert b"200 OK" in raw.partition(b"\r\n")[0]
    assert b'{"error":' in raw
    assert b"[DONE]" in raw


async def test_after_a_cut_the_history_has_the_answer() -> None:
    sheet = Sheet()
    async with playing("cut") as (_, made, account):
        with pytest.raises(UpstreamDisconnected):
            await ask(made, account, sheet, "cut")
    assert sheet.text
    looks = load("history")
    async with playing("history") as (player, made, account):
        fates = [await made.run_status(account, KEY.format("cut")) for _ in looks]
    assert [run_status.state for run_status in fates] == [RunState.RUNNING, RunState.ANSWERED]
    assert len(fates[-1].text) > len(sheet.text)
    assert [one.line for one in player.asked] == [one.line for one in looks]


async def test_a_session_that_is_not_known_never_began() -> None:
    async with playing("no_session") as (_, made, account):
        assert (await made.run_status(account, "k")).state is RunState.NEVER


async def test_a_gateway_that_stops_refuses_without_an_attempt() -> None:
    async with playing("draining") as (player, made, account):
        await made.look([account])
        assert account.ready is True
        with pytest.raises(GatewayUnavailable) as found:
            await ask(made, account, Sheet(), "late")
        assert found.value.slow_down
        assert found.value.retry_after == pytest.approx(1.0)
        account.looked_at = float("-inf")
        await made.look([account])
        assert account.ready is False
    assert [one.line.split()[1] for one in player.asked] == [
        "/readyz",
        "/v1/chat/completions",
        "/readyz",
    ]


def test_pieces_are_the_gateways_own() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert pieces(head + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n") == [
        head,
        b"2\r\nab\r\n",
        b"1\r\nc\r\n",
        b"0\r\n\r\n",
    ]
    assert pieces(head + b"5\r\nab") == [head, b"5\r\nab"]
