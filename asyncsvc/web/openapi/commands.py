"""The commands that make a call: for curl in a POSIX shell, and for PowerShell 7 on Windows.

Made from an operation of the OpenAPI document. `ORIGIN` stands for the address of the service,
which the page's script replaces by the address that the browser has; a parameter of a path stands
in capitals, as curl expands braces.
"""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ORIGIN = "http://127.0.0.1:8000"
TOKEN = "ASYNCSVC_TOKEN"
"""The variable with the token, as the command line reads it."""
STREAM = "text/event-stream"
JSON, FORM = "application/json", "multipart/form-data"
SAVED = {
    "application/vnd.sqlite3": "copy.db",
    "application/x-ndjson": "tasks.jsonl",
    "application/octet-stream": "content",
}
"""Under which name an answer that is no text for people is saved, by its type."""
UPLOAD = "requests.jsonl"
Operation = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """What the commands need to know of an operation."""

    method: str
    url: str
    token: bool
    stream: bool
    """Whether it is asked for server-sent events."""
    body: str | None
    form: Mapping[str, str]
    """Fields of a form; a value that begins with @ is a file."""
    upload: str | None
    """A file that is the body."""
    save: str | None


def call(path: str, verb: str, one: Operation, schemas: Mapping[str, Any], token: bool) -> Call:
    """The call of an operation; `token`: whether the service has tokens in use."""
    content = one.get("requestBody", {}).get("content", {})
    example = content.get(JSON, {}).get("example", {})
    media = [kind for answer in _successes(one) for kind in answer.get("content", {})]
    return Call(
        method=verb.upper(),
        url=ORIGIN + re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), path),
        token=token and one.get("security") != [],
        stream=verb == "get" and STREAM in media and JSON not in media,
        body=json.dumps(example, ensure_ascii=False) if JSON in content else None,
        form=_form(content[FORM]["schema"], schemas) if FORM in content else {},
        upload=one.get("x-upload"),
        save=SAVED.get(media[0]) if media and STREAM not in media else None,
    )


def _successes(one: Operation) -> list[Mapping[str, Any]]:
    return [answer for status, answer in one["responses"].items() if status < "300"]


def _form(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, str]:
    """The required fields of a form, with a value of each."""
    kind = schemas[schema["$ref"].rpartition("/")[2]]
    found = {}
    for name in kind["required"]:
        field = kind["properties"][name]
        binary = field.get("format") == "binary" or "contentMediaType" in field
        found[name] = f"@{UPLOAD}" if binary else str(field.get("const") or field["enum"][0])
    return found


def curl(one: Call) -> str:
    """The command for a POSIX shell."""
    first = ["curl"]
    if one.stream:
        first.append("-N")
    if one.method != "GET":
        first.append(f"-X {one.method}")
    lines = [" ".join([*first, shlex.quote(one.url)])]
    if one.token:
        lines.append(f'-H "Authorization: Bearer ${TOKEN}"')
    if one.stream:
        lines.append(f"-H {shlex.quote(f'accept: {STREAM}')}")
    if one.body is not None:
        lines.append(f"-H {shlex.quote(f'content-type: {JSON}')}")
        lines.append(f"-d {shlex.quote(one.body)}")
    lines += [f"-F {shlex.quote(f'{name}={value}')}" for name, value in one.form.items()]
    if one.upload:
        lines.append(f"--data-binary @{one.upload}")
    if one.save:
        lines.append(f"-o {one.save}")
    return " \\\n  ".join(lines)


def powershell(one: Call) -> str:
    """The command for PowerShell 7 on Windows."""
    if one.stream:  # Invoke-RestMethod gives nothing before the end of a stream
        lines = [f"curl.exe -N {quoted(one.url)}"]
        lines += [f'-H "Authorization: Bearer $env:{TOKEN}"'] if one.token else []
        lines.append(f"-H {quoted(f'accept: {STREAM}')}")
        return " `\n  ".join(lines)
    method = one.method.capitalize()
    lines = [f"Invoke-RestMethod -Method {method} -Uri {quoted(one.url)}"]
    if one.token:
        lines.append(f'-Headers @{{ Authorization = "Bearer $env:{TOKEN}" }}')
    if one.body is not None:
        lines.append(f"-ContentType {quoted(f'{JSON}; charset=utf-8')}")
        lines.append(f"-Body {quoted(one.body)}")
    if one.form:
        fields = [f"{name} = {_field(value)}" for name, value in one.form.items()]
        lines.append(f"-Form @{{ {'; '.join(fields)} }}")
    if one.upload:
        lines.append(f"-InFile {one.upload}")
    if one.save:
        lines.append(f"-OutFile {one.save}")
    return " `\n  ".join(lines)


def _field(value: str) -> str:
    return f"(Get-Item {value[1:]})" if value.startswith("@") else quoted(value)


def quoted(text: str) -> str:
    """A text as PowerShell reads it literally; it takes typographic apostrophes for quotes, too."""
    return "'" + re.sub("(['‘’‚‛])", r"\1\1", text) + "'"
