"""The OpenAPI document as a page for people: the HTML of `/docs`.

The page shows all that the document has of an operation or a type; every text is escaped, and no
script or other file is needed. An anchor stands within a folded element, because browsers then
unfold it without a script. The document is the only input.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

STYLE = (Path(__file__).parent / "static" / "reference.css").read_text(encoding="utf-8")
VERBS = ("get", "post", "put", "patch", "delete")
_CODE = re.compile(r"`([^`]+)`")
_PREFIX = "#/components/schemas/"
LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "format": "{}",
}

TITLES = {"v1": "OpenAI"}
"""Titles of tags whose names say little."""


def page(document: Mapping[str, Any]) -> str:
    """The whole page."""
    info = document["info"]
    groups = {tag["name"]: list(_operations(document, tag["name"])) for tag in document["tags"]}
    title = escape(info["title"])
    parts = "".join(_group(name, found) for name, found in groups.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} API</title><style>{STYLE}</style></head><body>"
        f'<div class="frame"><nav aria-label="Operations">{_contents(groups)}</nav><main>'
        f"<h1>{title} <small>{escape(info['version'])}</small></h1>{_prose(info['description'])}"
        '<p><a href="/openapi.json">openapi.json</a></p>'
        f"{parts}{_types(document['components']['schemas'])}</main></div></body></html>"
    )


Found = tuple[str, str, Mapping[str, Any], list[Mapping[str, Any]]]
"""path, verb, the operation, its parameters with those of its path."""


def _operations(document: Mapping[str, Any], tag: str) -> Iterable[Found]:
    for path, entry in document["paths"].items():
        shared = entry.get("parameters", [])
        for verb in VERBS:
            if verb in entry and tag in entry[verb]["tags"]:
                one = entry[verb]
                yield path, verb, one, [*shared, *one.get("parameters", [])]


def _contents(groups: Mapping[str, list[Found]]) -> str:
    lists = []
    for name, found in groups.items():
        lines = "".join(
            f'<li><a href="#{escape(one["operationId"])}">{_inline(one["summary"])}</a></li>'
            for _, _, one, _ in found
        )
        lists.append(f'<h2><a href="#{escape(name)}">{_title(name)}</a></h2><ul>{lines}</ul>')
    return "".join(lists) + '<h2><a href="#types">Types</a></h2>'


def _group(name: str, found: list[Found]) -> str:
    operations = "".join(_one(*one) for one in found)
    return f'<section id="{escape(name)}"><h2>{_title(name)}</h2>{operations}</section>'


def _title(tag: str) -> str:
    return escape(TITLES.get(tag, tag))


def _one(path: str, verb: str, one: Mapping[str, Any], parameters: list[Mapping[str, Any]]) -> str:
    body = one.get("requestBody", {}).get("content", {}).get("application/json")
    parts = [_prose(one.get("description", ""))]
    if one.get("security") == []:
        parts.append("<p>Needs no token.</p>")
    if parameters:
        rows = [_parameter(parameter) for parameter in parameters]
        parts.append(f"<h3>Parameters</h3>{_table(('name', 'type', ''), rows)}")
    if body:
        parts.append(f"<h3>Body</h3><p>{_kind(body['schema'])}</p>")
    parts.append(f"<h3>Try it</h3><pre><code>{escape(_curl(path, verb, body))}</code></pre>")
    rows = [_answer(status, answer) for status, answer in one["responses"].items()]
    parts.append(f"<h3>Answers</h3>{_table(('status', 'body', ''), rows)}")
    return (
        f'<details class="one"><summary>'
        f'<span class="verb {verb}">{verb.upper()}</span><span class="path">{escape(path)}</span>'
        f'<span class="about">{_inline(one["summary"])}</span></summary>'
        f'<div id="{escape(one["operationId"])}">{"".join(parts)}</div></details>'
    )


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, str, str]:
    name = f"<code>{escape(parameter['name'])}</code>"
    need = ' <span class="need">required</span>' if parameter["required"] else ""
    about = " · ".join(filter(None, [f"in {parameter['in']}", parameter.get("description")]))
    return name + need, _kind(parameter["schema"]), _inline(about)


def _answer(status: str, answer: Mapping[str, Any]) -> tuple[str, str, str]:
    kinds = [
        f"{_kind(content.get('schema', {}))} as <code>{escape(media)}</code>"
        if media != "application/json"
        else _kind(content.get("schema", {}))
        for media, content in answer.get("content", {}).items()
    ]
    headers = "".join(f"; header <code>{escape(name)}</code>" for name in answer.get("headers", {}))
    about = _inline(answer["description"]) + headers
    return f"<code>{status}</code>", "<br>".join(kinds) or "none", about


def _curl(path: str, verb: str, body: Mapping[str, Any] | None) -> str:
    """A command for the shell; the URL as the command line finds it."""
    method = "" if verb == "get" else f"-X {verb.upper()} "
    lines = [f'curl {method}"$ASYNCSVC_URL{path}"']
    if body is not None:
        example = json.dumps(body.get("example", {}), ensure_ascii=False)
        lines += ["  -H 'content-type: application/json'", f"  -d {shlex.quote(example)}"]
    return " \\\n".join(lines)


def _types(schemas: Mapping[str, Any]) -> str:
    types = "".join(_type(name, schemas[name]) for name in sorted(schemas))
    return f'<section id="types"><h2>Types</h2>{types}</section>'


def _type(name: str, schema: Mapping[str, Any]) -> str:
    needed = schema.get("required", [])
    rows = []
    for field, kind in schema.get("properties", {}).items():
        need = ' <span class="need">required</span>' if field in needed else ""
        about = _inline(kind.get("description", ""))
        rows.append((f"<code>{escape(field)}</code>{need}", _kind(kind), about))
    table = _table(("field", "type", ""), rows) if rows else f"<p>{_kind(schema)}</p>"
    return (
        f'<details class="one"><summary>'
        f'<span class="path">{escape(name)}</span></summary>'
        f'<div id="type-{escape(name)}">'
        f"{_prose(schema.get('description', ''))}{table}</div></details>"
    )


def _table(heads: Iterable[str], rows: Iterable[tuple[str, str, str]]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _kind(schema: Mapping[str, Any]) -> str:
    """A type in a few words, with a link where it has a name."""
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(_PREFIX))
        return f'<a href="#type-{name}">{name}</a>'
    if "allOf" in schema:
        return _kind(schema["allOf"][0])
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    kind = schema.get("type", "anything")
    if kind == "array":
        text = f"list of {_kind(schema.get('items', {}))}"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        text = f"object of {_kind(schema['additionalProperties'])}"
    else:
        text = escape(str(kind))
    limits = [limit.format(schema[name]) for name, limit in LIMITS.items() if name in schema]
    return f"{text} ({escape(', '.join(limits))})" if limits else text


def _prose(text: str) -> str:
    paragraphs = [part for part in text.split("\n\n") if part.strip()]
    return "".join(f"<p>{_inline(part)}</p>" for part in paragraphs)


def _inline(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))
