"""The commands that the page offers: what a shell makes of them, and what they send."""

import json
import re
import shlex
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from asyncsvc.web.openapi.commands import ORIGIN, Call, call, curl, powershell, quoted
from asyncsvc.web.openapi.document import document
from tests.web.description import ROUTES, operations

DOCUMENT = document(ROUTES)
SCHEMAS = DOCUMENT["components"]["schemas"]
CALLS = {
    f"{method} {path}": call(path, method.lower(), one, SCHEMAS, token=True)
    for path, method, one in operations(DOCUMENT)
}
PLAIN = Call("POST", f"{ORIGIN}/tasks", False, False, None, {}, None, None)
TEXTS = [
    "it's", 'say "no"', "$HOME `id` $(id) %PATH%", "back\\slash\\", "你好", "‘typographic’",
    "a\nb", "{1,2} [3]", "!x",
]  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_posix_shell_reads_the_command_as_it_is_meant(name: str) -> None:
    made = CALLS[name]
    words = shlex.split(curl(made).replace("\\\n", " "))
    assert words[0] == "curl"
    assert made.url in words
    assert not re.search(r"[{}]", made.url), "curl would expand it"
    if made.body is not None:
        assert words[words.index("-d") + 1] == made.body
    assert ("Authorization: Bearer $ASYNCSVC_TOKEN" in words) == made.token


def test_a_shell_gives_curl_every_text_unchanged() -> None:
    bodies = [json.dumps({"content": text}, ensure_ascii=False) for text in TEXTS]
    commands = [curl(replace(PLAIN, body=body, token=True)) for body in bodies]
    stub = "curl() { printf '%s\\0' \"$@\"; printf '\\1'; }\n"
    done = subprocess.run(
        ["sh", "-c", stub + "\n".join(commands)],
        capture_output=True, check=True, env={"ASYNCSVC_TOKEN": "a b$c"},
    )  # fmt: skip
    calls = [part.split("\0")[:-1] for part in done.stdout.decode().split("\1")[:-1]]
    assert [words[words.index("-d") + 1] for words in calls] == bodies
    assert all("Authorization: Bearer a b$c" in words for words in calls)


@pytest.mark.parametrize("text", TEXTS)
def test_powershell_reads_a_quoted_text_unchanged(text: str) -> None:
    quotes = "'‘’‚‛"
    shown = quoted(text)
    assert shown[0] == shown[-1] == "'"
    # PowerShell ends the text at the first quote of any form that no quote follows.
    assert re.fullmatch(f"(?:[^{quotes}]|[{quotes}]{{2}})*", shown[1:-1])
    assert re.sub(f"([{quotes}])[{quotes}]", r"\1", shown[1:-1]) == text


@pytest.mark.parametrize("name", CALLS)
def test_a_command_for_powershell_has_the_same_parts(name: str) -> None:
    made, text = CALLS[name], powershell(CALLS[name])
    assert quoted(made.url) in text
    assert all(line.endswith(" `") for line in text.splitlines()[:-1])
    assert ("$env:ASYNCSVC_TOKEN" in text) == made.token
    if made.body is not None:
        assert f"-Body {quoted(made.body)}" in text
        assert "charset=utf-8" in text


def test_a_stream_a_form_and_files_are_asked_for_as_such() -> None:
    events = CALLS["GET /tasks/{task_id}/events"]
    assert curl(events).startswith("curl -N ")
    assert powershell(events).startswith("curl.exe -N ")
    form = CALLS["POST /v1/files"]
    assert "-F file=@requests.jsonl" in curl(form)
    assert "file = (Get-Item requests.jsonl); purpose = 'batch'" in powershell(form)
    assert curl(CALLS["GET /admin/export"]).endswith("-o tasks.jsonl")
    assert powershell(CALLS["GET /admin/export"]).endswith("-OutFile tasks.jsonl")
    assert "--data-binary @tasks.jsonl" in curl(CALLS["POST /admin/import"])
    assert powershell(CALLS["POST /admin/import"]).endswith("-InFile tasks.jsonl")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (f"{method} {path}", body["content"]["application/json"])
        for path, method, one in operations(DOCUMENT)
        if (body := one.get("requestBody")) and "application/json" in body["content"]
    ],
)
def test_each_body_has_an_example_that_is_allowed(path: str, content: dict[str, Any]) -> None:
    assert "example" in content
    schema = content["schema"] | {"components": DOCUMENT["components"]}
    faults = Draft202012Validator(schema).iter_errors(content["example"])
    assert [fault.message for fault in faults] == []
