"""The input of a custom tool out of a function's arguments, however many blanks stand before it."""

import json

import pytest

from asyncsvc.providers.tools import INPUT, LONGEST_HEAD, Text


def fed(pieces: str) -> tuple[str, str]:
    """What came piece by piece, and what came at the end."""
    reader = Text()
    return "".join(reader.feed(piece) for piece in pieces), reader.end()


@pytest.mark.parametrize("blanks", [0, 1, LONGEST_HEAD - 20, LONGEST_HEAD * 50])
@pytest.mark.parametrize("text", ["", "plain", 'a "quoted" line\n', "深入 🙂"])
def test_the_input_is_whole(blanks: int, text: str) -> None:
    head = " " * blanks
    came, rest = fed(f"{head}{{ {json.dumps(INPUT)}: {json.dumps(text)}}}")
    assert came + rest == text
    assert (came == "") is (blanks > LONGEST_HEAD or text == "")


@pytest.mark.parametrize("arguments", ["[1, 2]", "no JSON", '{"other": "x"}', " " * 5000, ""])
def test_other_arguments_are_read_at_their_end(arguments: str) -> None:
    came, rest = fed(arguments)
    reader = Text()
    assert came == ""
    assert rest == reader.feed(arguments) + reader.end()
