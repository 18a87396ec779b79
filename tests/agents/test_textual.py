"""Tools by text: what the model is sent, and what becomes of its answer."""

from typing import Any

from asyncsvc.agents.textual import TextualSink, block, described
from asyncsvc.agents.written_calls import RESULT_OF, CallReader
from asyncsvc.providers.answers.delta import Delta
from asyncsvc.providers.answers.tool_calls import put_together
from tests.upstreams import Sheet

READ = {
    "name": "read_file",
    "description": "Read a file.\nAll of it.",
    "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
}
Object = dict[str, Any]


def call(call_id: str, arguments: str = '{"path":"a"}', name: str = "read_file") -> Object:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(call_id: str, content: Any = "text") -> Object:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def test_the_tools_are_in_the_system_message() -> None:
    user = {"role": "user", "content": "hello"}
    first, second = described([user], [READ])
    assert (first["role"], second) == ("system", user)
    assert "```tool_call\n" in first["content"]
    line = '- read_file: Read a file. All of it.\n  {"type":"object","properties":{"path":'
    assert line in first["content"]
    as_tools = [{"type": "function", "function": READ, "reads_only": True}]
    assert described([user], as_tools) == [first, second]


def test_the_system_message_of_the_task_stays_first() -> None:
    for content in ("Be kind.", [{"type": "text", "text": "Be kind."}]):
        found = described([{"role": "system", "content": content}], [READ])
        (message,) = found
        parts = message["content"]
        text = parts if isinstance(parts, str) else "\n\n".join(part["text"] for part in parts)
        assert text.startswith("Be kind.\n\nYou can use tools.")


def test_calls_and_results_become_text_that_is_read_as_those_calls() -> None:
    messages: list[Object] = [
        {"role": "user", "content": "go"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [call("c1"), call("c2", '{"path":"b"}')],
        },
        result("c1"),
        result("c2", "exit code 1\nno such file"),
        {"role": "assistant", "content": None, "tool_calls": [call("c3", "{}", "list_directory")]},
        result("c3"),
    ]
    asked, answer, results, again, last = described(messages, [])
    assert asked == messages[0]
    assert answer["content"].startswith("I look.\n\n```tool_call\n")
    assert "tool_calls" not in answer
    assert results == {
        "role": "user",
        "content": f"{RESULT_OF}read_file (c1):\ntext\n\n"
        f"{RESULT_OF}read_file (c2):\nexit code 1\nno such file",
    }
    assert again["content"].startswith("```tool_call\n")
    assert last["content"] == f"{RESULT_OF}list_directory (c3):\ntext"
    reader = CallReader([])
    found = reader.feed(answer["content"]) + reader.end()
    assert [tuple(each) for each in found] == [
        tuple("I look."),
        ("read_file", '{"path":"a"}'),
        ("read_file", '{"path":"b"}'),
    ]


def test_neighbours_of_one_role_become_one_message() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    found = described(
        [
            {"role": "assistant", "content": None, "tool_calls": [call("c1")]},
            result("c1", [{"type": "text", "text": "a"}, image]),
            {"role": "user", "content": "and now?"},
            {"role": "assistant", "content": "x"},
            {"role": "assistant", "content": "y"},
            {"role": "user", "content": "z", "name": "ann"},
            {"role": "user", "content": "z"},
        ],
        [],
    )
    assert [message["role"] for message in found] == [
        "assistant", "user", "assistant", "user", "user",
    ]  # fmt: skip
    assert found[1]["content"] == [
        {"type": "text", "text": f"{RESULT_OF}read_file (c1):"},
        {"type": "text", "text": "a"},
        image,
        {"type": "text", "text": "and now?"},
    ]
    assert found[2]["content"] == "x\n\ny"


def test_calls_of_other_kinds_are_text_too() -> None:
    older = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}}
    custom = {"id": "c", "type": "custom", "custom": {"name": "patch", "input": "*** a"}}
    found = described(
        [
            older,
            {"role": "function", "name": "f", "content": "x"},
            {"role": "assistant", "content": None, "tool_calls": [custom]},
            result("c"),
        ],
        [],
    )
    assert [message["content"] for message in found] == [
        block("f", ""),
        f"{RESULT_OF}f ():\nx",
        block("patch", "*** a"),
        f"{RESULT_OF}patch (c):\ntext",
    ]
    assert not any("function_call" in message or "tool_calls" in message for message in found)


def test_other_fields_of_a_message_stay() -> None:
    message = {"role": "assistant", "content": "", "reasoning_content": "hm"}
    (found,) = described([message | {"tool_calls": [call("c1")]}], [])
    assert found == message | {"content": block("read_file", '{"path":"a"}')}


def test_the_messages_given_stay_as_they_are() -> None:
    messages: list[Object] = [
        {"role": "system", "content": "s"},
        {"role": "assistant", "content": None, "tool_calls": [call("c1")]},
        result("c1"),
    ]
    before = repr(messages)
    described(messages, [READ])
    assert repr(messages) == before


def test_arguments_that_are_no_json_stand_as_text() -> None:
    assert block("x", '{"a": ') == '```tool_call\n{"name":"x","arguments":"{\\"a\\": "}\n```'
    assert block("x", "") == '```tool_call\n{"name":"x","arguments":{}}\n```'


def written(*deltas: Delta) -> tuple[str, list[Object]]:
    """(text, calls) that come out of the sink."""
    sheet = Sheet()
    sink = TextualSink(sheet, [READ])
    for delta in deltas:
        sink.write(delta)
    sink.finish()
    text = "".join(delta.text for delta in sheet.deltas if not delta.reasoning)
    return text, put_together(delta.call for delta in sheet.deltas if delta.call)


def test_calls_come_as_those_of_a_provider_with_tool_calling() -> None:
    first_block, second_block = block("read_file", '{"path": "a"}'), block("x", "{}")
    answer = f"I look.\n\n{first_block}\n\n{second_block}"
    text, (first, second) = written(*map(Delta, answer))
    assert text == "I look."
    assert first["function"] == {"name": "read_file", "arguments": '{"path":"a"}'}
    assert second["function"] == {"name": "x", "arguments": "{}"}
    assert first["type"] == "function"
    assert first["id"] != second["id"]


def test_thinking_events_and_refusals_pass_unchanged() -> None:
    given = [
        Delta(block("x", "{}"), reasoning=True),
        Delta("no", refusal=True),
        Delta("", event=("progress", {"a": 1})),
    ]
    sheet = Sheet()
    sink = TextualSink(sheet, [READ])
    for delta in given:
        sink.write(delta)
    sink.finish()
    assert sheet.deltas == given


def test_calls_that_the_provider_sends_as_such_are_counted_with_the_others() -> None:
    native = {"index": 0, "id": "n", "type": "function"}
    text, calls = written(
        Delta(f"{block('x', '{}')}\n"),
        Delta("", call=native | {"function": {"name": "y", "arguments": '{"a'}}),
        Delta("", call={"index": 0, "function": {"arguments": '": 1}'}}),
        Delta("end"),
    )
    assert text == "end"
    names = [(one["function"]["name"], one["function"]["arguments"]) for one in calls]
    assert names == [("x", "{}"), ("y", '{"a": 1}')]


async def test_what_else_the_client_tells_the_sink_passes() -> None:
    sheet = Sheet()
    sink = TextualSink(sheet, [])
    sink.head(True)
    sink.alive()
    sheet.dry.set()
    await sink.drained()
    assert (sheet.heads, sheet.accepted) == (1, True)
    assert (sink.full, sink.returns) == (sheet.full, sheet.returns)
