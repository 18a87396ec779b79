"""Filters with values that no honest client sends: answered in the contract's shape."""

import pytest

from tests.web.serving import Service, expect
from tests.web.wire import head, wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = "a" * 60_000
"""A head may have 64 KiB in all."""


async def found(service: Service, **query: str) -> list[str]:
    answer = await service.http.get("/tasks", params=query)
    return [task["content_preview"] for task in expect(answer, 200)["tasks"]]


async def test_a_search_takes_each_character_as_it_is(fresh: Service) -> None:
    texts = ["100%", "a_b", "axb", "50", "a\\b", "quo'te", 'double"', "nul\x00behind", "😀"]
    for text in texts:
        await fresh.submit(text, run_at="2099-01-01T00:00:00Z")
    for text in texts:
        assert await found(fresh, q=text) == [text]
    assert await found(fresh, q="%") == ["100%"]
    assert await found(fresh, q="_") == ["a_b"]
    assert await found(fresh, q="A_B") == ["a_b"]
    assert await found(fresh, q="behind") == ["nul\x00behind"]
    for nothing in ("' OR 1=1 --", "%_%", "\x00\x00", "NEAR(a b)", '"', "*"):
        assert await found(fresh, q=nothing) in ([], ['double"']), nothing


@pytest.mark.parametrize(
    "query",
    [
        f"q={LONG}",
        f"session_id={LONG}",
        f"owner={LONG}",
        f"model={LONG}",
        "q=%00",
        "session_id=%00",
        "q=%ED%A0%80",  # a lone surrogate, and below bytes that are no UTF-8
        "owner=%ED%A0%80",
        "model=%FF%FE",
        "session_id=%C3",
        "q=%",
        "q=%zz",
    ],
    ids=lambda query: query[:24],
)
async def test_a_strange_value_finds_nothing(service: Service, query: str) -> None:
    async with wire(service.port) as line:
        answer = await line.ask(head("GET", f"/tasks?{query}"))
    assert answer.status == 200
    assert b'"next_cursor"' in answer.body


@pytest.mark.parametrize(
    "query",
    [
        "&".join(f"x{number}=1" for number in range(8000)),
        f"{LONG}=1",
        f"status={LONG}",
        f"lane={LONG}",
        f"type={LONG}",
        f"limit={'9' * 50_000}",
        f"cursor={LONG}",
        "cursor=%ED%A0%80",
        "limit=%D9%A1",
        "%00=1",
    ],
    ids=lambda query: query[:24],
)
async def test_a_strange_field_is_refused_by_name(service: Service, query: str) -> None:
    async with wire(service.port) as line:
        answer = await line.ask(head("GET", f"/tasks?{query}"))
    assert answer.status == 422
    assert b'"code":"invalid_request"' in answer.body
    assert len(answer.body) < 1000


@pytest.mark.parametrize("path", ["/tasks?q=", "/tasks?x=", "/tasks/stats?", "/tasks/"])
async def test_a_megabyte_in_the_head_is_431(service: Service, path: str) -> None:
    async with wire(service.port) as line:
        answer = await line.ask(head("GET", path + "a" * (1 << 20)))
    assert answer.status == 431
