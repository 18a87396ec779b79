"""Asking a gateway what became of a run: history over HTTP, status over the WebSocket."""

from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from asyncsvc.config.settings import Timeouts
from asyncsvc.errors import GatewayAway, UpstreamAuth
from asyncsvc.providers.agents import RunState, RunStatus
from asyncsvc.providers.client import Client
from asyncsvc.providers.dialects import PRESETS
from tests.providers.openclaw.test_sessions import ANSWER, USER
from tests.providers.openclaw.test_socket import Frames, playing, recorded
from tests.upstreams import ASK, Sheet, client, standing_still, upstream

GREETING = recorded("chat")[:3]


class Authenticator:
    """The gateway's HTTP side: one answer, and what was asked."""

    def __init__(self, status: int, body: Any = None) -> None:
        self.status, self.body = status, body
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        content = self.body if isinstance(self.body, bytes) else orjson.dumps(self.body)
        return httpx.Response(self.status, content=content)


async def run_status(doors: Authenticator, payload: dict[str, Any] | None) -> RunStatus:
    """With a gateway whose `sessions.describe` says that; None: its socket says nothing."""
    reply = {"type": "res", "id": "1", "ok": payload is not None, "payload": payload}
    frames = [*GREETING, {"asked": "sessions.describe"}, reply]
    async with playing(frames) as (played, _, account):
        async with Client(Timeouts(), standing_still, httpx.MockTransport(doors)) as made:
            found = await made.run_status(account, "k")
        if doors.status < 400:
            assert played.requests[1]["params"] == {"key": "agent:main:k"}
    return found


@pytest.mark.parametrize(
    ("payload", "state"),
    [
        ({"session": {"status": "done"}}, RunState.ANSWERED),
        ({"session": {"status": "killed"}}, RunState.LOST),
        ({"session": None}, RunState.ANSWERED),
        (None, RunState.ANSWERED),
    ],
)
async def test_history_and_status_are_one_fate(
    payload: dict[str, Any] | None, state: RunState
) -> None:
    doors = Authenticator(200, {"messages": [USER, ANSWER]})
    assert (await run_status(doors, payload)).state is state
    request = doors.asked[0]
    assert request.url.raw_path == b"/sessions/agent%3Amain%3Ak/history"
    assert request.headers["authorization"] == "Bearer the-token"


async def test_an_answer_that_is_no_json_is_no_history() -> None:
    assert (await run_status(Authenticator(200, b"<html>"), None)).state is RunState.AWAY


async def test_a_token_that_is_refused_is_an_error() -> None:
    with pytest.raises(UpstreamAuth):
        await run_status(Authenticator(401, {}), None)


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False)])
async def test_a_gateway_says_whether_it_is_ready(status: int, ready: bool) -> None:
    doors, plain = Authenticator(status, {}), upstream()
    account = upstream("http://gateway.test/v1", preset=PRESETS["openclaw"])
    async with client(httpx.MockTransport(doors)) as made:
        await made.look([plain, account])
        await made.look([plain, account])
    assert (account.ready, plain.ready) == (ready, None)
    assert [str(request.url) for request in doors.asked] == ["http://gateway.test/readyz"]


async def test_a_refused_connection_is_a_gateway_that_comes_back() -> None:
    account = upstream("http://127.0.0.1:9/v1", preset=PRESETS["openclaw"])
    async with client() as made:
        with pytest.raises(GatewayAway) as away:
            await made.chat(account, ASK, {}, Sheet(), "k")
    assert away.value.slow_down
    assert away.value.retry_after == pytest.approx(2.0)


async def test_a_language_model_is_chosen_before_the_run() -> None:
    patched: Frames = [
        {"asked": "sessions.patch"},
        {"type": "res", "id": "1", "ok": True, "payload": {}},
    ]
    rest = [f | {"id": "2"} if f.get("type") == "res" else f for f in recorded("chat")[3:]]
    async with playing([*GREETING, *patched, *rest]) as (played, made, account):
        settings = account.settings.model_copy(update={"model": "openclaw/main@fake/other"})
        other = replace(account, settings=settings)
        key = "asyncsvc:recorded-0:1"
        await made.chat(other, ASK, {}, Sheet(), key)
        assert played.requests[1]["params"]["model"] == "fake/other"
