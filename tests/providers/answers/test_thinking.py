from itertools import groupby, pairwise
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.providers.answers.thinking import (
    CLOSE,
    OPEN,
    SWITCHES,
    ThinkSplitter,
    Thoughts,
    closes_unopened,
)


def split(*pieces: str) -> list[tuple[str, bool]]:
    """What comes out, neighbours of one kind joined."""
    splitter = ThinkSplitter()
    found = [part for piece in pieces for part in splitter.feed(piece)]
    found += splitter.end()
    assert all(text for text, _ in found)
    return [
        ("".join(text for text, _ in same), thought)
        for thought, same in groupby(found, key=lambda part: part[1])
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("plain", [("plain", False)]),
        ("  plain", [("  plain", False)]),
        ("", []),
        (" \n", [(" \n", False)]),
        ("<thin", [("<thin", False)]),
        ("<thinking>", [("<thinking>", False)]),
        ("a <think>b</think>", [("a <think>b</think>", False)]),
        ("<think>a</think>b", [("a", True), ("b", False)]),
        (" \n<think>\na\n</think>\r\n\nb\n", [("\na\n", True), ("b\n", False)]),
        ("<think></think>b", [("b", False)]),
        ("<think>a", [("a", True)]),
        ("<think>a</thin", [("a</thin", True)]),
        ("<think>a</think>", [("a", True)]),
        ("<think>a</th</think>b", [("a</th", True), ("b", False)]),
        ("<think>a</think>b<think>c</think>", [("a", True), ("b<think>c</think>", False)]),
        ("<think>a<think>b</think>c", [("a<think>b", True), ("c", False)]),
    ],
)
def test_thought_and_answer_come_apart(text: str, parts: list[tuple[str, bool]]) -> None:
    assert split(text) == parts
    assert split(*text) == parts


def split_unopened(*pieces: str, cut: bool = False, field: bool = False) -> list[tuple[str, bool]]:
    splitter = ThinkSplitter(unopened=True)
    if field:
        splitter.no_tags()
    found = [part for piece in pieces for part in splitter.feed(piece)]
    found += splitter.end(cut)
    return [
        ("".join(text for text, _ in same), thought)
        for thought, same in groupby(found, key=lambda part: part[1])
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hm</think>\n\nso", [("hm", True), ("so", False)]),
        ("<think>hm</think>so", [("hm", True), ("so", False)]),
        ("hm</think>", [("hm", True)]),
        ("just an answer", [("just an answer", True), ("just an answer", False)]),
        ("a</thin", [("a</thin", True), ("a</thin", False)]),
        ("", []),
    ],
)
def test_thinking_may_begin_without_a_tag(text: str, parts: list[tuple[str, bool]]) -> None:
    assert split_unopened(text) == parts
    assert split_unopened(*text) == parts


def test_thinking_cut_at_its_limit_is_no_answer() -> None:
    assert split_unopened("hm", " and", cut=True) == [("hm and", True)]


def test_thinking_in_a_field_leaves_the_text_alone() -> None:
    assert split_unopened("so", field=True) == [("so", False)]


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("hm\n</think>\nso", True),
        ("hm</think>so", False),
        ("<think>hm</think>\nso", False),
        ("so", False),
    ],
)
def test_a_whole_text_shows_whether_its_thinking_has_no_opening_tag(
    text: str, closed: bool
) -> None:
    assert closes_unopened(text) is closed


def test_a_second_source_of_thinking_adds_only_what_is_new() -> None:
    thoughts = Thoughts()
    taken = [
        thoughts.take(*each) for each in (("a", "one "), ("b", "on"), ("b", "e two"), ("b", "!"))
    ]
    assert taken == ["one ", "", "two", "!"]
    assert (thoughts.text, thoughts.source) == ("one two!", None)
    assert thoughts.whole("one two!?") == "?"


def test_a_source_that_departs_from_the_others_is_taken_from_its_beginning() -> None:
    thoughts = Thoughts()
    taken = [thoughts.take(*each) for each in (("a", " one two"), ("b", "one "), ("b", "three"))]
    assert taken == [" one two", "", "one three"]
    assert thoughts.take("a", "!") == "!"


def test_sources_in_turn_are_compared_piece_by_piece() -> None:
    thoughts = Thoughts()
    pieces = ["one", " \n", "two ", "three"]
    taken = [thoughts.take(source, piece) for piece in pieces for source in ("a", "b")]
    assert taken == [taken for piece in pieces for taken in (piece, "")]
    assert thoughts.take("b", " four") == " four"


def test_a_second_source_costs_the_same_for_each_piece_of_a_long_answer() -> None:
    """Twice the pieces take about twice the time: not four times, as when all is compared anew."""

    def seconds(count: int) -> float:
        thoughts, piece = Thoughts(), "hmm " * 200
        began = process_time()
        for _ in range(count):
            assert thoughts.take("a", piece) == piece
            assert not thoughts.take("b", piece)
            assert not thoughts.whole("hmm")
        return process_time() - began

    few, many = (min(seconds(count) for _ in range(3)) for count in (2_000, 16_000))
    assert many < 24 * few


def test_blanks_without_end_are_not_held() -> None:
    thoughts = Thoughts()
    thoughts.take("a", "one")
    thoughts.take("b", "one")
    for _ in range(100):
        assert not thoughts.take("b", " " * 10_000)
    assert len(thoughts.take("b", "two")) < 100_000


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(" xy", max_size=4)), max_size=12))
def test_no_source_loses_what_is_no_repetition(pieces: list[tuple[str, str]]) -> None:
    """Without blanks, each source's text can be read in what was given out, in its order."""
    thoughts = Thoughts()
    given = "".join(thoughts.take(*piece) for piece in pieces)
    assert given == thoughts.text
    for source in "abc":
        letters = iter(given.replace(" ", ""))
        own = "".join(text for name, text in pieces if name == source).replace(" ", "")
        assert all(letter in letters for letter in own)


tagged = st.lists(
    st.sampled_from([OPEN, CLOSE, "<", "</", "think", ">", "\n", " ", "a", "深"]), max_size=12
).map("".join)


@given(tagged, st.lists(st.integers(0, 60), max_size=8))
def test_where_the_pieces_are_cut_makes_no_difference(text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    assert split(*pieces) == split(text)


@given(tagged)
def test_nothing_is_lost_but_the_tags_and_the_lines_around_them(text: str) -> None:
    part = "".join(part for part, _ in split(text))
    if not text.lstrip().startswith(OPEN):
        assert part == text
        return
    thought, _, answer = text.lstrip().removeprefix(OPEN).partition(CLOSE)
    assert part == thought + answer.lstrip("\r\n")


def test_nothing_is_held_back_longer_than_needed() -> None:
    splitter = ThinkSplitter()
    steps = [("<", ""), ("think>a", "a"), ("b</", "b"), ("x", "</x"), ("</think", ""), (">c", "c")]
    for piece, part in steps:
        assert "".join(text for text, _ in splitter.feed(piece)) == part


def test_auto_adds_nothing_anywhere() -> None:
    assert [switch.body("auto") for switch in SWITCHES.values()] == [{}] * len(SWITCHES)


@pytest.mark.parametrize(("name", "mode"), [("none", "on"), ("none", "off"), ("always_on", "off")])
def test_a_mode_may_be_missing(name: str, mode: str) -> None:
    assert SWITCHES[name].body(mode) is None


@pytest.mark.parametrize("rest", ["", "plain", "<think>a</think>b", "<thin", " \n<think>a"])
def test_blanks_before_all_else_are_split_alike_however_they_come(rest: str) -> None:
    text = f" \n\t {rest}"
    assert split(*text) == split(text)
    assert split(" ", "", "\n\t ", rest) == split(text)
