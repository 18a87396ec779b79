"""Texts in pieces: how many are kept, and how much is joined at once."""

import pytest

from asyncsvc.providers.answers.pieces import LOOSE, SHORT_CHARS, add, joined


@pytest.mark.parametrize("size", [1, 7, 1000, SHORT_CHARS, 50_000])
def test_pieces_are_joined_a_few_at_a_time(size: int) -> None:
    texts, count = list[str](), 3 * LOOSE * LOOSE // size + 10 * LOOSE
    for number in range(count):
        add(texts, chr(97 + number % 26) * size)
        assert len(texts[-1]) <= max(size, (LOOSE + 1) * SHORT_CHARS), "a long text is not copied"
    assert len(texts) <= LOOSE + count * size // SHORT_CHARS + 1
    assert joined(texts) == "".join(chr(97 + number % 26) * size for number in range(count))
    assert len(texts) == 1
