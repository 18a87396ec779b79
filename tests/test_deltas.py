from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.errors import (
    ContentFiltered,
    ContextTooLong,
    EmptyAnswer,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    UpstreamDisconnected,
    UpstreamInvalid,
    UpstreamOverloaded,
)
from asyncsvc.providers.deltas import Answer, Delta
from tests.upstreams import KEY


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def taken(*chunks: Any, secrets: tuple[str, ...] = ()) -> tuple[Answer, list[Delta]]:
    answer = Answer()
    deltas = [delta for each in chunks for delta in answer.take(each, secrets)]
    return answer, [*deltas, *answer.rest()]


def call(index: int | None = 0, **function: Any) -> dict[str, Any]:
    return {"tool_calls": [{"function": function} | ({} if index is None else {"index": index})]}


def test_text_in_pieces() -> None:
    answer, deltas = taken(chunk(role="assistant", content=""), chunk(content="你"), chunk("stop"))
    assert deltas == [Delta("你")]
    assert (answer.begun, answer.finish_reason, answer.ended) == (True, "stop", True)
    answer.check([])


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thinking_under_either_name(name: str) -> None:
    answer, deltas = taken(chunk(**{name: "hm"}), chunk(content="so"))
    assert deltas == [Delta("hm", reasoning=True), Delta("so")]
    assert answer.text_seen == "so"


def test_both_names_at_once_are_one_thought() -> None:
    assert taken(chunk(reasoning_content="a", reasoning="a"))[1] == [Delta("a", reasoning=True)]


def test_thinking_between_tags_in_the_text() -> None:
    answer, deltas = taken(
        *(chunk(content=text) for text in ("\n<th", "ink>h", "m</thi", "nk>\n", "\nso", " <think>"))
    )
    assert deltas == [Delta("h", True), Delta("m", True), Delta("so"), Delta(" <think>")]
    assert answer.text_seen == "so <think>"


def test_an_answer_that_may_become_thinking_has_begun() -> None:
    answer = Answer()
    assert list(answer.take(chunk(content="<thi"), [])) == []
    assert answer.begun
    assert list(answer.rest()) == [Delta("<thi")]
    assert answer.text_seen == "<thi"


@pytest.mark.parametrize("odd", [{"reasoning": {"x": 1}}, {"content": ["x"]}, {"content": None}])
def test_what_is_no_text_is_no_piece(odd: dict[str, Any]) -> None:
    answer, deltas = taken(chunk(**odd))
    assert (deltas, answer.begun) == ([], False)


def test_a_whole_message_at_once() -> None:
    message = {"role": "assistant", "content": "all", "reasoning_content": "why"}
    answer, deltas = taken({"choices": [{"message": message, "finish_reason": "stop"}]})
    assert deltas == [Delta("why", reasoning=True), Delta("all")]
    answer.check([])


@pytest.mark.parametrize("choices", [[], None, {}])
def test_a_chunk_may_have_no_choices_beside_its_usage(choices: Any) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    answer, deltas = taken({"choices": choices, "usage": usage})
    assert (answer.usage, deltas) == (usage, [])


def test_the_last_usage_counts_wherever_it_is() -> None:
    first, last = {"prompt_tokens": 3}, {"prompt_tokens": 3, "completion_tokens": 9}
    answer, _ = taken(chunk(content="x") | {"usage": first}, chunk() | {"usage": None})
    assert answer.usage == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
    answer, _ = taken({"choices": [{"delta": {}, "usage": first}]}, {"usage": last})
    assert answer.usage == {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}


def test_usage_keeps_what_else_the_provider_says() -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 5}, "prompt_tokens": "many"}
    answer, _ = taken({"usage": details})
    assert answer.usage == details | {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
    }


# Tool calls -----------------------------------------------------------------------------------


def test_a_refusal_is_the_answer() -> None:
    assert taken(chunk(refusal="I cannot", content=None))[1] == [Delta("I cannot")]


def opening(name: str) -> dict[str, str]:
    return {"name": name, "arguments": ""}


def test_tool_calls_are_put_together_from_pieces() -> None:
    answer, deltas = taken(
        chunk(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "add", "arguments": ""}}]),
        chunk(**call(0, arguments='{"a"')),
        chunk(tool_calls=[{"index": 1, "id": "c2", "function": {"name": "neg"}}]),
        chunk(**call(0, arguments=":1}")),
        chunk(**call(1, arguments=None)),
        chunk("tool_calls"),
    )
    assert [delta.call for delta in deltas] == [
        {"index": 0, "id": "c1", "type": "function", "function": opening("add")},
        {"index": 0, "function": {"arguments": '{"a"'}},
        {"index": 1, "id": "c2", "type": "function", "function": opening("neg")},
        {"index": 0, "function": {"arguments": ":1}"}},
    ]
    assert list(answer.tool_calls.values()) == [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}},
        {"id": "c2", "type": "function", "function": {"name": "neg", "arguments": ""}},
    ]
    answer.check([])


@pytest.mark.parametrize("index", [None, "0", [0]])
def test_tool_calls_without_an_index_are_separate(index: Any) -> None:
    pieces = [{"index": index, "id": name, "function": {"name": name}} for name in "ab"]
    answer, _ = taken(chunk(tool_calls=pieces))
    assert [held["id"] for held in answer.tool_calls.values()] == ["a", "b"]


def test_arguments_may_come_as_an_object() -> None:
    answer, _ = taken(chunk(**call(name="add", arguments={"a": [1, "二"]})))
    assert answer.tool_calls[0]["function"]["arguments"] == '{"a":[1,"二"]}'


def test_a_call_without_an_id_is_given_one() -> None:
    answer, deltas = taken(chunk(**call(0, name="add")), chunk(**call(0, arguments="{}")))
    assert deltas[0].call is not None
    assert answer.tool_calls[0]["id"] == deltas[0].call["id"] != ""


def test_a_name_may_come_after_the_id() -> None:
    first = chunk(tool_calls=[{"index": 0, "id": "c1"}])
    answer, deltas = taken(first, chunk(**call(0, name="add")))
    assert [d.call["function"]["name"] for d in deltas if d.call is not None] == ["", "add"]
    assert answer.tool_calls[0]["function"]["name"] == "add"


def test_an_id_said_once_or_each_time_is_the_same() -> None:
    again = {"index": 0, "id": "c1", "function": {"name": "add", "arguments": "x"}}
    answer, _ = taken(chunk(tool_calls=[again]), chunk(tool_calls=[again]), chunk(**call(0)))
    assert answer.tool_calls[0] == {
        "id": "c1",
        "type": "function",
        "function": {"name": "add", "arguments": "xx"},
    }


# Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        *([], "text", 7, None, True, {}, {"object": "chunk"}),
        *({"choices": ["x"]}, {"choices": [{"delta": "x"}]}, {"choices": [{"message": [1]}]}),
        chunk(tool_calls=["x"]),
        chunk(tool_calls=[{"function": "x"}]),
    ],
)
def test_what_is_no_chunk_is_refused(odd: Any) -> None:
    with pytest.raises(UpstreamInvalid):
        taken(odd)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("content_filter", ContentFiltered),
        ("sensitive", ContentFiltered),
        ("network_error", UpstreamDisconnected),
        ("model_context_window_exceeded", ContextTooLong),
    ],
)
def test_an_answer_that_was_broken_off_is_none(reason: str, kind: type[ProviderError]) -> None:
    answer = Answer()
    with pytest.raises(kind, match=reason):
        list(answer.take(chunk(reason, content="half"), []))
    assert not answer.ended


def test_an_error_inside_the_stream_is_translated_without_the_key() -> None:
    with pytest.raises(RateLimited) as found:
        taken({"error": {"code": 429, "message": f"slow down, {KEY}"}}, secrets=(KEY,))
    assert KEY not in str(found.value)


def test_an_error_without_a_frame_is_one_too() -> None:
    answer = Answer(dialect="siliconflow")
    with pytest.raises(UpstreamOverloaded, match="too busy"):
        list(answer.take({"code": 50508, "message": "too busy", "data": None}, []))


def test_an_error_is_read_by_the_table_of_the_provider() -> None:
    for dialect, kind in (("zhipu", QuotaExhausted), ("nvidia", UpstreamOverloaded)):
        with pytest.raises(kind):
            list(Answer(dialect=dialect).take({"error": {"code": "1113", "message": "x"}}, []))


def test_an_empty_error_is_none() -> None:
    assert taken(chunk(content="x") | {"error": None})[1] == [Delta("x")]


# The end --------------------------------------------------------------------------------------


def test_an_answer_that_nobody_ended_is_none() -> None:
    answer, _ = taken(chunk(content="half"))
    with pytest.raises(UpstreamDisconnected, match="in the middle"):
        answer.check([])


def test_done_alone_ends_it() -> None:
    answer, _ = taken(chunk(content="all"))
    answer.done = True
    answer.check([])


def test_thinking_without_an_answer_is_empty() -> None:
    answer, _ = taken(chunk("stop", reasoning_content="hm"))
    with pytest.raises(EmptyAnswer):
        answer.check([])


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(content="<think>hm</think>\n\n")],
        [chunk(content="<think>never ending")],
        [chunk(reasoning="hm"), chunk(content="\n")],
    ],
)
def test_nothing_but_thinking_is_no_answer(chunks: list[Any]) -> None:
    answer, _ = taken(*chunks, chunk("stop"))
    with pytest.raises(EmptyAnswer, match="nothing but thinking"):
        answer.check([])


def test_thinking_before_a_tool_call_is_an_answer() -> None:
    taken(chunk(reasoning="hm"), chunk("tool_calls", **call(name="add")))[0].check([])


def test_white_space_without_thinking_is_an_answer() -> None:
    taken(chunk("stop", content=" "))[0].check([])


NOTHING = "No response from OpenClaw."


def test_a_text_that_stands_for_nothing_is_empty() -> None:
    answer, _ = taken(chunk(content="No response "), chunk("stop", content="from OpenClaw."))
    with pytest.raises(EmptyAnswer):
        answer.check([NOTHING])


@pytest.mark.parametrize("text", [NOTHING + " But", NOTHING[:-1], NOTHING * 100])
def test_a_text_that_only_resembles_it_is_an_answer(text: str) -> None:
    taken(chunk("stop", content=text))[0].check([NOTHING])


def test_only_the_beginning_of_the_text_is_kept() -> None:
    answer, deltas = taken(*(chunk(content="x" * 1000) for _ in range(100)))
    assert len(answer.text_seen) <= 128
    assert len(deltas) == 100


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "message",
                    "content",
                    "tool_calls",
                    "function",
                    "arguments",
                    "index",
                    "usage",
                    "prompt_tokens",
                    "finish_reason",
                    "error",
                    "reasoning",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_value_is_taken_or_refused_and_breaks_nothing(value: Any) -> None:
    try:
        answer, deltas = taken({"choices": [{"delta": value}]}, {"choices": [value]}, value)
    except ProviderError:
        return
    assert all(delta.text for delta in deltas)
    assert answer.begun or not deltas
