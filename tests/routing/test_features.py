import time

import pytest

from asyncsvc.routing.classifier import END, HEAD, PASTED, SHAPE, START, TAIL, extract


def _shape(text: str) -> set[str]:
    return {name.removeprefix(SHAPE) for name in extract(text).shape}


def test_pieces_are_all_short_passages_with_their_first_place() -> None:
    spans = extract("abab").spans
    assert spans["ab"] == (1, 3)
    assert spans[f"{START}aba"] == (0, 4)
    assert spans[f"bab{END}"] == (2, 6)


def test_words_and_pairs_of_words_are_pieces_of_any_length() -> None:
    found = extract("Nevertheless, elephants remember")
    passages = {found.shown[begin:end] for begin, end in found.spans.values()}
    assert {"Nevertheless", "elephants remember"} <= passages


@pytest.mark.parametrize(
    ("text", "same"),
    [("１２＋３？", "12+3?"), ("HELLO  there\n", "hello there"), ("在 9 点", "在 7 点")],
)
def test_width_case_spaces_and_the_value_of_a_digit_do_not_change_the_pieces(
    text: str, same: str
) -> None:
    assert extract(text).spans == extract(same).spans


def test_passages_are_shown_as_they_were_written() -> None:
    found = extract("Rows 12 to 30")
    begin, end = found.spans["00 to"]
    assert found.shown[begin:end] == "12 to"


@pytest.mark.parametrize(
    "text",
    [
        'Shorten: "{}"',
        "把这段话改短：“{}”",
        "Fix the typos:\n\nDear all,\n{}\nRegards",
    ],
)
def test_pasted_text_is_not_part_of_the_request(text: str) -> None:
    found = extract(text.format("prove the theorem step by step, then analyse it"))
    assert PASTED in found.text
    assert "prove" not in found.text
    assert "pasted text" in _shape(text.format("prove the theorem step by step, then analyse it"))


def test_a_short_quotation_stays() -> None:
    assert "break a leg" in extract('why do we say "break a leg"').text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("为什么？为什么？", {"language zh", "question marks ≥ 2", "ends with a question mark"}),
        ("tag all 300 rows", {"language en", "largest number ≥ 100", "ends with no mark"}),
        ("the crisis of 2008.", {"numbers ≥ 1", "ends with a full stop"}),
        ("one\ntwo\nthree", {"line breaks ≥ 2"}),
        ("```x = 1```", {"code", "operator"}),
        ("HELP me!", {"word in capitals", "ends with an exclamation mark"}),
        ("a" * 120, {"length ≥ 110", "en length ≥ 110"}),
    ],
)
def test_the_shape_of_a_text(text: str, names: set[str]) -> None:
    assert names <= _shape(text)


def test_a_year_is_no_count_of_items() -> None:
    assert "largest number ≥ 10" not in _shape("the crisis of 2008")


def test_a_chinese_character_counts_as_several_letters() -> None:
    assert "length ≥ 45" in _shape("深" * 17)
    assert "length ≥ 45" not in _shape("d" * 17)


def test_only_the_beginning_and_the_end_are_looked_at() -> None:
    middle = "x" * HEAD + "证明" + "x" * TAIL
    assert "证" not in extract(middle).text
    assert "证" in extract("证明" + middle).text
    assert "证" in extract(middle + "证明").text


@pytest.mark.parametrize("text", ["", " ", "\n", "\x00", "\ud800", "？", '"', "“" * 30])
def test_odd_texts_have_features(text: str) -> None:
    assert extract(text).shape


@pytest.mark.parametrize(
    "part", ["深入", "a b, ", "“", '"', "\n", "A. x\n", "1", "ﷺ", "ß", "(a", "“a\n「"]
)
def test_a_hundred_times_the_text_takes_no_longer(part: str) -> None:
    def fastest(text: str) -> float:
        times = []
        for _ in range(7):
            started = time.perf_counter()
            extract(text)
            times.append(time.perf_counter() - started)
        return min(times)

    size = 100_000 // len(part)
    assert fastest(part * size * 100) < 5 * fastest(part * size) + 0.005
