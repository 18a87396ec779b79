"""No regular expression of the package takes long for any text."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from time import process_time

import pytest

from asyncsvc.cli import terminal
from asyncsvc.config import secrets
from asyncsvc.cron.crontab import Crontab
from asyncsvc.errors import AsyncsvcError
from asyncsvc.limits import headers
from asyncsvc.providers import tokens, tools
from asyncsvc.providers.answers import finish_reasons
from asyncsvc.providers.answers.lenient_json import Halves, documents
from asyncsvc.providers.answers.thinking import ThinkSplitter, untagged
from asyncsvc.providers.dialects import PRESETS
from asyncsvc.providers.errors import clean, of_response
from asyncsvc.routing.classifier import Classifier, extract
from asyncsvc.web.http import json_size
from tests.patterns import FULL_CHARS, METHODS, PACKAGE, Found, calls, judged, modules

pytestmark = pytest.mark.slow

MOST_S = 3.0
"""Time for a million characters; the slowest pattern that is linear takes half a second."""
NOT_IN_SOURCE = {
    "asyncsvc.cli.options",
    "asyncsvc.config.environment",
    "asyncsvc.providers.dialects",
    "asyncsvc.providers.keys",
    "asyncsvc.providers.upstream",
}
"""Modules that make a pattern of parts, of a table of names or of a key."""
GROUPS = 8
TIMEOUT_S = 100


@pytest.mark.parametrize("group", range(GROUPS))
def test_no_pattern_is_slow_for_a_hostile_text(group: int) -> None:
    names = modules()[group::GROUPS]
    found = subprocess.run(
        [sys.executable, "-m", "tests.patterns", *names],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    timed = [json.loads(line) for line in found.stdout.splitlines()]
    assert timed
    assert [each for each in timed if each[2] > MOST_S] == []


def test_each_pattern_stands_in_the_source() -> None:
    unknown = {
        module
        for module in modules()
        for method, call in calls(module)
        if method != "compile" and not isinstance(call.args[0], ast.Constant)
    }
    assert unknown == NOT_IN_SOURCE


POSSESSIVE_GROUP = re.compile(r"[^(\\]\)(?:[*+?]|\{\d*,?\d*\})\+")


def test_no_group_is_repeated_possessively() -> None:
    """Python before 3.11.5 matches (?:…)*+ wrongly where the group can give back."""
    texts = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert len(texts) > 100
    found = [
        (path, line)
        for path, text in texts.items()
        for line in text.splitlines()
        if POSSESSIVE_GROUP.search(line) and not line.lstrip().startswith("#")
    ]
    assert found == []
    assert POSSESSIVE_GROUP.search(r"(?:a|b)*+")
    assert POSSESSIVE_GROUP.search(r"(?:a){2,}+")


@pytest.mark.parametrize("pattern", [r"\s+$", r"\d+(?:\.\d+)?x"])
def test_what_looks_for_slow_patterns_finds_them(pattern: str) -> None:
    what, seconds = judged(Found("here", re.compile(pattern), METHODS))
    assert seconds > MOST_S, what


UNITS = {
    "chinese": "深入分析",
    "opening brackets": "[",
    "objects": '{"a":',
    "digits": "9",
    "hexadecimal digits": "a0",
    "code fences": "```py\n",
    "quotes": '"',
    "backslashes": "\\",
    "escaped halves": "\\ud800",
    "blanks": " ",
    "lines": "\n",
    "opening tags": "<think>",
    "closing tags": "</think>",
    "angle brackets": "<",
    "one letter": "a",
    "escape sequences": "\x1b[31m",
    "times": "try again in 9",
    "keys": "sk-Bearer ",
    "events": "data: {}\n\n",
    "commas": "1,",
}


def by_pieces(text: str) -> None:
    """A tenth of the text, one character at a time, as a model may send it."""
    splitter = ThinkSplitter(unopened=True)
    argument = tools.Text()
    for sign in text[: FULL_CHARS // 10]:
        list(splitter.feed(sign))
        argument.feed(sign)
    list(splitter.end())


def by_dialects(text: str) -> None:
    for preset in PRESETS.values():
        preset.switch(text)


SECRETS = ["short-key", "a-long-secret-0123456789"]
FUNCTIONS: dict[str, Callable[[str], object]] = {
    "extract": extract,
    "classify": Classifier.builtin().classify,
    "clean": lambda text: clean(text, SECRETS),
    "refusal": lambda text: of_response(400, text.encode(), SECRETS),
    "page": lambda text: of_response(502, f"<html><title>{text}".encode(), SECRETS),
    "message": lambda text: of_response(
        429, json.dumps({"error": {"message": text, "code": text}}).encode(), SECRETS
    ),
    "headers": lambda text: of_response(
        429, b"", SECRETS, headers={"retry-after": text, "x-ratelimit-reset": text}
    ),
    "wait": headers.in_sentence,
    "reset": lambda text: headers.reset_in(text, 0),
    "window": headers.window_s,
    "estimate": tokens.estimate,
    "documents": lambda text: documents(text.encode(), Halves()),
    "string": lambda text: documents(f'{{"a": "{text}'.encode(), Halves(final=True)),
    "untagged": untagged,
    "pieces": by_pieces,
    "dialects": by_dialects,
    "function name": lambda text: tools.function_name(text, text),
    "finish reason": finish_reasons.ending,
    "size of JSON": lambda text: json_size.check(text.encode()),
    "zone": lambda text: Crontab.read("@daily", text, 0),
    "cron": lambda text: Crontab.read(text, "UTC", 0),
    "screen": terminal.one_line,
    "JSON": terminal.json_text,
    "redacted": secrets.redacted,
    "variable": secrets.is_variable,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_on_texts_of_others_is_slow(name: str) -> None:
    for what, unit in UNITS.items():
        text = unit * (FULL_CHARS // len(unit))
        began = process_time()
        with suppress(AsyncsvcError, ValueError):
            FUNCTIONS[name](text)
        assert process_time() - began < MOST_S, what
