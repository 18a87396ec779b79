"""Finish reasons of all providers, as OpenAI's four."""

from typing import Any

import pytest

from asyncsvc.errors import ContentFiltered, ProviderError, UpstreamOverloaded
from asyncsvc.providers.answers.finish_reasons import MEANINGS, ending, reason_of


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        *((w, "stop") for w in ("stop", "STOP", "eos", "eos_token", "end_turn", "stop_sequence")),
        *((w, "stop") for w in ("FinishReason.STOP", "FINISH_REASON_STOP", "a word of tomorrow")),
        *((w, "length") for w in ("length", "max_tokens", "MAX_TOKENS", "model_length")),
        *((w, "length") for w in ("max_output_tokens", "maxTokens", "max-tokens")),
        *((w, "tool_calls") for w in ("tool_calls", "tool_use", "function_call", "TOOL_CALL")),
    ],
)
def test_a_word_means_one_of_four_reasons(word: str, reason: str) -> None:
    found = ending(word)
    assert found is not None
    assert (found.word, found.meaning) == (word, reason)


@pytest.mark.parametrize("word", ["safety", "SAFETY", "RECITATION", "sensitive", "content_filter"])
def test_a_filter_is_a_failure_of_its_own(word: str) -> None:
    found = ending(word)
    assert found is not None
    assert found.meaning is ContentFiltered


@pytest.mark.parametrize("word", [None, "", "null", "None", False, [], {}, 1.5, "\n"])
def test_no_word_is_no_end(word: Any) -> None:
    assert ending(word) is None


def test_a_reason_in_an_object_is_read() -> None:
    assert ending({"type": "stop", "stop": "\n"}) == ending("stop")


def test_an_endless_word_is_cut() -> None:
    found = ending("x" * 10_000)
    assert found is not None
    assert (len(found.word), found.meaning) == (100, "stop")


def test_tool_calls_decide_between_stop_and_tool_calls() -> None:
    assert reason_of("stop", calls=True) == reason_of("tool_calls", calls=True) == "tool_calls"
    assert reason_of("stop", calls=False) == reason_of("tool_calls", calls=False) == "stop"
    assert reason_of("length", calls=True) == "length"


def test_the_table_has_letters_and_digits_only() -> None:
    assert all(word.isalnum() and word == word.lower() for word in MEANINGS)
    failures = [m for m in MEANINGS.values() if isinstance(m, type)]
    assert UpstreamOverloaded in failures
    assert all(issubclass(m, ProviderError) for m in failures)
