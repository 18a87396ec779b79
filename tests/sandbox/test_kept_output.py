"""What is kept of an output, and what is passed on while it comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.sandbox.kept_output import LEAST_BYTES, KeptOutput


def kept(*pieces: bytes, limit: int = 1000) -> tuple[KeptOutput, list[str]]:
    emitted: list[str] = []
    output = KeptOutput(limit, emitted.append)
    for piece in pieces:
        output.add(piece)
    return output, emitted


def test_short_output_is_whole() -> None:
    output, emitted = kept(b"one ", b"two")
    assert output.text() == "".join(emitted) == "one two"
    assert not output.truncated


def test_a_character_cut_by_a_read_is_whole() -> None:
    output, emitted = kept("ü".encode()[:1], "ü".encode()[1:])
    assert output.text() == "".join(emitted) == "ü"


def test_bytes_that_are_no_text_are_replaced() -> None:
    output, _ = kept(b"a\xff\xfeb", b"\xc3")
    assert output.text() == "a\ufffd\ufffdb\ufffd"


@pytest.mark.parametrize("more", [0, 1])
def test_the_limit_is_a_limit(more: int) -> None:
    output, _ = kept(b"x" * (1000 + more))
    assert output.truncated == bool(more)
    assert ("left out" in output.text()) == bool(more)


def test_the_line_between_says_how_much_is_left_out() -> None:
    output, _ = kept(b"a" * 700, b"b" * 10_000, b"c" * 700)
    head, line, tail = output.text().split("\n")
    assert int(line.split()[1]) == 11_400 - len(head) - len(tail)
    assert set(head) == {"a"}
    assert set(tail) == {"c"}


def test_what_comes_after_the_limit_is_not_passed_on() -> None:
    _, emitted = kept(b"x" * 900, b"y" * 900, b"z" * 900)
    passed = "".join(emitted)
    assert passed.startswith("x" * 900 + "y" * 100 + "\n[")
    assert "z" not in passed
    assert passed.count("more output follows") == 1


@given(st.lists(st.binary(max_size=700), max_size=8), st.integers(0, 1000), st.booleans())
def test_nothing_kept_is_longer_than_the_limit(
    pieces: list[bytes], limit: int, killed: bool
) -> None:
    output, _ = kept(*pieces, limit=limit)
    assert output.read == sum(map(len, pieces))
    text = output.text("\n[killed after 100 bytes of output]" if killed else "")
    assert len(text.encode()) <= max(limit, LEAST_BYTES)
