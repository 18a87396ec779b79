"""The smallest call of an account: what it asks for, and what it finds out."""

import json
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from asyncsvc.config.settings import Limits, Timeouts
from asyncsvc.errors import UpstreamAuth, UpstreamDisconnected, UpstreamRejected
from asyncsvc.providers.dialects import PRESETS
from asyncsvc.providers.trial import Trial, trials
from asyncsvc.providers.upstream import Upstream
from tests.upstreams import KEY, upstream

NOW = 1_790_000_000_000
CHUNK = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
EMPTY = f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n"


class Provider:
    """Answers with the responses of a list, one after another, and notes the requests."""

    def __init__(self, *responses: httpx.Response) -> None:
        self.responses = list(responses)
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []

    def transport(self) -> httpx.AsyncBaseTransport:
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        self.bodies.append(json.loads(request.content or b"{}"))
        return self.responses.pop(0)

    async def tried(self, *upstreams: Upstream) -> list[Trial]:
        return await trials(upstreams, Timeouts(), Limits(), lambda: NOW, self.transport)


def streamed(**headers: str) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"} | headers, text=EMPTY)


async def test_a_chat_model_is_asked_for_one_token_and_needs_no_text() -> None:
    provider = Provider(streamed())
    (found,) = await provider.tried(upstream())
    assert found.error is None
    assert (found.name, found.model_id, found.url) == ("m", "some-model", "http://provider.test/v1")
    assert provider.bodies[0]["max_tokens"] == 1
    assert len(provider.bodies) == 1
    assert found.key == f"key (…{KEY[-4:]})"


async def test_a_provider_that_wants_more_than_one_token_is_asked_again() -> None:
    refusal = {"error": {"message": "max_tokens must be at least 16", "type": "invalid"}}
    provider = Provider(httpx.Response(400, json=refusal), streamed())
    (found,) = await provider.tried(upstream())
    assert found.error is None
    assert [body["max_tokens"] for body in provider.bodies] == [1, 16]


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (httpx.Response(401, json={"error": {"code": "invalid_api_key", "message": "no"}}), 0),
        (httpx.Response(400, json={"error": {"message": "the moon is full"}}), 1),
    ],
)
async def test_a_refusal_is_the_error_of_the_trial(response: httpx.Response, kind: int) -> None:
    provider = Provider(response)
    (found,) = await provider.tried(upstream())
    assert type(found.error) is (UpstreamAuth, UpstreamRejected)[kind]
    assert KEY not in str(found)
    assert len(provider.bodies) == 1


async def test_an_embedding_model_embeds_one_word() -> None:
    answer = {"data": [{"index": 0, "embedding": [0.5, 0.25]}], "usage": {"total_tokens": 1}}
    provider = Provider(httpx.Response(200, json=answer))
    (found,) = await provider.tried(upstream(type="embedding"))
    assert found.error is None
    assert provider.bodies[0]["input"] == "Hi"


async def test_a_gateway_of_agents_is_only_asked_whether_it_is_ready() -> None:
    gateway = upstream("http://gateway.test:1/v1", preset=PRESETS["openclaw"])
    provider = Provider(httpx.Response(200, json={}), httpx.Response(503))
    (ready,) = await provider.tried(gateway)
    assert ready.error is None
    again = upstream("http://gateway.test:1/v1", preset=PRESETS["openclaw"])
    (away,) = await provider.tried(again)
    assert isinstance(away.error, UpstreamDisconnected)
    assert provider.paths == ["/readyz", "/readyz"]


@pytest.mark.parametrize("ahead_s", [0, 3600, -86400])
async def test_the_clock_is_compared_with_the_providers(ahead_s: int) -> None:
    theirs = format_datetime(datetime.fromtimestamp(NOW / 1000 - ahead_s, UTC), usegmt=True)
    (found,) = await Provider(streamed(date=theirs)).tried(upstream())
    assert found.ahead_s is not None
    assert abs(found.ahead_s - ahead_s) <= 1


@pytest.mark.parametrize("date", ["yesterday", "", "Tue, 99 Nov 2026 00:00:00 GMT"])
async def test_an_odd_date_says_nothing(date: str) -> None:
    (found,) = await Provider(streamed(date=date)).tried(upstream())
    assert (found.error, found.ahead_s) == (None, None)


async def test_each_account_has_a_result_in_its_place() -> None:
    both = [upstream(model="one"), upstream(model="two")]
    found = await Provider(streamed(), streamed()).tried(*both)
    assert [each.model_id for each in found] == ["one", "two"]
