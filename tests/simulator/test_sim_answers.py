"""Contents of answers: texts, values of a schema, tool calls, vectors."""

import math
import random
from typing import Any

import pytest

from asyncsvc.simulator import answers
from asyncsvc.simulator.answers import (
    MOST_LEVELS,
    call_pieces,
    compose,
    compose_thoughts,
    embed,
    sample,
    tokenize,
    tool_calls,
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "你好，世界！",
        "Hello, big world.",
        "混合 mixed 文本 3.14\n\n第二行",
        "🙂👩‍👩‍👧 e\u0301\u2028x\t ",
    ],
)
def test_tokens_joined_are_the_text(text: str) -> None:
    assert "".join(tokenize(text)) == text


def test_chinese_tokens_are_one_or_two_characters() -> None:
    tokens = tokenize("综合来看，稳妥的方案是先求正确")
    assert {len(token) for token in tokens} == {1, 2}


@pytest.mark.parametrize("prompt", ["什么是量子计算？", "What is quantum computing?", ""])
@pytest.mark.parametrize("count", [1, 2, 5, 20, 60, 61, 62, 63, 64, 500])
def test_an_answer_has_exactly_the_tokens_asked_for(prompt: str, count: int) -> None:
    tokens = compose(prompt, count, "1", random.Random(count))
    assert len(tokens) == count
    if count >= 60:
        assert tokens[-1].endswith(("。", ".", "？"))


def test_the_answer_is_in_the_language_of_the_question_and_says_what_it_is() -> None:
    chinese = "".join(compose("请介绍杭州西湖的春天", 60, "7", random.Random(1)))
    english = "".join(compose("Tell me about spring in Hangzhou", 60, "7", random.Random(1)))
    assert chinese.startswith("#7【模拟器的回答】关于「请介绍杭州西湖的春天」：")
    assert english.startswith('#7 [simulated answer] On "Tell me about spring in Hangzhou":')
    assert answers.is_chinese(chinese)
    assert not answers.is_chinese(english)


def test_a_long_question_is_echoed_by_its_start() -> None:
    assert "「" + "长" * answers.ECHO_CHARS + "…」" in "".join(
        compose("长" * 500, 60, "1", random.Random(1))
    )


def test_labels_tell_answers_apart_even_when_short() -> None:
    for count in (1, 3, 60):
        made = {"".join(compose("你好", count, str(n), random.Random(0))) for n in range(1, 50)}
        assert len(made) == 49


def test_a_translation_has_a_line_for_each_line() -> None:
    prompt = "把下面的句子翻译成英文：\n1. 春眠不觉晓\n2、处处闻啼鸟\n3) 夜来风雨声"
    lines = "".join(compose(prompt, 60, "1", random.Random(1))).split("\n")
    assert [line[:2] for line in lines] == ["1.", "2、", "3)"]
    assert "春眠不觉晓" in lines[0]
    assert "simulated translation" in lines[0]


def test_lines_without_numbers_are_translated_too() -> None:
    prompt = "Translate to Chinese:\nGood morning\n\nSee you later"
    lines = "".join(compose(prompt, 40, "1", random.Random(1))).split("\n")
    assert len(lines) == 2
    assert all("模拟译文" in line for line in lines)
    assert "Good morning" in lines[0]


def test_the_target_language_is_guessed_from_the_lines() -> None:
    to_chinese = "".join(compose("translate:\nGood morning", 40, "1", random.Random(1)))
    to_english = "".join(compose("翻译一下\n早上好", 40, "1", random.Random(1)))
    assert "模拟译文" in to_chinese
    assert "simulated translation" in to_english


def test_a_question_about_translation_on_one_line_is_just_answered() -> None:
    assert "模拟器的回答" in "".join(compose("翻译是什么？", 60, "1", random.Random(1)))


@pytest.mark.parametrize("prompt", ["你好", "hello"])
def test_thoughts_are_filled_exactly(prompt: str) -> None:
    for count in (0, 1, 4, 30):
        assert len(compose_thoughts(prompt, count, random.Random(1))) == count


def test_token_estimates_follow_the_script() -> None:
    assert answers.estimate_tokens("a" * 400) == 100
    assert answers.estimate_tokens("字" * 100) == 60
    assert answers.estimate_tokens("") == 1


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "simulated"),
        ({"type": ["integer", "null"]}, 1),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 7}, 7),
        ({"type": "string", "default": "d"}, "d"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, True),
        ({"type": "array", "items": {"type": "number"}}, [1.5]),
        ({"properties": {"a": {"type": "null"}}}, {"a": None}),
        ({"properties": 3}, {}),
        ({"type": []}, None),
        (None, None),
    ],
)
def test_a_value_fits_its_schema(schema: Any, value: Any) -> None:
    assert sample(schema) == value


def test_a_schema_within_itself_ends() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    schema["properties"]["again"] = schema
    value, depth = sample(schema), 0
    while value:
        value, depth = value["again"], depth + 1
    assert depth == MOST_LEVELS + 1


def test_calls_take_the_tools_in_turn_and_their_pieces_join() -> None:
    tools = [("f", {"properties": {"city": {"type": "string"}}}), ("g", None)]
    calls = tool_calls(tools, 3, "x")
    assert [call["function"]["name"] for call in calls] == ["f", "g", "f"]
    assert len({call["id"] for call in calls}) == 3
    for index, call in enumerate(calls):
        parts = [p["function"] for p in call_pieces(calls) if p["index"] == index]
        assert parts[0]["name"] == call["function"]["name"]
        assert "".join(p["arguments"] for p in parts) == call["function"]["arguments"]


def test_vectors_are_unit_deterministic_and_apart() -> None:
    a, b = embed("春天", 256), embed("秋天", 256)
    assert a == embed("春天", 256)
    assert a != b
    assert math.isclose(math.hypot(*a), 1.0, abs_tol=1e-9)
    assert abs(sum(x * y for x, y in zip(a, b, strict=True))) < 0.3
