"""The operations of a WebSocket client and their fields: what is refused, and by which name."""

from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.web.serving import Service, ask

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"op": "subscribe", "all": True, "after": 3}, "after"),
    ({"op": "subscribe", "all": True, "task_id": "t"}, "task_id"),
    ({"op": "subscribe", "all": "yes"}, "all"),
    ({"op": "subscribe", "all": 1}, "all"),
    ({"op": "subscribe", "task_id": "t", "after_id": 3}, "after_id"),
    ({"op": "unsubscribe", "all": True, "task_id": "t"}, "task_id"),
    ({"op": "submit", "task": {"content": "x"}, "subscribe": "yes"}, "subscribe"),
    ({"op": "submit", "task": {"content": "x"}, "subscribe": 1}, "subscribe"),
    ({"op": "ping", "task_id": "t"}, "task_id"),
    *(
        ({"op": "subscribe", "task_id": "t", "after": x}, "after")
        for x in (-1, 1.0, "1", True, None)
    ),
    *(({"op": "subscribe", "all": True, "after_id": x}, "after_id") for x in (-1, "1", None)),
    *(({"op": name}, "op") for name in (None, ["ping"], "PING")),
    ({}, "op"),
]


async def test_a_wrong_operation_or_field_is_refused_by_name(fresh: Service) -> None:
    for message, param in REFUSED:
        async with fresh.ws() as socket:
            answer = await ask(socket, ref="r", **message)
        assert (answer["op"], answer["ref"]) == ("error", "r"), message
        assert (answer["error"]["code"], answer["error"]["param"]) == ("invalid_request", param)
    assert (await fresh.http.get("/tasks/stats")).json()["total"] == 0


@pytest.mark.parametrize("path", ["/ws/", "/ws/nothing/here", "/nope", "/tasks"])
async def test_a_socket_where_there_is_none_is_a_404_in_our_shape(
    service: Service, path: str
) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        async with service.ws(path):
            pass
    answer = refusal.value.response
    assert answer.status_code == 404
    assert b'"code":"not_found"' in (answer.body or b"")
    assert answer.headers["content-type"] == "application/json"
