"""The client's calls for embeddings."""

import struct
from base64 import b64encode
from typing import Any

import httpx
import orjson
import pytest

from asyncsvc.errors import (
    FirstTokenTimeout,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    UpstreamDisconnected,
    UpstreamInvalid,
    UpstreamOverloaded,
)
from asyncsvc.providers.answers.embeddings import Embeddings
from tests.upstreams import Reply, client, in_turn, unheard, upstream
from tests.virtual_time import loop, virtual

NO_FLOATS = ["", "AAA=", "?", "AACAPw", "AADAfw==", "AACAfw=="]
"""None, two bytes, no base64, badly ended, not a number, infinite."""
JSON = {"content-type": "application/json"}


def row(index: int, *vector: Any) -> dict[str, Any]:
    return {"index": index, "embedding": list(vector)}


async def embed(texts: str | list[str], *replies: Reply, **timeouts: Any) -> Embeddings:
    heads: list[int] = []
    async with client(in_turn(replies), **timeouts) as made:
        found = await made.embed(upstream(), texts, {}, lambda _: heads.append(1))
    assert heads == [1]
    return found


async def test_embeddings_come_in_the_order_of_the_texts() -> None:
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    rows = [row(2, 3), row(0, 1), row(1, 2.5)]
    found = await embed(["a", "b", "c"], httpx.Response(200, json={"data": rows, "usage": usage}))
    assert found.vectors == [[1.0], [2.5], [3.0]]
    assert found.usage == usage


@pytest.mark.parametrize("usage", [None, [], "many"])
async def test_one_text_is_one_vector_whatever_the_usage_is(usage: Any) -> None:
    body = {"data": [row(0, 1)], "usage": usage}
    found = await embed("a", httpx.Response(200, json=body))
    assert (found.vectors, found.usage) == ([[1.0]], None)


@pytest.mark.parametrize(
    "data", [[], [row(0, 1)], [row(0, 1), row(1, 1), row(2, 1)]], ids=["none", "fewer", "more"]
)
async def test_a_count_that_differs_is_refused(data: Any) -> None:
    with pytest.raises(UpstreamInvalid, match=r"2 texts were sent, \d embeddings came back"):
        await embed(["a", "b"], httpx.Response(200, json={"data": data}))


@pytest.mark.parametrize(
    "body",
    [
        *(None, 7, "x", [], {}, {"data": None}, {"data": "x"}, {"data": [1]}),
        {"data": [{"embedding": [[1]]}]},
        {"data": [{"embedding": [True]}]},
        {"data": [{"embedding": [None, 1]}]},
        {"data": [{"embedding": ["1"]}]},
        {"data": [{"index": 0}]},
        {"data": [row(0, "x")]},
        {"data": [row(0, None)]},
        *({"data": [{"index": 0, "embedding": text}]} for text in NO_FLOATS),
        {"data": [row(0, 1), {"index": "1", "embedding": []}]},
    ],
)
async def test_what_holds_no_embeddings_is_refused(body: Any) -> None:
    with pytest.raises(UpstreamInvalid, match="holds no embeddings"):
        await embed("a", httpx.Response(200, headers=JSON, content=orjson.dumps(body)))


def rows_of(indexes: list[Any]) -> dict[str, Any]:
    """A row for each index, whose vector is its position."""
    return {"data": [row(index, position) for position, index in enumerate(indexes)]}


@pytest.mark.parametrize(
    ("indexes", "order"),
    [
        ([None, None, None], [0, 1, 2]),
        ([0, 0, 0], [0, 1, 2]),
        ([-1, -1, -1], [0, 1, 2]),
        (["a", "b", "c"], [0, 1, 2]),
        (["2", "0", "1"], [1, 2, 0]),
        ([2.0, 1.0, 0.0], [2, 1, 0]),
        ([3, 1, 2], [1, 2, 0]),
        ([64, 65, 66], [0, 1, 2]),
        ([None, 1, None], [0, 1, 2]),
        ([[0], [1], [2]], [0, 1, 2]),
        ([True, True, True], [0, 1, 2]),
    ],
)
async def test_indexes_decide_where_they_tell_and_positions_where_they_do_not(
    indexes: list[Any], order: list[float]
) -> None:
    found = await embed(["a", "b", "c"], httpx.Response(200, json=rows_of(indexes)))
    assert found.vectors == [[float(position)] for position in order]


async def test_rows_without_the_field_index_are_taken_by_position() -> None:
    body = {"data": [{"embedding": [1.0]}, {"embedding": [2.0]}]}
    found = await embed(["a", "b"], httpx.Response(200, json=body))
    assert found.vectors == [[1.0], [2.0]]


@pytest.mark.parametrize(
    "indexes", [[0, 0, 1], [-1, -2, -3], [2, 0, None], [5, 3, 4], [0, 1, -1], [None, 0, None, 0]]
)
async def test_indexes_that_contradict_each_other_are_refused(indexes: list[Any]) -> None:
    texts = ["a"] * len(indexes)
    with pytest.raises(UpstreamInvalid, match="do not tell which text"):
        await embed(texts, httpx.Response(200, json=rows_of(indexes)))


@pytest.mark.parametrize(
    "body",
    [
        [[1, 2], [3, 4]],
        {"embeddings": [[1, 2], [3, 4]], "model": "m"},
        {"embeddings": {"float": [[1, 2], [3, 4]]}, "texts": ["a", "b"]},
        {"data": [[1, 2], [3, 4]]},
        [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1, 2]}],
    ],
)
async def test_other_spellings_of_the_same_vectors(body: Any) -> None:
    found = await embed(["a", "b"], httpx.Response(200, json=body))
    assert found.vectors == [[1.0, 2.0], [3.0, 4.0]]


async def test_the_one_vector_of_the_one_text() -> None:
    found = await embed("a", httpx.Response(200, json={"embedding": [1, 2]}))
    assert found.vectors == [[1.0, 2.0]]


async def test_vectors_of_different_lengths_are_refused() -> None:
    body = {"data": [row(0, 1), {"index": 1, "embedding": [1, 2]}]}
    with pytest.raises(UpstreamInvalid, match="different lengths: 1 to 2"):
        await embed(["a", "b"], httpx.Response(200, json=body))


@pytest.mark.parametrize("accept", ["application/json"])
async def test_embeddings_are_asked_for_as_json(accept: str) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"data": [row(0, 1)]})

    async with client(httpx.MockTransport(answer)) as made:
        await made.embed(upstream(), "a", {}, unheard)
    assert asked[0].headers["accept"] == accept


async def test_vectors_in_base64_are_unpacked() -> None:
    rows = [{"index": 0, "embedding": b64encode(struct.pack("<3f", 0.5, -2, 1e9)).decode()}]
    found = await embed("a", httpx.Response(200, json={"data": rows}))
    assert found.vectors == [[0.5, -2.0, 1e9]]


async def test_an_error_without_a_frame_around_it_keeps_its_meaning() -> None:
    body = {"code": 50508, "message": "too busy", "data": None}
    with pytest.raises(UpstreamOverloaded, match="too busy"):
        await embed("a", httpx.Response(200, json=body))


async def test_an_error_with_status_200_keeps_its_meaning() -> None:
    body = {"error": {"code": "insufficient_quota", "message": "no money"}}
    with pytest.raises(QuotaExhausted, match="no money"):
        await embed("a", httpx.Response(200, json=body))


@pytest.mark.parametrize("body", [b"", b'{"data": ['])
async def test_half_a_body_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid, match="broken JSON"):
        await embed("a", httpx.Response(200, headers=JSON, content=body))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [(httpx.Response(429), RateLimited), (httpx.ConnectError("x"), UpstreamDisconnected)],
)
async def test_embeddings_fail_as_chat_does(reply: Reply, kind: type[ProviderError]) -> None:
    async with client(in_turn([reply])) as made:
        with pytest.raises(kind):
            await made.embed(upstream(), "a", {}, unheard)


@virtual
async def test_embeddings_that_do_not_come() -> None:
    with pytest.raises(FirstTokenTimeout, match="no answer within 60 s"):
        await embed("a", 1000.0, first_token_s=60)
    assert loop().time() == pytest.approx(60)
