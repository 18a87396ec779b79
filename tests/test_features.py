import time

import pytest

from asyncsvc.providers.features import HEAD, TAIL, Features

FEATURES = Features.builtin()


def _names(text: str) -> set[str]:
    return {hit.name for hit in FEATURES.read(text).hits}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("小明有5个苹果，吃了2个，还剩几个？", "zh_math"),
        ("Prove that sqrt(2) is irrational", "en_math"),
        ("深入分析人工智能对社会的影响", "zh_deep"),
        ("用Python实现快速排序", "zh_code"),
        ("```\nx = 1\n```", "code_block"),
        ("A. one\nB. two", "choices"),
        ("请写一首诗", "zh_plain"),
        ("Translate this", "plain_opener"),
    ],
)
def test_a_feature_is_found(text: str, name: str) -> None:
    assert name in _names(text)


def test_an_english_word_is_found_only_as_a_word() -> None:
    assert "en_math" not in _names("improvement")
    assert FEATURES.read("a history of hills").cue("simple") is None
    assert FEATURES.read("Hi there").cue("simple") == "hi"


def test_a_chinese_word_needs_no_border() -> None:
    assert FEATURES.read("请你现在马上回答我").cue("realtime") == "现在马上"


def test_full_width_forms_count_as_plain_ones() -> None:
    wide, plain = FEATURES.read("１２＋３"), FEATURES.read("12+3")
    assert wide.score == plain.score


def test_the_score_is_the_weighted_sum_of_what_is_shown() -> None:
    reading = FEATURES.read("小明有5个苹果，吃了2个，还剩几个？")
    shown = sum(hit.value * hit.weight for hit in reading.hits)
    assert reading.score == pytest.approx(FEATURES.bias + shown)
    assert all(hit.matched for hit in reading.hits)


def test_a_count_is_capped() -> None:
    numbers = next(h for h in FEATURES.read("1 2 3 4 5 6 7 8 9").hits if h.name == "numbers")
    assert numbers.value == 6
    assert len(numbers.matched) == 3


def test_only_the_beginning_and_the_end_are_looked_at() -> None:
    middle = "x" * HEAD + "证明" + "x" * TAIL
    assert "zh_math" not in _names(middle)
    assert "zh_math" in _names("证明" + middle)
    assert "zh_math" in _names(middle + "证明")


def test_ten_megabytes_are_read_as_fast_as_two_thousand_characters() -> None:
    text = "深入" * 5_000_000
    started = time.perf_counter()
    FEATURES.read(text)
    assert time.perf_counter() - started < 1
