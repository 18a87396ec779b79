"""Which calls are read out of a model's text, and what of the text remains."""

import time
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.agents.call_texts import WrittenCall
from asyncsvc.agents.written_calls import CallReader

TEXT = {"type": "string"}
FUNCTIONS: list[dict[str, Any]] = [
    {
        "name": "read_file",
        "parameters": {
            "properties": {
                "path": TEXT,
                "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            }
        },
    },
    {"name": "write_file", "parameters": {"properties": {"path": TEXT, "content": TEXT}}},
    {"name": "exec_command", "parameters": {"properties": {"argv": {"type": "array"}}}},
]
Read = tuple[str, list[tuple[str, Any]]]


def pieces(text: str, *cuts: int) -> list[str]:
    places = [0, *sorted(cuts), len(text)]
    return [text[a:b] for a, b in pairwise(places)]


def read(*parts: str) -> Read:
    """(text, calls as (name, arguments))."""
    reader = CallReader(FUNCTIONS)
    found = [each for part in parts for each in reader.feed(part)] + reader.end()
    text = "".join(each for each in found if isinstance(each, str))
    return text, [_shown(each) for each in found if isinstance(each, WrittenCall)]


def _shown(call: WrittenCall) -> tuple[str, Any]:
    try:
        return call.name, orjson.loads(call.arguments)
    except orjson.JSONDecodeError:
        return call.name, call.arguments


ONE = '{"name": "read_file", "arguments": {"path": "a"}}'
A: tuple[str, Any] = ("read_file", {"path": "a"})
B: tuple[str, Any] = ("read_file", {"path": "b"})
TWO = ONE.replace('"a"', '"b"')
CALLS: dict[str, tuple[str, str, list[tuple[str, Any]]]] = {
    "as it is asked for": (f"```tool_call\n{ONE}\n```", "", [A]),
    "text before": (f"I read it.\n\n```tool_call\n{ONE}\n```\n", "I read it.", [A]),
    "text around": (f"First.\n\n```tool_call\n{ONE}\n```\n\nThen.\n", "First.\n\nThen.\n", [A]),
    "two blocks": (f"```tool_call\n{ONE}\n```\n\n```tool_call\n{TWO}\n```", "", [A, B]),
    "two in one block": (f"```tool_call\n{ONE}\n{TWO}\n```", "", [A, B]),
    "two with a comma": (f"```tool_call\n{ONE},\n{TWO}\n```", "", [A, B]),
    "a list": (f"```tool_call\n[{ONE}, {TWO}]\n```", "", [A, B]),
    "no end": (f"I read.\n```tool_call\n{ONE}", "I read.", [A]),
    "no end, then text": (f"```tool_call\n{ONE}\n\nI wait.", "I wait.", [A]),
    "on one line": (f"```tool_call {ONE}```", "", [A]),
    "the end on the same line": (f"```tool_call\n{ONE}```\nok", "ok", [A]),
    "a longer fence": (f"````tool_call\n{ONE}\n````\n", "", [A]),
    "tildes": (f"~~~tool_call\n{ONE}\n~~~\n", "", [A]),
    "an item of a list": (f"1. Read\n   ```tool_call\n   {ONE}\n   ```\n", "1. Read", [A]),
    "deep in a list": (f"- a\n  - b\n    ```tool_call\n    {ONE}\n    ```", "- a\n  - b", [A]),
    "another word": (f"```tool_calls\n[{ONE}]\n```", "", [A]),
    "the word twice": (f"```tool_call\n<tool_call>{ONE}</tool_call>\n```", "", [A]),
    "tags": (f"<tool_call>\n{ONE}\n</tool_call>", "", [A]),
    "tags behind text": (f"I read.<tool_call>{ONE}</tool_call>\n", "I read.", [A]),
    "tags in a row": (f"<tool_call>{ONE}</tool_call><tool_call>{TWO}</tool_call>", "", [A, B]),
    "tags in a row behind text": (
        f"So: <tool_call>{ONE}</tool_call> <tool_call>{TWO}</tool_call>",
        "So:",
        [A, B],
    ),
    "tags without an end": (f"Ok\n<tool_call>\n{ONE}\n", "Ok", [A]),
    "granite": (f"<|tool_call|>[{ONE}]", "", [A]),
    "phi": (f"<|tool_call|>[{ONE}, {TWO}]<|/tool_call|>", "", [A, B]),
    "mistral": (f"[TOOL_CALLS] [{ONE}]", "", [A]),
    "mistral with a name": ('[TOOL_CALLS]read_file{"path": "a"}', "", [A]),
    "mistral twice": (f"[TOOL_CALLS][{ONE}][TOOL_CALLS][{TWO}]", "", [A, B]),
    "mistral, then text": (f"Now.[TOOL_CALLS][{ONE}]\n\nDone", "Now.\n\nDone", [A]),
    "lm studio": (f"[TOOL_REQUEST]{ONE}[END_TOOL_REQUEST]", "", [A]),
    "llama": ('<function=read_file>{"path": "a"}</function>', "", [A]),
    "llama without an end": ('<function=read_file>{"path": "a"}', "", [A]),
    "llama's tag": (f"<|python_tag|>{ONE}<|eom_id|>", "", [A]),
    "qwen coder": (
        "<tool_call>\n<function=read_file>\n<parameter=path>\na\n</parameter>\n"
        "<parameter=limit>\n3\n</parameter>\n</function>\n</tool_call>",
        "",
        [("read_file", {"path": "a", "limit": 3})],
    ),
    "text stays text in tags": (
        "<function=write_file>\n<parameter=path>\n1\n</parameter>\n"
        '<parameter=content>\n{"a": "don\'t"}\n\n</parameter>\n</function>',
        "",
        [("write_file", {"path": "1", "content": '{"a": "don\'t"}\n'})],
    ),
    "glm": (
        "<tool_call>exec_command\n<arg_key>argv</arg_key>\n"
        '<arg_value>["ls", "-l"]</arg_value>\n</tool_call>',
        "",
        [("exec_command", {"argv": ["ls", "-l"]})],
    ),
    "json": (f"I read.\n\n```json\n{ONE}\n```\n", "I read.", [A]),
    "json without a word": (f"```\n{ONE}\n```", "", [A]),
    "tags in a block": (f"```\n<tool_call>\n{ONE}\n</tool_call>\n```\n", "", [A]),
    "a block for tools": (f"```tool_use\n{ONE}\n```", "", [A]),
    "json twice": (f"```json\n{ONE}\n```\n```json\n{TWO}\n```", "", [A, B]),
    "json, no end": (f"```json\n{ONE}", "", [A]),
    "an object": (f"{ONE}\n", "", [A]),
    "an object behind text": (f"I read it:\n{ONE}\n\n{TWO}", "I read it:", [A, B]),
    "other names": ('{"tool": "read_file", "parameters": {"path": "a"}}', "", [A]),
    "arguments first": ('{"arguments": {"path": "a"}, "name": "read_file"}', "", [A]),
    "openai's shape": (
        '```json\n{"type": "function", "function": {"name": "read_file", '
        '"arguments": "{\\"path\\": \\"a\\"}"}}\n```',
        "",
        [A],
    ),
    "within tool_calls": (f'```tool_call\n{{"tool_calls": [{ONE}]}}\n```', "", [A]),
    "the name as key": ('```tool_call\n{"read_file": {"path": "a"}}\n```', "", [A]),
    "the name before": ('```tool_call\nread_file\n{"path": "a"}\n```', "", [A]),
    "the name behind the fence": ('```tool_call read_file\n{"path": "a"}\n```', "", [A]),
    "flat": ('```tool_call\n{"name": "read_file", "path": "a"}\n```', "", [A]),
    "no arguments": ('```tool_call\n{"name": "read_file"}\n```', "", [("read_file", {})]),
    "null": ('<tool_call>{"name": "x", "arguments": null}</tool_call>', "", [("x", {})]),
    "a tool that is not there": (
        '```tool_call\n{"name": "open", "arguments": {"x": 1}}\n```',
        "",
        [("open", {"x": 1})],
    ),
    "functions. before the name": (
        '```tool_call\n{"name": "functions.read_file", "arguments": {"path": "a"}}\n```',
        "",
        [A],
    ),
    "a comma too much": (
        '```tool_call\n{"name": "read_file", "arguments": {"path": "a",},}\n```',
        "",
        [A],
    ),
    "single quotes": (
        "```tool_call\n{'name': 'write_file', 'arguments': {'content': 'it\\'s \"x\"'}}\n```",
        "",
        [("write_file", {"content": 'it\'s "x"'})],
    ),
    "python's words": (
        "```tool_call\n{'name': 'x', 'arguments': {'a': True, 'b': None}}\n```",
        "",
        [("x", {"a": True, "b": None})],
    ),
    "bare keys": ('```tool_call\n{name: "read_file", arguments: {path: "a"}}\n```', "", [A]),
    "triple quotes": (
        '```tool_call\n{"name": "x", "arguments": {"code": """a = "b"\nc"""}}\n```',
        "",
        [("x", {"code": 'a = "b"\nc'})],
    ),
    "line feeds in a string": (
        '```tool_call\n{"name": "x", "arguments": {"code": "a\n\tb"}}\n```',
        "",
        [("x", {"code": "a\n\tb"})],
    ),
    "a backslash that escapes nothing": (
        '```tool_call\n{"name": "x", "arguments": {"pattern": "\\d+\\n"}}\n```',
        "",
        [("x", {"pattern": "\\d+\n"})],
    ),
    "halves of a character": (
        '```tool_call\n{"name": "x", "arguments": {"a": "\\ud83d\\ude00", "b": "\\ud83d"}}\n```',
        "",
        [("x", {"a": "😀", "b": "�"})],
    ),
    "a bracket missing": (
        '```tool_call\n{"name": "x", "arguments": {"a": [1]}\n```',
        "",
        [("x", {"a": [1]})],
    ),
    "a bracket missing within": (
        '```tool_call\n{"name": "x", "arguments": {"a": [1, 2}}\n```',
        "",
        [("x", {"a": [1, 2]})],
    ),
    "a bracket too much": (f"```tool_call\n{ONE}}}\n```\nok", "ok", [A]),
    "a fence in a string": (
        '```tool_call\n{"name": "x", "arguments": {"content": "# T\n```sh\nls\n```\n"}}\n```\nok',
        "ok",
        [("x", {"content": "# T\n```sh\nls\n```\n"})],
    ),
    "a tag in a string": (
        '<tool_call>{"name": "x", "arguments": {"a": "</tool_call>"}}</tool_call>',
        "",
        [("x", {"a": "</tool_call>"})],
    ),
    "a result made up": (
        f"```tool_call\n{ONE}\n```\nResult of read_file (1):\nx\n\n```tool_call\n{TWO}\n```",
        "",
        [A],
    ),
    "a result made up behind data": (f"{ONE}\nResult of read_file (c):\nx", "", [A]),
    "a result made up in a block": (f"```tool_call\n{ONE}\n```\n```tool_output\nx\n```", "", [A]),
    "a result made up in tags": (f"<tool_call>{ONE}</tool_call>\n<tool_response>x", "", [A]),
    "an example, then the call": (
        f"Like this:\n```json\n{TWO}\n```\n```tool_call\n{ONE}\n```",
        f"Like this:\n```json\n{TWO}\n```",
        [A],
    ),
    "code before the call": (
        f"```python\nx = '''\n```\n\n```tool_call\n{ONE}\n```",
        "```python\nx = '''\n```",
        [A],
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_read_wherever_the_text_is_cut(name: str) -> None:
    text, rest, calls = CALLS[name]
    assert read(text) == (rest, calls)
    for cut in range(1, len(text)):
        assert read(*pieces(text, cut)) == (rest, calls), cut
    assert read(*text) == (rest, calls)


BROKEN: dict[str, tuple[str, str, str]] = {
    "quotes in a string": (
        '```tool_call\n{"name": "x", "arguments": {"code": "say "hi""}}\n```\nok',
        "x",
        "ok",
    ),
    "an odd quote in a string": (
        '```tool_call\n{"name": "x", "arguments": {"code": "say "hi"}}\n```\nok',
        "x",
        "ok",
    ),
    "cut off in a string": ('```tool_call\n{"name": "x", "arguments": {"c": "rm -r ', "x", ""),
    "cut off in a list": ('```tool_call\n{"name": "x", "arguments": {"c": ["rm", "-r"', "x", ""),
    "cut off in tags": (
        "<tool_call>\n<function=read_file>\n<parameter=path>\na",
        "read_file",
        "",
    ),
    "cut off in a key": ("<tool_call>read_file\n<arg_key>path</arg_key>\n<arg", "read_file", ""),
    "no JSON": ("```tool_call\nread the file a\n```", "tool_call", ""),
    "no name": ('```tool_call\n{"path": "a"}\n```', "tool_call", ""),
    "a number": ("```tool_call\n17\n```", "tool_call", ""),
    "nothing": ("```tool_call\n```", "tool_call", ""),
    "too many": (f"```tool_call\n{ONE * 101}\n```\nok", "read_file", "ok"),
    "more behind the end": (
        '```tool_call\n{"name": "x", "arguments": {"a": 1}}, "b": 2}\n```',
        "x",
        '"b": 2}\n```',
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_call_is_passed_on_as_text(name: str) -> None:
    text, tool, rest = BROKEN[name]
    whole = read(text)
    assert (whole[0], [called for called, _ in whole[1]]) == (rest, [tool])
    for cut in range(1, min(len(text), 200)):
        assert read(*pieces(text, cut)) == whole, cut


TEXTS = {
    "prose": "Hello, *world*: a < b, [link](x), `code` and {braces}.\n\n- one\n- two\n",
    "blanks": "  \n a\n\n",
    "only blanks": " \n\n ",
    "python": f"```python\ncall = '''\n```tool_call\n{ONE}\n'''\n```\nThat is all.",
    "a longer fence": f"````markdown\nWrite:\n```tool_call\n{ONE}\n```\n````\n",
    "tags in code": f"```xml\n<tool_call>{ONE}</tool_call>\n```",
    "tags in a block, and more": f"```\n<tool_call>{ONE}</tool_call>\nx\n```\n",
    "a block of tags": "```\n<table>\n```\n",
    "json in code": f"```python\n{ONE}\n```",
    "in backticks": f"Write `<tool_call>{ONE}</tool_call>`, or ``[TOOL_CALLS][{ONE}]``.",
    "a quotation": f"> ```tool_call\n> {ONE}\n> ```\n> <tool_call>{ONE}</tool_call>\n",
    "within a sentence": f"A call is <tool_call>{ONE}</tool_call> and nothing else.",
    "the tag's name": "The <tool_call> tag begins a call, and </tool_call> ends it.",
    "the tag's name at the end": "It begins with <tool_call>",
    "the word of the fence": "```tool_call``` begins a block, ``` tool_call ``` as well.",
    "only the tags": "<tool_call></tool_call> stand around a call",
    "the tag's name at the beginning": "<tool_call> is a tag.",
    "the mark in a sentence": "[TOOL_CALLS] stands before the calls.",
    "an example in json": f"For example:\n\n```json\n{ONE}\n```\n\nThis reads the file.",
    "an example as an object": f"For example:\n{ONE}\nThis reads the file.",
    "an object within a line": f"I send {ONE}",
    "a tool's description": '{"name": "read_file", "description": "x", "parameters": {}}',
    "a tool's schema": '{"name": "read_file", "parameters": {"type": "object", "properties": {}}}',
    "an answer in json": '{"name": "Alice", "arguments": {"age": 3}}',
    "data": '```json\n{"name": "Alice", "tags": ["x"]}\n```\n',
    "data, not whole": '```json\n{"name": "read_file", "arguments": {"path": "a"',
    "data and a comment": f"```json\n{ONE}\n// it reads\n```\nSo.\n",
    "a list of texts": '["a", "b"]\n[1]: http://x.test/\n',
    "a call that is not whole": '{"name": "read_file", "arguments": {"path": "a"}\n\nnext\n',
    "code within a list": f"1. So:\n     ```xml\n     <tool_call>{ONE}</tool_call>\n     ```\n",
    "a result without a call": "Result of read_file (1): x",
    "code in a line": f"```tool``` is `x`, ```a <tool_call>{ONE}</tool_call>``` is code\n",
    "long runs": "`" * 500 + " x " + "~" * 500 + "\n```" + " " * 500 + "\nx",
    "carriage returns": "a\r\n```python\r\nx\r\n```\r\nb\r\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_without_a_call_stays_as_it_is(name: str) -> None:
    text = TEXTS[name]
    assert read(text) == (text, [])
    for cut in range(1, len(text)):
        assert read(*pieces(text, cut)) == (text, []), cut
    assert read(*text) == (text, [])


WORDS = [
    *("```", "~~~", "````", "`", "tool_call", "json", "python", "\n", "\n\n", " ", "    ", "> "),
    *("<tool_call>", "</tool_call>", "<function=x>", "</function>", "<|tool_call|>", "<arg_key>"),
    *("[TOOL_CALLS]", "[", "]", "{", "}", '"', "'", '"""', "\\", ":", ",", "text", "Result of "),
    *("read_file (", '"name"', ONE, TWO, f"```tool_call\n{ONE}\n```", f"<tool_call>{TWO}"),
]


@given(st.lists(st.sampled_from(WORDS), max_size=12).map("".join), st.data())
def test_the_cuts_do_not_matter(text: str, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=6))
    whole = read(text)
    assert read(*pieces(text, *cuts)) == whole
    assert read(*text) == whole
    if not whole[1]:
        assert whole[0] == text


@pytest.mark.parametrize(
    ("shown", "held"),
    [
        ("Hello wor", ""),
        ("Hello", " "),
        ("a", " <"),
        ("a", " <tool"),
        ("a <toolbox", ""),
        ("x", "\n```tool_ca"),
        ("```pyth", ""),
        ("x", "\n```js"),
        ("", '{"name'),
        ('{"answer"', ""),
        ("[1", ""),
        ("a", "`"),
        ("Result of", " "),
    ],
)
def test_only_what_may_become_a_call_is_held_back(shown: str, held: str) -> None:
    reader = CallReader(FUNCTIONS)
    found = [each for part in shown + held for each in reader.feed(part)]
    assert "".join(map(str, found)) == shown


PARTS = [
    *("word ", " ", "\n", "`", "```", "~", "<", "[", "{", "```tool_call\n", "```json\n{", "[["),
    *('{"name": ', f"```tool_call\n{ONE}\n```\n", '```tool_call\n{"name": "\n```\n', "<tool_call>"),
    *("[TOOL_CALLS]", "<tool_call>{", "<function=x><parameter=y>", f"{ONE}\n", f"{ONE}x\n", '"""'),
    *(f"```json\n{ONE} x\n```\n", "<arg_key>"),
]


@pytest.mark.parametrize("part", PARTS)
def test_the_time_is_in_proportion_to_the_text(part: str) -> None:
    def seconds(size: int, step: int) -> float:
        text = (part * (size // len(part) + 1))[:size]
        began = time.process_time()
        read(*(text[at : at + step] for at in range(0, size, step)))
        return time.process_time() - began

    for step in (7, 1 << 30):
        small, large = seconds(3_000, step), seconds(24_000, step)
        assert large < 24 * max(small, 0.01), (small, large)


@pytest.mark.parametrize(
    "content",
    [
        "{},",
        "[",
        "{'a':[",
        "}",
        "{'a':1}",
        ONE,
        f"{ONE},",
        '{"a":"\n"} ',
        "[]",
        "'a' ",
        "<tool_call>",
    ],
)
def test_a_block_of_many_parts_is_read_in_good_time(content: str) -> None:
    began = time.process_time()
    read(f"```tool_call\n{{'x':1,\n{content * (100_000 // len(content))}\n```\nend")
    read(f"```tool_call\n{content * (100_000 // len(content))}\n```\nend")
    assert time.process_time() - began < 5  # one that goes over it again and again takes minutes
