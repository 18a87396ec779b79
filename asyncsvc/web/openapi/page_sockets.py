"""The part of `/docs` about the WebSockets, from the AsyncAPI document."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from asyncsvc.web.openapi.commands import ORIGIN, TOKEN
from asyncsvc.web.openapi.page_parts import (
    about,
    command,
    entry,
    field_table,
    inline,
    prose,
    table,
    type_words,
)

ID = "websocket"
ADDRESS = ORIGIN.replace("http", "ws", 1) + "/ws"
SUBSCRIBE = '{"op": "subscribe", "all": true}'
Document = Mapping[str, Any]


def contents(document: Document) -> Iterator[tuple[str, str]]:
    """(anchor, title) of each operation and event, for the list at the side."""
    yield "ws-connect", "connect"
    for op in _operations(document):
        yield f"ws-{op}", op
    for kind in _events(document):
        yield f"event-{kind}", f"event {kind}"
    yield "ws-alarm", "alarm"
    yield "close-codes", "close codes"


def section(document: Document, tokens: bool) -> str:
    """The whole part; `tokens`: whether the service has tokens in use."""
    operations = "".join(_operation(document, op, one) for op, one in _operations(document).items())
    events = "".join(_event(document, kind) for kind in _events(document))
    codes = [(f"<code>{one['code']}</code>", inline(one["meaning"]))
             for one in document["x-close-codes"]]  # fmt: skip
    return (
        f'<section id="{ID}"><h2>WebSocket</h2>{prose(document["info"]["description"])}'
        f"{_connect(document, tokens)}<h3>Operations</h3>{operations}"
        f"<h3>Events</h3>{events}<h3>Other messages</h3>{_alarm(document)}"
        f'<h3 id="close-codes">Close codes</h3>{table(("code", "meaning"), codes)}</section>'
    )


def _operations(document: Document) -> dict[str, Any]:
    """The operations of the first channel, by name; the other channels have the same."""
    channel = next(iter(document["channels"]), "")
    return {
        one["messages"][0]["$ref"].rpartition("/")[2]: one
        for name, one in document["operations"].items()
        if one["action"] == "receive" and name.startswith(f"{channel}_")
        and one["channel"]["$ref"] == f"#/channels/{channel}"
    }  # fmt: skip


def _events(document: Document) -> list[str]:
    names = document["components"]["messages"]
    return [name.removeprefix("event_") for name in names if name.startswith("event_")]


def _connect(document: Document, tokens: bool) -> str:
    rows = [
        (
            f"<code>{escape(one['address'])}</code>",
            f"{inline(one['summary'])}. {inline(one['description'].rstrip('.'))}.",
            " or ".join(f"<code>{scope}</code>" for scope in one["x-scopes"]),
        )
        for one in document["channels"].values()
    ]
    offered = ', ["asyncsvc", `bearer.${token}`]' if tokens else ""
    script = (
        f'const socket = new WebSocket("{ADDRESS}"{offered});\n'
        f"socket.onopen = () => socket.send('{SUBSCRIBE}');\n"
        "socket.onmessage = (message) => console.log(JSON.parse(message.data));"
    )
    headers = f'additional_headers={{"Authorization": f"Bearer {{os.environ["{TOKEN}"]}}"}}'
    given = f",\n             {headers}" if tokens else ""
    python = (
        f"{'import os' + chr(10) if tokens else ''}from websockets.sync.client import connect\n\n"
        f'with connect("{ADDRESS}"{given}) as socket:\n'
        f"    socket.send('{SUBSCRIBE}')\n"
        "    for message in socket:\n"
        "        print(message)"
    )
    shown = table(("address", "what for", "scope"), rows)
    return (
        f'<div id="ws-connect"><h3>Connect</h3>{shown}<div class="try">'
        f"{command('javascript', 'JavaScript', script)}{command('python', 'Python', python)}"
        "</div></div>"
    )


def _operation(document: Document, op: str, one: Mapping[str, Any]) -> str:
    messages = document["components"]["messages"]
    message, answer = messages[op], messages[f"{op}_answer"]["payload"]
    example = json.dumps(message["examples"][0]["payload"], ensure_ascii=False)
    scope = one["x-scope"]
    needs = "Needs no scope." if scope == "open" else f"Needs the scope `{scope}`."
    given = " or ".join(type_words(kind) for kind in answer.get("anyOf", answer.get("allOf")))
    fields = field_table(message["payload"], skip=("op", "ref"))
    body = (
        f"<p>{inline(one['summary'])} {inline(needs)}</p>"
        + (f"<h4>Fields</h4>{fields}" if fields else "")
        + f'<h4>Example</h4><div class="try">{command("json", "message", example)}</div>'
        + f'<h4>Answer</h4><p><code>op</code>: <code>"ok"</code>, <code>ref</code>, and the '
        f'fields of {given}. Refused: <code>op</code>: <code>"error"</code>, <code>ref</code>, '
        f"and <code>error</code>, a {type_words(_ref('Fault'))}.</p>"
    )
    return entry(f"ws-{op}", _head("op", op) + about(one["summary"]), body)


def _event(document: Document, kind: str) -> str:
    message = document["components"]["messages"][f"event_{kind}"]
    data = message["payload"]["properties"]["data"]["$ref"].rpartition("/")[2]
    schema = document["components"]["schemas"][data]
    rest = " ".join(schema.get("description", "").split("\n\n")[1:])
    shown = "".join(
        f'<h4>Example</h4><div class="try">{command("json", "message", text)}</div>'
        for one in message.get("examples", ())
        for text in [json.dumps(one["payload"], ensure_ascii=False)]
    )
    body = f"<p>{inline(message['summary'])} {inline(rest)}</p>"
    body += f"<h4>data</h4>{field_table(schema, given=False)}{shown}"
    return entry(f"event-{kind}", _head("event", kind) + about(message["summary"]), body)


def _alarm(document: Document) -> str:
    message = document["components"]["messages"]["alarm"]
    fields = field_table(document["components"]["schemas"]["AlarmChange"], given=False)
    body = f"<p>{inline(message['summary'])} It is sent with the feed of all tasks.</p>"
    body += f"<h4>alarm</h4>{fields}"
    return entry("ws-alarm", _head("op", "alarm") + about(message["summary"]), body)


def _head(kind: str, name: str) -> str:
    return f'<span class="verb {kind}">{kind}</span><span class="path">{escape(name)}</span>'


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
