"""Pieces of the HTML of `/docs`: texts, tables, types in a few words, folded entries, commands.

Every text is escaped. An anchor stands within a folded element, because browsers then unfold it
without a script.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from asyncsvc.web.openapi.commands import ORIGIN

Schema = Mapping[str, Any]
Row = Sequence[str]
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
    "minProperties": "at least {} entries",
    "maxProperties": "at most {} entries",
    "format": "{}",
}
LARGE = 1 << 53
"""A number beyond this one is no limit for people."""


def inline(text: str) -> str:
    """A text in which `code` is code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def prose(text: str) -> str:
    """A text of several paragraphs."""
    paragraphs = [part for part in text.split("\n\n") if part.strip()]
    return "".join(f"<p>{inline(part)}</p>" for part in paragraphs)


def table(heads: Sequence[str], rows: Iterable[Row]) -> str:
    """A table; a narrow screen shows a row as a block. An empty head names nothing."""
    head = "".join(f'<th scope="col">{name}</th>' if name else "<td></td>" for name in heads)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def field_table(schema: Schema, skip: Iterable[str] = (), given: bool = True) -> str:
    """The fields of an object, those that are always there first; no table where it lists none.
    `given`: a client gives the object, so that fields are required; else some may be absent."""
    needed, skipped = schema.get("required", []), set(skip)
    fields = [one for one in schema.get("properties", {}).items() if one[0] not in skipped]
    fields.sort(key=lambda one: one[0] not in needed)
    rows = [
        (
            f"<code>{escape(name)}</code>{_sign(name in needed, given)}",
            type_words(kind),
            inline(kind.get("description", "")),
        )
        for name, kind in fields
    ]
    return table(("field", "type", "meaning"), rows) if rows else ""


def _sign(needed: bool, given: bool) -> str:
    if given:
        return need(needed)
    return "" if needed else ' <span class="may">optional</span>'


def need(required: bool) -> str:
    """A sign behind the name of a field that must be given."""
    return ' <span class="need">required</span>' if required else ""


def type_words(schema: Schema) -> str:
    """A type in a few words, with a link where it has a name."""
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(_PREFIX))
        return f'<a href="#type-{name}">{name}</a>'
    for together in ("anyOf", "allOf"):
        if together in schema:
            words = dict.fromkeys(type_words(one) for one in schema[together])
            return " or ".join(words) if together == "anyOf" else next(iter(words))
    if "enum" in schema:
        return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    kind = schema.get("type", "anything")
    items = schema.get("prefixItems", schema.get("items", {}))
    if isinstance(items, list):
        return f"[{', '.join(type_words(one) for one in items)}]"
    if kind == "array":
        text = f"list of {type_words(items)}"
    elif kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        text = f"object of {type_words(schema['additionalProperties'])}"
    else:
        text = escape(str(kind))
    limits = [_limit(name, schema[name]) for name in LIMITS if name in schema]
    limits = [one for one in limits if one]
    return f"{text} ({escape(', '.join(limits))})" if limits else text


def _limit(name: str, value: Any) -> str:
    """A limit in words; none for one that no number reaches."""
    if name in ("minLength", "minItems", "minProperties") and value == 1:
        return "not empty"
    return "" if isinstance(value, int) and value > LARGE else LIMITS[name].format(value)


def entry(anchor: str, head: str, body: str) -> str:
    """A folded part of the page with an anchor."""
    return (
        f'<details class="one"><summary>{head}</summary>'
        f'<div id="{escape(anchor)}">{body}</div></details>'
    )


def about(words: str) -> str:
    """What a folded part is about, behind its name."""
    return f'<span class="about">{inline(words.rstrip("."))}</span>'


def command(kind: str, label: str, text: str) -> str:
    """A text to copy; of several kinds that follow each other the script shows one."""
    shown = escape(text)
    for scheme, name in (("http", "origin"), ("ws", "origin ws")):
        address = ORIGIN.replace("http", scheme, 1)
        shown = shown.replace(address, f'<span class="{name}">{address}</span>')
    return (
        f'<div class="command" data-kind="{kind}" data-label="{label}">'
        f'<p class="label">{label}</p><pre tabindex="0"><code>{shown}</code></pre></div>'
    )
