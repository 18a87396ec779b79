"""Both documents as a page for people: the HTML of `/docs`.

The page shows all that the documents have of an operation, a message or a type. It can be read
without a script; its own short script adds the search, the buttons to copy, and the address that
the browser has. The documents are the only input.
"""

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from asyncsvc.web.openapi import page_sockets
from asyncsvc.web.openapi.commands import call, curl, powershell
from asyncsvc.web.openapi.page_parts import (
    about,
    command,
    entry,
    field_table,
    inline,
    need,
    prose,
    table,
    type_words,
)

STATIC = Path(__file__).parent / "static"
STYLE = (STATIC / "reference.css").read_text(encoding="utf-8")
SCRIPT = (STATIC / "reference.js").read_text(encoding="utf-8")
VERBS = ("get", "post", "put", "patch", "delete")
TITLES = {"v1": "OpenAI"}
"""Titles of tags whose names say little."""
_REFERENCE = re.compile(r"#/components/schemas/(\w+)")
Document = Mapping[str, Any]
LINKS = (
    ("/docs/try", "Try it here"),
    ("/openapi.json", "openapi.json"),
    ("/asyncapi.json", "asyncapi.json"),
    ("/", "Web page"),
)
SEARCH = (
    '<div class="search" hidden><label for="search">Search</label>'
    '<input id="search" type="search" autocomplete="off" spellcheck="false" '
    'placeholder="path, field, code …" aria-keyshortcuts="/">'
    '<p id="found" role="status"></p></div>'
)
MENU = '<input type="checkbox" id="menu"><label for="menu">All operations</label>'


def page(document: Document, sockets: Document, tokens: bool = False) -> str:
    """The whole page; `tokens`: whether the service has tokens in use, which commands then send."""
    info = document["info"]
    groups = {tag["name"]: list(_operations(document, tag["name"])) for tag in document["tags"]}
    title = escape(info["title"])
    schemas = {**sockets["components"]["schemas"], **document["components"]["schemas"]}
    parts = [_group(tag, groups[tag["name"]], schemas, tokens) for tag in document["tags"]]
    parts += [page_sockets.section(sockets, tokens), _errors(document)]
    parts.append(_types(schemas, _given(document, sockets)))
    links = "".join(f'<li><a href="{path}">{words}</a></li>' for path, words in LINKS)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{title} API</title><style>{STYLE}</style></head><body>"
        '<a class="skip" href="#main">Skip to the operations</a>'
        f'<div class="frame"><nav aria-label="Operations">{SEARCH}{MENU}'
        f'<div class="contents">{_contents(groups, sockets)}</div></nav><main id="main">'
        f'<h1>{title} <small>{escape(info["version"])}</small></h1><ul class="links">{links}</ul>'
        f'<section id="about">{prose(info["description"])}</section>'
        f"{''.join(parts)}</main></div><script>{SCRIPT}</script></body></html>"
    )


Found = tuple[str, str, Mapping[str, Any], list[Mapping[str, Any]]]
"""path, verb, the operation, its parameters with those of its path."""


def _operations(document: Document, tag: str) -> Iterable[Found]:
    """The operations of a tag: parts of the API as they come, in each of them by path."""
    parts = {path: _part(path) for path in document["paths"]}
    places = list(dict.fromkeys(parts.values()))
    for path in sorted(parts, key=lambda path: (places.index(parts[path]), path)):
        item = document["paths"][path]
        shared = item.get("parameters", [])
        for verb in VERBS:
            if verb in item and tag in item[verb]["tags"]:
                one = item[verb]
                yield path, verb, one, [*shared, *one.get("parameters", [])]


def _part(path: str) -> str:
    """The beginning of a path that it has in common with those beside it."""
    segments = path.split("/")
    return "/".join(segments[: 3 if segments[1] in TITLES else 2])


def _contents(groups: Mapping[str, list[Found]], sockets: Document) -> str:
    lists = []
    for name, found in groups.items():
        lines = "".join(
            f'<li><a href="#{escape(one["operationId"])}">{_verb(verb)}'
            f'<span class="path">{_breakable(path)}</span></a></li>'
            for path, verb, one, _ in found
        )
        lists.append(f'<h2><a href="#{escape(name)}">{_title(name)}</a></h2><ul>{lines}</ul>')
    lines = "".join(
        f'<li><a href="#{escape(anchor)}"><span class="path">{escape(words)}</span></a></li>'
        for anchor, words in page_sockets.contents(sockets)
    )
    lists.append(f'<h2><a href="#{page_sockets.ID}">WebSocket</a></h2><ul>{lines}</ul>')
    return "".join(lists) + (
        '<h2><a href="#errors">Error codes</a></h2><h2><a href="#types">Types</a></h2>'
    )


def _breakable(path: str) -> str:
    """A path that may be broken before a slash."""
    return escape(path).replace("/", "<wbr>/")


def _verb(verb: str) -> str:
    return f'<span class="verb {verb}">{verb.upper()}</span>'


def _group(
    tag: Mapping[str, str], found: list[Found], schemas: Mapping[str, Any], tokens: bool
) -> str:
    operations = "".join(_one(*one, tag["name"], schemas, tokens) for one in found)
    name, words = escape(tag["name"]), inline(tag["description"])
    return (
        f'<section id="{name}"><h2>{_title(tag["name"])}</h2><p>{words}</p>{operations}</section>'
    )


def _title(tag: str) -> str:
    return escape(TITLES.get(tag, tag.capitalize()))


def _one(
    path: str,
    verb: str,
    one: Mapping[str, Any],
    parameters: list[Mapping[str, Any]],
    tag: str,
    schemas: Mapping[str, Any],
    tokens: bool,
) -> str:
    made = call(path, verb, one, schemas, tokens)
    target = f"/docs/try#/{tag}/{one['operationId'].replace('_', '-')}"
    parts = [
        prose(one.get("description", "")),
        f'<p>{inline(_scope(one))} <a href="{escape(target)}">Try it here</a></p>'
        f'<div class="try">{command("curl", "curl", curl(made))}'
        f"{command('powershell', 'PowerShell', powershell(made))}</div>",
    ]
    if parameters:
        rows = [_parameter(parameter) for parameter in parameters]
        parts.append(f"<h3>Parameters</h3>{table(('name', 'type', 'meaning'), rows)}")
    parts.append(_body(one, schemas))
    parts.append(_answers(one))
    head = f'{_verb(verb)}<span class="path">{_breakable(path)}</span>{about(one["summary"])}'
    return entry(one["operationId"], head, "".join(parts))


def _scope(one: Mapping[str, Any]) -> str:
    if one.get("security") == []:
        return "Needs no token."
    return f"Needs the scope `{one['x-scope']}`, where tokens are in use."


def _body(one: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """The type of the body with its fields; nothing where there is none."""
    if "x-upload" in one:
        return "<h3>Body</h3><p>JSON lines, one task each.</p>"
    body = one.get("requestBody")
    if body is None:
        return ""
    ((media, content),) = body["content"].items()
    form = f" as <code>{escape(media)}</code>" if media != "application/json" else ""
    optional = "" if body["required"] else ", may be left out"
    kind = content["schema"]
    fields = field_table(schemas[kind["$ref"].rpartition("/")[2]]) if "$ref" in kind else ""
    return f"<h3>Body</h3><p>{type_words(kind)}{form}{optional}</p>{fields}"


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, str, str]:
    name = f"<code>{escape(parameter['name'])}</code>{need(parameter['required'])}"
    words = " · ".join(filter(None, [f"in {parameter['in']}", parameter.get("description")]))
    return name, type_words(parameter["schema"]), inline(words)


def _answers(one: Mapping[str, Any]) -> str:
    """Answers and refusals of an operation; the codes of refusals lead to their meaning."""
    rows, refusals = [], []
    for status, answer in one["responses"].items():
        codes = _codes(answer)
        if codes:
            links = ", ".join(f'<a href="#error-{code}">{code}</a>' for code in codes)
            refusals.append((f"<code>{status}</code>", links))
        if not codes or status < "300":
            rows.append(_answer(status, answer))
    shown = f"<h3>Answers</h3>{table(('status', 'body', 'meaning'), rows)}"
    return shown + f"<h3>Errors</h3>{table(('status', 'codes'), refusals)}"


def _codes(answer: Mapping[str, Any]) -> list[str]:
    """The codes with which an answer refuses; none of one that refuses nothing."""
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    narrowed = schema.get("allOf", [{}])[-1].get("properties", {}).get("error", {})
    found: list[str] = narrowed.get("properties", {}).get("code", {}).get("enum", [])
    return found


def _answer(status: str, answer: Mapping[str, Any]) -> tuple[str, str, str]:
    kinds = [
        f"{type_words(content.get('schema', {}))} as <code>{escape(media)}</code>"
        if media != "application/json"
        else type_words(content.get("schema", {}))
        for media, content in answer.get("content", {}).items()
    ]
    headers = "".join(f"; header <code>{escape(name)}</code>" for name in answer.get("headers", {}))
    words = inline(answer["description"]) + headers
    return f"<code>{status}</code>", "<br>".join(kinds) or "none", words


def _errors(document: Document) -> str:
    """Every code with its meaning: of requests, and of tasks that failed."""
    requests = [
        (_code(f"error-{one['code']}", one["code"]), str(one["status"]), inline(one["meaning"]))
        for one in document["x-error-codes"]
    ]
    tasks = [
        (
            _code(f"task-error-{one['code']}", one["code"]),
            "yes" if one["retryable"] else "no",
            inline(one["meaning"]),
        )
        for one in document["x-task-error-codes"]
    ]
    return (
        '<section id="errors"><h2>Error codes</h2><p>Every refusal has the shape '
        f"{type_words({'$ref': '#/components/schemas/Refusal'})}; programs read its "
        "<code>code</code>.</p><h3>Of requests</h3>"
        f"{table(('code', 'status', 'meaning'), requests)}"
        "<h3>Of failed tasks</h3><p>In <code>error.code</code> of a task whose status is "
        "<code>failed</code>.</p>"
        f"{table(('code', 'a retry can help', 'meaning'), tasks)}</section>"
    )


def _code(anchor: str, code: str) -> str:
    return f'<code id="{escape(anchor)}">{escape(code)}</code>'


def _given(document: Document, sockets: Document) -> set[str]:
    """The names of the types that a client gives: in bodies and operations, and within those."""
    asked = [one.get("requestBody") for item in document["paths"].values() for one in item.values()
             if isinstance(one, dict)]  # fmt: skip
    asked += [one["payload"] for one in sockets["components"]["messages"].values()
              if "examples" in one and not one["name"].startswith("event_")]  # fmt: skip
    schemas, found = document["components"]["schemas"], set[str]()
    while asked:
        new = set(_REFERENCE.findall(json.dumps(asked.pop()))) - found
        found |= new
        asked += [schemas[name] for name in new if name in schemas]
    return found


def _types(schemas: Mapping[str, Any], given: set[str]) -> str:
    types = "".join(_type(name, schemas[name], name in given) for name in sorted(schemas))
    return f'<section id="types"><h2>Types</h2>{types}</section>'


def _type(name: str, schema: Mapping[str, Any], given: bool) -> str:
    words = schema.get("description", "")
    fields = field_table(schema, given=given) or f"<p>{type_words(schema)}</p>"
    head = f'<span class="path">{escape(name)}</span>{about(words.split(chr(10))[0])}'
    return entry(f"type-{name}", head, prose(words) + fields)
