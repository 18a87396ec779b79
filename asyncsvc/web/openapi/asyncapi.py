"""The AsyncAPI 3.0 document of the WebSockets, from their routes and the tables of messages.

The channels are the routes that are WebSockets; the messages are those of `OPERATIONS` and
`EVENTS`, answers, errors and alarms. `routes` imports this module when a client first asks.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.routing import BaseRoute

from asyncsvc import __version__
from asyncsvc.access import Permission
from asyncsvc.tasks.state import EventType
from asyncsvc.web.http.auth import BEARER_PROTOCOL, SUBPROTOCOL
from asyncsvc.web.http.resources import JSON_MEDIA, SocketResource
from asyncsvc.web.http.sockets import CLOSE_CODES
from asyncsvc.web.openapi.json_schemas import Schemas
from asyncsvc.web.openapi.words import words
from asyncsvc.web.tasks.event_schemas import ENVELOPE, EVENTS, PROGRESS, AlarmChange, LiveEvent
from asyncsvc.web.tasks.schemas import Fault
from asyncsvc.web.tasks.socket_operations import EXAMPLE_ID, OPERATIONS, SocketOperation

ABOUT = f"""\
The WebSockets of asyncsvc: follow tasks, submit and steer them. The HTTP calls are in
`/openapi.json`.

A message of a client is an operation: a JSON object with `op`, its fields, and a `ref` of any kind
that comes back in the answer. What the service sends has `op` (`ok`, `error`, `alarm`) or is an
event, which has `type`. An event is sent once it is on the disk, and can be read again from any
cursor (`after` within one task, `after_id` over all tasks), also after a restart; `progress` alone
is live only.

Where tokens are set, the request that opens the socket needs `Authorization: Bearer`; a browser
offers the subprotocols `{SUBPROTOCOL}` and `{BEARER_PROTOCOL}TOKEN`. A token is never taken from a
URL.
"""
REF_FIELD = {"description": "comes back in the answer as it is; may be left out"}
PARAMETERS = {"task_id": "a task's id"}
"""The parameters of the addresses, in words."""
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "chunk": {"text": "你好"},
    "status": {"status": "running", "cause": "started"},
    PROGRESS: {
        "status": "pending", "elapsed_s": 1.6, "position": 3, "eta_s": 4.5, "reason": "rate",
    },
}  # fmt: skip
"""Data of events, as examples."""


def asyncapi(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """The document of the WebSockets among these routes."""
    sockets = [
        route
        for route in routes
        if isinstance(route, SocketResource) and Permission.OPEN not in route.scopes
    ]
    kinds = [kind for one in OPERATIONS.values() for kind in one.answers]
    parts = [one.takes for one in OPERATIONS.values()] + [ENVELOPE, LiveEvent]
    queries = [socket.query for socket in sockets if socket.query]
    schemas = Schemas([Fault, AlarmChange, *EVENTS.values(), *kinds], [*parts, *queries])
    messages = _operations(schemas) | _sent(schemas)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "asyncsvc",
            "version": __version__,
            "description": ABOUT,
            "license": {
                "name": "Apache License 2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
        },
        "defaultContentType": JSON_MEDIA,
        "servers": {"plain": _server("ws"), "tls": _server("wss")},
        "channels": {_name(socket): _channel(socket, schemas, messages) for socket in sockets},
        "operations": {
            key: one for socket in sockets for key, one in _of_channel(_name(socket)).items()
        },
        "components": {
            "messages": messages,
            "schemas": _draft_07(
                {n: one for n, one in schemas.named().items() if n != EventType.__name__}
            ),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "one of the service's tokens, where it has any",
                }
            },
        },
        "x-close-codes": [{"code": code, "meaning": why} for code, why in CLOSE_CODES.items()],
    }


def _server(protocol: str) -> dict[str, Any]:
    return {
        "host": "{host}",
        "protocol": protocol,
        "variables": {"host": {"default": "127.0.0.1:8000", "description": "host and port"}},
        "security": [{"$ref": "#/components/securitySchemes/bearer"}],
    }


def _name(socket: SocketResource) -> str:
    """The channel's name: the fixed parts of its path."""
    return "_".join(part for part in socket.path.split("/") if part and part[0] != "{")


def _channel(
    socket: SocketResource, schemas: Schemas, messages: Mapping[str, Any]
) -> dict[str, Any]:
    summary, description = words("GET", socket.endpoint)
    names = [part[1:-1] for part in socket.path.split("/") if part[:1] == "{"]
    offered = f"`{SUBPROTOCOL}, {BEARER_PROTOCOL}TOKEN`: how a browser gives its token"
    binding: dict[str, Any] = {
        "bindingVersion": "0.1.0",
        "method": "GET",
        "headers": {
            "type": "object",
            "properties": {"Sec-WebSocket-Protocol": {"type": "string", "description": offered}},
        },
    }
    if socket.query:
        binding["query"] = {"type": "object", "properties": schemas.fields(socket.query)}
    found: dict[str, Any] = {
        "address": socket.path,
        "summary": summary,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"ws": binding},
        "x-scopes": [scope.value for scope in socket.scopes],
    }
    if names:
        found["parameters"] = {name: {"description": PARAMETERS[name]} for name in names}
    return found


def _of_channel(channel: str) -> dict[str, Any]:
    """The operations of a channel: what the service receives and answers, and what it sends."""

    def one(action: str, *names: str) -> dict[str, Any]:
        return {
            "action": action,
            "channel": {"$ref": f"#/channels/{channel}"},
            "messages": _refs(channel, names),
        }

    found = {}
    for op, declared in OPERATIONS.items():
        reply = {
            "channel": {"$ref": f"#/channels/{channel}"},
            "messages": _refs(channel, (f"{op}_answer", "error")),
        }
        about = {"summary": _about(declared.takes), "x-scope": declared.scope.value}
        found[f"{channel}_{op}"] = one("receive", op) | about | {"reply": reply}
    events = [f"event_{kind}" for kind in EVENTS]
    found[f"{channel}_events"] = one("send", *events) | {"summary": "What happens to a task."}
    found[f"{channel}_alarms"] = one("send", "alarm") | {"summary": _about(AlarmChange)}
    return found


def _refs(channel: str, names: Iterable[str]) -> list[dict[str, str]]:
    return [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names]


def _about(kind: Any) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def _operations(schemas: Schemas) -> dict[str, Any]:
    """The messages of a client and the answers to them."""
    found: dict[str, Any] = {}
    for op, declared in OPERATIONS.items():
        found[op] = _taken(op, declared, schemas)
        choices = [schemas.of(kind) for kind in declared.answers]
        found[f"{op}_answer"] = _message(
            f"{op}_answer",
            f"The answer to `{op}`.",
            {
                "type": "object",
                "properties": {"op": {"const": "ok"}, "ref": REF_FIELD},
                "required": ["op", "ref"],
                **({"anyOf": choices} if len(choices) > 1 else {"allOf": choices}),
            },
        )
    return found


def _taken(op: str, declared: SocketOperation, schemas: Schemas) -> dict[str, Any]:
    schema = schemas.whole(declared.takes)
    payload = {
        "type": "object",
        "properties": {"op": {"const": op}, "ref": REF_FIELD, **schema.get("properties", {})},
        "required": ["op", *schema.get("required", [])],
        "additionalProperties": False,
    }
    found = _message(op, _about(declared.takes), payload)
    found["examples"] = [{"payload": {"op": op, "ref": "r1", **declared.example}}]
    return found


def _sent(schemas: Schemas) -> dict[str, Any]:
    """The messages that the service sends by itself, and errors."""
    found = {
        "error": _message(
            "error",
            "An operation was refused; `ref` is that of the operation.",
            _object(op={"const": "error"}, ref=REF_FIELD, error=schemas.of(Fault)),
        ),
        "alarm": _message(
            "alarm",
            _about(AlarmChange),
            _object(op={"const": "alarm"}, alarm=schemas.of(AlarmChange)),
        ),
    }
    for kind, data in EVENTS.items():
        around = schemas.fields(LiveEvent if kind == PROGRESS else ENVELOPE)
        payload = _object(**around | {"type": {"const": kind}, "data": schemas.of(data)})
        one = found[f"event_{kind}"] = _message(f"event_{kind}", _about(data), payload)
        if kind in EXAMPLES:
            number = None if kind == PROGRESS else 7
            event: dict[str, Any] = {
                "id": number and 4711,
                "task_id": EXAMPLE_ID,
                "seq": number,
                "type": kind,
            }
            event |= {"ts": "2026-11-30T08:00:00.000Z", "data": EXAMPLES[kind]}
            one["examples"] = [{"payload": event}]
    return found


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _message(name: str, summary: str, payload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "summary": summary, "payload": _draft_07(payload)}
    if not name.startswith(("event_", "alarm")):
        found["correlationId"] = {"location": "$message.payload#/ref"}
    return found


def _draft_07(schema: Any) -> Any:
    """The schema in the words of JSON Schema draft 07, whose tuples are lists of `items`."""
    if isinstance(schema, list):
        return [_draft_07(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _draft_07(value) for name, value in schema.items()}
    if isinstance(found.get("prefixItems"), list):
        found["items"] = found.pop("prefixItems")
    return found
