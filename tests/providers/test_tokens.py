from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.providers.tokens import (
    ANSWER,
    estimate,
    estimated_usage,
    expected,
    of_prompt,
    total,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("a" * 400, 100),
        ("你" * 100, 65),
        ("你" * 100 + "a" * 400, 165),
        ("。", 1),
        ("カタカナ" * 10, 26),
        ("한국" * 50, 65),
    ],
)
def test_an_estimate_by_script(text: str, tokens: int) -> None:
    assert estimate(text) == tokens


@given(st.text(min_size=1))
def test_any_text_costs_something_and_at_most_a_token_a_character(text: str) -> None:
    assert 1 <= estimate(text) <= len(text)


def test_estimated_usage_adds_up_and_says_what_it_is() -> None:
    assert estimated_usage("a" * 40, "b" * 20) == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "estimated": True,
    }


TEXT = "a" * 40


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"content": TEXT, "params": {}}, 10 + 4 + ANSWER),
        ({"content": TEXT, "params": {"max_tokens": 100}}, 114),
        ({"content": TEXT, "params": {"max_tokens": 100, "max_completion_tokens": 50}}, 64),
        ({"content": TEXT, "params": {"max_tokens": "many"}}, 14 + ANSWER),
        ({"content": TEXT, "params": {"max_tokens": True}}, 14 + ANSWER),
        ({"content": TEXT, "params": {"max_tokens": 2**63}}, 14 + ANSWER),
        ({"messages": [{"role": "user", "content": TEXT}] * 2, "params": {}}, 28 + ANSWER),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"text": TEXT}, {"image_url": {}}, "odd"]},
                    {"role": "assistant"},
                ],
                "params": {},
            },
            14 + ANSWER,
        ),
        ({"input": TEXT, "params": {}}, 10),
        ({"input": [TEXT, TEXT], "params": {}}, 20),
        ({"input": "", "params": {}}, 1),
    ],
)
def test_what_a_call_is_expected_to_cost(body: dict[str, Any], tokens: int) -> None:
    assert expected(body)[1] == tokens


@pytest.mark.parametrize(
    ("body", "need"),
    [
        ({"content": TEXT, "params": {}}, 12),
        ({"content": "你" * 100, "params": {"max_tokens": 100}}, 75 + 100),
        ({"content": TEXT, "params": {"max_completion_tokens": 7}}, 12 + 7),
        ({"content": TEXT, "params": {"max_tokens": -5, "max_completion_tokens": 7}}, 12),
        ({"messages": [{"role": "user", "content": TEXT}] * 2, "params": {"max_tokens": 9}}, 32),
        ({"input": [TEXT, TEXT, ""], "params": {}}, 23),
        ({"input": "", "params": {}}, 0),
    ],
)
def test_the_context_that_it_needs_has_a_margin(body: dict[str, Any], need: int) -> None:
    assert expected(body)[0] == need


def test_of_a_long_text_a_sample_is_enough() -> None:
    text = ("你好，世界。" + "hello ") * 200_000
    exact = 200_000 * (6 * 0.65 + 6 / 4)
    assert estimate(text) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("usage", [None, {}, {"total_tokens": "7"}, {"total_tokens": -1}])
def test_without_usage_the_estimate_stands(usage: dict[str, Any] | None) -> None:
    assert total(usage, 99) == 99
    assert total({"total_tokens": 7}, 99) == 7


def test_a_prompt_is_texts_thinking_calls_and_tools() -> None:
    text = "four" * 10
    call = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
    plain = of_prompt([{"role": "user", "content": text}], {})
    assert plain == estimate(text) + 4
    message = {"role": "assistant", "content": text, "reasoning_content": "why" * 40}
    thought = of_prompt([message], {})
    assert thought == plain + estimate("why" * 40)
    assert of_prompt([message | {"tool_calls": [call]}], {}) > thought
    assert of_prompt([message], {"tools": [{"type": "function"}]}) > thought
