import time
from collections.abc import Iterable
from itertools import cycle, islice
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
    UpstreamTooLarge,
)
from asyncsvc.providers.answers.answer import Answer
from asyncsvc.providers.answers.delta import Delta
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
    _answer, deltas = taken(chunk(**{name: "hm"}), chunk(content="so"))
    assert deltas == [Delta("hm", reasoning=True), Delta("so")]


def test_both_names_at_once_are_one_thought() -> None:
    assert taken(chunk(reasoning_content="a", reasoning="a"))[1] == [Delta("a", reasoning=True)]


def test_thinking_between_tags_in_the_text() -> None:
    _answer, deltas = taken(
        *(chunk(content=text) for text in ("\n<th", "ink>h", "m</thi", "nk>\n", "\nso", " <think>"))
    )
    assert deltas == [Delta("h", True), Delta("m", True), Delta("so"), Delta(" <think>")]


def test_an_answer_that_may_become_thinking_has_begun() -> None:
    answer = Answer()
    assert list(answer.take(chunk(content="<thi"), [])) == []
    assert answer.begun
    assert list(answer.rest()) == [Delta("<thi")]


@pytest.mark.parametrize(
    "odd", [{"content": None}, {"content": 7}, {"content": [None, 3]}, "x", [1]]
)
def test_what_is_no_text_is_no_piece(odd: Any) -> None:
    _answer, deltas = taken({"choices": [{"delta": odd}]}, chunk(content="x"))
    assert deltas == [Delta("x")]


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


def test_usage_is_read_wherever_it_is() -> None:
    first, last = {"prompt_tokens": 3}, {"prompt_tokens": 3, "completion_tokens": 9}
    answer, _ = taken(chunk(content="x") | {"usage": first}, chunk() | {"usage": None})
    assert answer.usage == {"prompt_tokens": 3}
    answer, _ = taken({"choices": [{"delta": {}, "usage": first}]}, {"usage": last})
    assert answer.usage == last
    answer, _ = taken({"choices": [{"delta": {"usage": first}}]}, {"x_groq": {"usage": last}})
    assert answer.usage == last


# Tool calls -----------------------------------------------------------------------------------


def test_a_refusal_is_the_text_and_known_as_a_refusal() -> None:
    refusal = Delta("I cannot", refusal=True)
    assert taken(chunk(refusal="I cannot", content=None))[1] == [refusal]
    assert taken(chunk(refusal="I cannot", content="I cannot"))[1] == [refusal]
    parts = [{"type": "refusal", "refusal": "I cannot"}]
    assert taken(chunk(content=parts))[1] == [refusal]
    whole = {"choices": [{"message": {"content": None, "refusal": "I cannot"}}]}
    assert taken(chunk(refusal="I "), whole)[1] == [
        Delta("I ", refusal=True),
        Delta("cannot", refusal=True),
    ]


def test_tool_calls_are_given_out_with_their_first_arguments() -> None:
    answer, deltas = taken(
        chunk(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "add", "arguments": ""}}]),
        chunk(**call(0, arguments='{"a"')),
        chunk(**call(0, arguments=":1}")),
        chunk(tool_calls=[{"index": 1, "id": "c2", "function": {"name": "neg"}}]),
        chunk("tool_calls"),
    )
    assert [delta.call for delta in deltas] == [
        {
            "index": 0,
            "id": "c1",
            "type": "function",
            "function": {"name": "add", "arguments": '{"a"'},
        },
        {"index": 0, "function": {"arguments": ":1}"}},
        {"index": 1, "id": "c2", "type": "function", "function": {"name": "neg", "arguments": ""}},
    ]
    assert (answer.called, answer.finish_reason) == (True, "tool_calls")
    answer.check([])


def test_a_function_call_of_the_older_kind_is_a_tool_call() -> None:
    pieces = [{"name": "f", "arguments": ""}, {"arguments": '{"x"'}, {"arguments": ":1}"}]
    answer, deltas = taken(*(chunk(function_call=p) for p in pieces), chunk("function_call"))
    joined = "".join(d.call["function"]["arguments"] for d in deltas if d.call)
    assert (joined, answer.finish_reason) == ('{"x":1}', "tool_calls")


# Refusals -------------------------------------------------------------------------------------


ODD: list[Any] = [
    *([], "text", 7, None, True, {}, {"object": "chat.completion.chunk"}, {"type": "ping"}),
    *({"error": {}}, {"error": ""}, {"error": None}, {"error": {"code": 0}}, {"choices": None}),
    *({"choices": ["x"]}, {"choices": [{"delta": "x"}]}, {"choices": [{"message": [1]}]}),
    *({"choices": {}}, {"choices": [None, 3]}, {"choices": [{"error": {}}]}),
    *(chunk(tool_calls=["x"]), chunk(tool_calls=[{"function": "x"}]), chunk(tool_calls="x")),
    chunk(function_call="f"),
]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_frame_is_left_out(odd: Any) -> None:
    frames = [chunk(content="Hello"), odd, chunk(content=" world"), chunk("stop")]
    answer, deltas = taken(*frames)
    assert "".join(delta.text for delta in deltas) == "Hello world"
    answer.check([])
    answer, deltas = taken(odd, *frames)
    assert "".join(delta.text for delta in deltas) == "Hello world"
    answer.check([])


def test_frames_in_a_list_are_frames() -> None:
    assert taken([chunk(content="a"), chunk(content="b")])[1] == [Delta("a"), Delta("b")]


@pytest.mark.parametrize("frame", [{"model": "m", "id": 3}, "text", [1]])
def test_nothing_but_odd_frames_is_reported_as_what_it_is(frame: Any) -> None:
    answer, _ = taken(frame)
    with pytest.raises((UpstreamInvalid, UpstreamDisconnected), match=r"no answer|in the middle"):
        answer.check([])


def test_the_first_choice_counts_alone() -> None:
    other = {"index": 1, "delta": {"content": "no"}, "finish_reason": "error"}
    first = {"index": 0, "delta": {"content": "yes"}, "finish_reason": None}
    answer, deltas = taken({"choices": [other, first]}, {"choices": [other]}, chunk("stop"))
    assert deltas == [Delta("yes")]
    answer.check([])


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("content_filter", ContentFiltered),
        ("SAFETY", ContentFiltered),
        ("network_error", UpstreamDisconnected),
        ("abort", UpstreamDisconnected),
        ("Cancelled", UpstreamDisconnected),
        ("error", UpstreamOverloaded),
        ("insufficient_system_resource", UpstreamOverloaded),
        ("timeout", UpstreamOverloaded),
        ("MALFORMED_FUNCTION_CALL", UpstreamInvalid),
        ("model_context_window_exceeded", ContextTooLong),
    ],
)
def test_an_answer_that_was_broken_off_is_none(reason: str, kind: type[ProviderError]) -> None:
    answer = Answer()
    with pytest.raises(kind, match=reason):
        list(answer.take(chunk(reason, content="half"), []))
    assert not answer.ended


@pytest.mark.parametrize("where", ["choice", "delta", "message"])
def test_an_error_inside_a_choice_has_the_words_of_the_provider(where: str) -> None:
    fault = {"error": {"code": 502, "message": "the provider went away"}}
    choice: dict[str, Any] = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
    choice = choice | fault if where == "choice" else choice | {where: fault}
    with pytest.raises(UpstreamOverloaded, match="the provider went away"):
        taken(chunk(content="half"), {"choices": [choice]})


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


def test_an_answer_that_no_client_ended_is_none() -> None:
    answer, _ = taken(chunk(content="half"))
    with pytest.raises(UpstreamDisconnected, match="in the middle"):
        answer.check([])


def test_done_alone_ends_it() -> None:
    answer, _ = taken(chunk(content="all"))
    answer.done = True
    answer.check([])


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(reasoning_content="hm")],
        [chunk(content="<think>hm</think>\n\n")],
        [chunk(content="<think>never ending")],
        [chunk(reasoning="hm"), chunk(content="\n")],
        [chunk() | {"usage": {"prompt_tokens": 5, "completion_tokens": 0}}],
        [chunk(images=[{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}])],
    ],
)
def test_an_end_without_text_is_an_answer_where_the_model_did_something(chunks: list[Any]) -> None:
    answer, _ = taken(*chunks, chunk("stop"))
    answer.check([])
    assert answer.finish_reason == "stop"


@pytest.mark.parametrize("usage", [{}, {"usage": {"prompt_tokens": 0, "completion_tokens": 0}}])
def test_an_end_without_anything_is_no_answer(usage: dict[str, Any]) -> None:
    answer, _ = taken(chunk(content=""), chunk("stop") | usage)
    with pytest.raises(EmptyAnswer):
        answer.check([])


def test_nothing_to_add_to_the_result_of_a_tool_is_an_answer() -> None:
    answer = Answer(after_tool=True)
    assert list(answer.take(chunk("stop"), ())) == []
    answer.check([])


@pytest.mark.parametrize("word", ["length", "MAX_TOKENS", "max_output_tokens"])
def test_a_limit_without_text_is_an_answer(word: str) -> None:
    answer, _ = taken(chunk(word))
    answer.check([])
    assert (answer.finish_reason, answer.ending and answer.ending.word) == ("length", word)


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


# When an end is one --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        {"choices": [{"delta": {}, "finishReason": "STOP"}]},
        {"choices": [{"delta": {"finish_reason": "stop"}}]},
        {"choices": [{"delta": {}, "finish_reason": None, "stop_reason": "end_turn"}]},
    ],
)
def test_a_reason_in_another_field_is_one(frame: dict[str, Any]) -> None:
    answer, deltas = taken(chunk(content="x"), frame)
    assert (deltas, answer.ended, answer.finish_reason) == ([Delta("x")], True, "stop")


@pytest.mark.parametrize("word", ["null", "None", "", "undefined", None, False, {}, []])
def test_a_word_for_no_end_is_none(word: Any) -> None:
    answer, _ = taken({"choices": [{"delta": {"content": "x"}, "finish_reason": word}]})
    assert not answer.ended
    with pytest.raises(UpstreamDisconnected):
        answer.check([])


def test_a_reason_in_each_frame_is_no_end() -> None:
    answer, deltas = taken(chunk("stop", content="Hello"), chunk("stop", content=" wor"))
    assert deltas == [Delta("Hello"), Delta(" wor")]
    assert (answer.ended, answer.certain) == (False, False)
    with pytest.raises(UpstreamDisconnected):
        answer.check([])


@pytest.mark.parametrize("last", [chunk("stop"), {"choices": [], "usage": {"prompt_tokens": 3}}])
def test_a_reason_in_each_frame_ends_with_one_without_text(last: dict[str, Any]) -> None:
    answer, _ = taken(chunk("stop", content="Hello"), chunk("stop", content=" world"), last)
    assert (answer.ended, answer.certain) == (True, True)


def test_usage_in_each_frame_makes_no_end_of_its_reason() -> None:
    frames = [chunk("stop", content=text) | {"usage": {"prompt_tokens": 3}} for text in "abc"]
    assert not taken(*frames)[0].ended


def test_a_reason_beside_text_is_certain_only_where_text_before_it_had_none() -> None:
    answer, _ = taken(chunk(content="Hello"), chunk("stop", content=" world"))
    assert (answer.ended, answer.certain) == (True, True)
    answer, _ = taken(chunk("stop", content="Hello"))
    assert (answer.ended, answer.certain) == (True, False)
    answer.check([])
    answer, _ = taken(chunk("stop", content="Hello") | {"usage": {"prompt_tokens": 3}})
    assert answer.certain
    assert taken(whole("Hello"))[0].certain


# Whole and in pieces --------------------------------------------------------------------------


def whole(text: str | None = None, finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text, **more}, "finish_reason": finish}]}


def texts_of(deltas: list[Delta]) -> tuple[str, str]:
    """(text, thinking)."""
    texts = [delta for delta in deltas if delta.call is None and delta.event is None]
    parts = {
        kind: "".join(delta.text for delta in texts if delta.reasoning is kind)
        for kind in (False, True)
    }
    return parts[False], parts[True]


HELLO = [chunk(reasoning_content="hm"), chunk(content="Hello"), chunk(content=" world")]


@pytest.mark.parametrize(
    "closing",
    [
        [whole("Hello world")],
        [whole("Hello world", reasoning_content="hm")],
        [whole("Hello world", reasoning="hm")],
        [whole("<think>hm</think>\n\nHello world")],
        [whole([{"type": "text", "text": "Hello world"}])],  # type: ignore[arg-type]
        [whole(" Hello world\n")],
        [whole("Hello")],
        [whole("")],
        [whole("Another text")],
        [whole("Hello world"), whole("Hello world")],
        [{"choices": [chunk("stop")["choices"][0] | {"message": {"content": "Hello world"}}]}],
        [chunk("stop", content="Hello world")],
        [chunk("stop", content="Hello world"), chunk("stop", content="")],
    ],
)
def test_a_closing_message_repeats_nothing(closing: list[Any]) -> None:
    answer, deltas = taken(*HELLO, *closing)
    assert texts_of(deltas) == ("Hello world", "hm")
    answer.check([])


def test_a_closing_delta_is_text_where_it_may_be_meant_so() -> None:
    assert texts_of(taken(chunk(content="ha"), chunk("stop", content="ha"))[1])[0] == "haha"
    each = [chunk("stop", content="once more, ")] * 3
    assert texts_of(taken(*each)[1])[0] == "once more, " * 3


def test_a_closing_message_adds_what_it_has_beyond_the_pieces() -> None:
    _, deltas = taken(*HELLO, whole("Hello world!", reasoning_content="hmm"))
    assert texts_of(deltas) == ("Hello world!", "hmm")
    _answer, deltas = taken(chunk(content="<think>h"), whole("<think>hm</think>\nso"))
    assert texts_of(deltas) == ("so", "hm")


def test_a_message_beside_each_delta_is_the_sum_so_far() -> None:
    frames, text = [], ""
    for piece in ("Hel", "lo", " world"):
        text += piece
        (choice,) = chunk(content=piece)["choices"]
        frames.append({"choices": [choice | {"message": {"content": text, "reasoning": "hm"}}]})
    assert texts_of(taken(*frames, chunk("stop"))[1]) == ("Hello world", "hm")


def test_messages_alone_may_be_sums_or_pieces() -> None:
    sums = [whole("Hel", None), whole("Hello", None), whole("Hello world")]
    assert texts_of(taken(*sums)[1]) == ("Hello world", "")
    pieces = [whole("Hel", None), whole("lo", None), whole(" world")]
    assert texts_of(taken(*pieces)[1]) == ("Hello world", "")
    thoughts = [whole(None, None, reasoning="a"), whole(None, None, reasoning="b"), whole("so")]
    assert texts_of(taken(*thoughts)[1]) == ("so", "ab")


def test_a_closing_message_repeats_no_tool_call() -> None:
    calls = [
        {"id": name, "type": "function", "function": {"name": name, "arguments": f'{{"{name}":1}}'}}
        for name in "ab"
    ]
    pieces = [chunk(tool_calls=[one | {"index": i}]) for i, one in enumerate(calls)]
    closing = whole(None, "tool_calls", tool_calls=calls)
    assert taken(*pieces, closing)[1] == taken(*pieces)[1]
    nameless = [{"type": one["type"], "function": one["function"]} for one in calls]
    assert taken(*pieces, whole(None, "tool_calls", tool_calls=nameless))[1] == taken(*pieces)[1]
    _late, deltas = taken(pieces[0], closing)
    assert [d.call["id"] for d in deltas if d.call] == ["a", "b"]


@pytest.mark.parametrize(
    "frames",
    [
        [chunk(reasoning_content="hm", reasoning="hm")],
        [
            chunk(reasoning_content="h", content="<think>h"),
            chunk(reasoning="m", content="m</think>"),
        ],
        [chunk(reasoning_content="hm"), chunk(content="<think>\nhm\n</think>\n")],
        [chunk(reasoning_content="h"), chunk(reasoning_content="m"), chunk(reasoning="hm")],
        [chunk(content=[{"type": "thinking", "thinking": "hm"}]), chunk(reasoning_content="hm")],
    ],
)
def test_the_same_thinking_in_two_places_is_one(frames: list[Any]) -> None:
    _answer, deltas = taken(*frames, chunk(content="so"), chunk("stop"))
    assert texts_of(deltas) == ("so", "hm")


def test_other_thinking_in_another_place_is_kept() -> None:
    frames = [chunk(reasoning_content="one"), chunk(content="<think>two</think>so")]
    assert texts_of(taken(*frames)[1]) == ("so", "onetwo")


# Shapes of content ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text", "thought"),
    [
        (["a", "b"], "ab", ""),
        ([{"type": "text", "text": "a"}, {"text": "b"}], "ab", ""),
        ([{"type": "output_text", "text": {"value": "a"}}], "a", ""),
        ({"type": "text", "text": "a"}, "a", ""),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "h"}]}, "a"], "a", "h"),
        ([{"type": "reasoning", "text": "h"}, {"type": "unknown", "text": "x"}], "", "h"),
    ],
)
def test_content_in_parts(content: Any, text: str, thought: str) -> None:
    assert texts_of(taken(chunk(content=content))[1]) == (text, thought)


def test_thinking_in_parts() -> None:
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]
    assert texts_of(taken(chunk(reasoning_content=parts), chunk(content="so"))[1]) == ("so", "hm")


def test_parts_that_are_no_text_are_kept() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    signed = {"type": "thinking", "thinking": "h", "signature": "SIG"}
    _, deltas = taken(chunk(content=[signed, image, {"type": "new", "x": 1}]), chunk("stop"))
    assert deltas[-1].event == (
        "message",
        {"content_parts": [signed, {"type": "new", "x": 1}], "images": [image]},
    )


def test_the_older_kind_of_completions() -> None:
    frames = [{"choices": [{"text": text, "index": 0}]} for text in ("Hello", " world")]
    assert texts_of(taken(*frames, chunk("stop"))[1]) == ("Hello world", "")


# Further fields -------------------------------------------------------------------------------


def test_further_fields_come_merged_and_once_at_the_end() -> None:
    detail = {"type": "reasoning.text", "index": 0, "format": "f"}
    _, deltas = taken(
        chunk(reasoning="th", reasoning_details=[detail | {"text": "th"}]),
        chunk(reasoning="ink", reasoning_details=[detail | {"text": "ink", "signature": "SIG"}]),
        chunk(content="so", annotations=[{"url": "a"}], provider="x"),
        chunk(annotations=[{"url": "b"}], provider="x", token_ids=[1, 2]),
        chunk("stop", annotations=[{"url": "a"}, {"url": "b"}]),
    )
    fields = {
        "reasoning_details": [detail | {"text": "think", "signature": "SIG"}],
        "annotations": [{"url": "a"}, {"url": "b"}],
        "provider": "x",
    }
    assert [delta.event for delta in deltas if delta.event] == [("message", fields)]


def test_sources_beside_the_choices_belong_to_the_message() -> None:
    frames = [chunk(content=text) | {"citations": ["u", "v"]} for text in "ab"]
    _, deltas = taken(*frames, chunk("stop") | {"citations": ["u", "v"]})
    assert [delta.event for delta in deltas if delta.event] == [
        ("message", {"citations": ["u", "v"]})
    ]


def test_a_closing_message_replaces_further_fields() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    _, deltas = taken(
        chunk(content="x", images=[image]), whole("x", images=[image], citations=["u"])
    )
    assert deltas[-1].event == ("message", {"images": [image], "citations": ["u"]})


def test_further_fields_of_an_answer_without_an_end_are_not_given_out() -> None:
    assert taken(chunk(content="x", citations=["u"]))[1] == [Delta("x")]


def test_further_fields_are_bounded() -> None:
    big = {"images": [{"url": "x" * (1 << 20)}]}
    with pytest.raises(UpstreamTooLarge, match="4 MiB"):
        taken(*({"choices": [{"delta": {name: big}}]} for name in "abcdef"))


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
    assert all(delta.text or delta.call or delta.event for delta in deltas)
    assert answer.begun or not deltas


def frame(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta}]}


def called_with(arguments: str, **function: str) -> dict[str, Any]:
    call = {"index": 0, "function": {"arguments": arguments, **function}}
    return frame(tool_calls=[call])


def cost_s(frames: Iterable[dict[str, Any]]) -> float:
    """Processor seconds for reading these frames as one answer."""
    answer = Answer()
    began = time.process_time()
    for each in frames:
        for _ in answer.take(each, ()):
            pass
    return time.process_time() - began


LONG = "x" * 1000
MANY = 6000


@pytest.mark.parametrize(
    "pieces",
    [
        [called_with(LONG, name="f"), called_with(LONG)],
        [called_with(LONG)],
        [called_with("}" * 1000, name="f")],
        [frame(content=LONG), {"choices": [{"index": 0, "message": {"content": "y" * 100}}]}],
        [
            {"choices": [{"index": 0, "message": {"content": f"{number} {LONG}"}}]}
            for number in range(10)
        ],
    ],
    ids=["arguments", "no-name", "braces", "text-and-message", "messages"],
)
def test_an_answer_in_many_pieces_costs_little_more_for_each(
    pieces: list[dict[str, Any]],
) -> None:
    few = min(cost_s(islice(cycle(pieces), MANY // 8)) for _ in range(3))
    many = cost_s(islice(cycle(pieces), MANY))
    assert many < 24 * few + 0.05, "eight times the pieces, and far more than that of time"
