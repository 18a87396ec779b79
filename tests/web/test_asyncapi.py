"""The document of the WebSockets: valid, complete, and made of what the service really uses."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import Draft7Validator

from asyncsvc.access import Permission
from asyncsvc.providers.agents import RunState
from asyncsvc.tasks.state import EventType
from asyncsvc.web.http import sockets
from asyncsvc.web.http.resources import SocketResource
from asyncsvc.web.openapi.asyncapi import asyncapi
from asyncsvc.web.tasks.event_schemas import EVENTS, PROGRESS, RecoveryData
from asyncsvc.web.tasks.socket_operations import OPERATIONS
from asyncsvc.web.tasks.steering import VERBS
from tests.web.description import ROUTES, message_as_described
from tests.web.serving import Service, expect

SCHEMA = Path(__file__).parent.parent / "data/asyncapi-3.0.0.json"
TASK = "01890000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return asyncapi(ROUTES)


def test_it_is_asyncapi_3(described: dict[str, Any]) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert [fault.message for fault in Draft7Validator(schema).iter_errors(described)] == []
    wrong = described | {"channels": {"ws": {"adress": "/ws"}}}
    assert not Draft7Validator(schema).is_valid(wrong)


def test_each_socket_is_a_channel_and_conversely(described: dict[str, Any]) -> None:
    served = [
        route.path
        for route in ROUTES
        if isinstance(route, SocketResource) and Permission.OPEN not in route.scopes
    ]
    assert sorted(one["address"] for one in described["channels"].values()) == sorted(served)
    task = described["channels"]["ws_tasks"]
    assert task["parameters"].keys() == {"task_id"}
    assert task["bindings"]["ws"]["query"]["properties"].keys() == {"after"}


def test_each_operation_and_event_is_described_and_conversely(described: dict[str, Any]) -> None:
    messages = described["components"]["messages"].keys()
    events = {kind.value for kind in EventType} | {PROGRESS}
    assert {name for name in messages if name.startswith("event_")} == {
        f"event_{kind}" for kind in events
    }
    asked = set(OPERATIONS)
    assert messages - {f"event_{kind}" for kind in events} == (
        asked | {f"{op}_answer" for op in asked} | {"error", "alarm"}
    )
    for channel in described["channels"]:
        received = {
            one["messages"][0]["$ref"].rpartition("/")[2]
            for one in described["operations"].values()
            if one["action"] == "receive" and one["channel"]["$ref"] == f"#/channels/{channel}"
        }
        assert received == asked


def test_the_tables_are_of_what_the_code_knows() -> None:
    assert EVENTS.keys() == {kind.value for kind in EventType} | {PROGRESS}
    assert VERBS.keys() < OPERATIONS.keys()
    for name, verb in VERBS.items():
        assert OPERATIONS[name].fields == verb.fields | {"task_id"}
    (steps,) = re.findall(r"Literal\[(.*?)\]", str(RecoveryData.__annotations__["step"]))
    assert set(re.findall(r"\w+", steps)) == {*RunState, "asking", "aborted"}


def test_each_close_code_has_its_meaning(described: dict[str, Any]) -> None:
    named = {
        value
        for name, value in vars(sockets).items()
        if name.isupper() and type(value) is int and (1000 <= value < 1016 or value >= 4000)
    } - {sockets.SHARED_BYTES}
    assert {one["code"] for one in described["x-close-codes"]} == named == {*sockets.CLOSE_CODES}


def test_every_reference_leads_somewhere_and_every_type_is_used(described: dict[str, Any]) -> None:
    text = json.dumps(described)
    for reference in set(re.findall(r'"#/([^"]+)"', text)):
        found: Any = described
        for part in reference.split("/"):
            found = found[part]
    mentioned = set(re.findall(r"#/components/schemas/(\w+)", text))
    assert mentioned == described["components"]["schemas"].keys()


def test_each_example_is_as_its_message_is_described(described: dict[str, Any]) -> None:
    components = {"components": {"schemas": described["components"]["schemas"]}}
    shown = {
        name: example["payload"]
        for name, one in described["components"]["messages"].items()
        for example in one.get("examples", ())
    }
    assert shown.keys() >= {*OPERATIONS, "event_chunk", "event_status", "event_progress"}
    for name, payload in shown.items():
        schema = described["components"]["messages"][name]["payload"] | components
        assert [fault.message for fault in Draft7Validator(schema).iter_errors(payload)] == []


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ({"op": "news", "ref": None}, "not described"),
        ({"op": "ok", "ref": None, "more": 1}, "not valid"),
        ({"op": "error", "ref": None}, "required"),
        ({"type": "wonder"}, "not described"),
        ({"id": 1, "task_id": TASK, "seq": 1, "type": "chunk", "ts": "x", "data": {}}, "required"),
        (
            {"id": 1, "task_id": TASK, "seq": 1, "type": "chunk", "ts": "x",
             "data": {"text": "a", "more": 1}},
            "more",
        ),
    ],
)  # fmt: skip
def test_a_message_that_is_not_described_is_found(message: dict[str, Any], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        message_as_described(message)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_service_gives_the_document(service: Service, described: Any) -> None:
    assert expect(await service.http.get("/asyncapi.json"), 200) == described
