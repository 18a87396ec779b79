import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.providers.tokens import estimate, estimated_usage


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
