"""How the text of an answer is laid out at a terminal."""

import io
import re
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncsvc.cli.answer_writer import MarkdownWriter, WordWriter, Writer, columns, writer_for


class Paper(io.StringIO):
    """A stream that is a terminal, and what can be seen on it."""

    def isatty(self) -> bool:
        return True

    def seen(self) -> list[str]:
        """The lines, after the cursor has gone back and lines were erased."""
        lines: list[list[str]] = [[]]
        for part in re.findall(r"\x1b\[\d*[DK]|[^\x1b]", self.getvalue()):
            if part.endswith("K") and len(part) > 1:
                continue
            if part.startswith("\x1b"):
                count = int(part[2:-1])
                while count > 0:
                    count -= columns(lines[-1].pop())
            elif part == "\n":
                lines.append([])
            else:
                lines[-1].append(part)
        return ["".join(line) for line in lines]


def written(parts: list[str], width: int = 12) -> list[str]:
    paper = Paper()
    writer = WordWriter(paper, lambda: width)
    for part in parts:
        writer.write(part)
    return paper.seen()


@pytest.mark.parametrize(
    ("parts", "lines"),
    [
        (["one two three"], ["one two ", "three"]),
        (["one two th", "ree", " four"], ["one two ", "three four"]),
        (["one two thr", "ee"], ["one two ", "three"]),
        (["one two ab", " ", "c"], ["one two ab ", "c"]),
        (["one two abc", " ", "c"], ["one two abc", "c"]),
        (["one\ntwo three\n", "four"], ["one", "two three", "four"]),
        (["https://example.org/long x"], ["https://example.org/long", "x"]),
        (["你好你好你好"], ["你好你好你", "好"]),
        (["ab你好 cd 你好"], ["ab你好 cd ", "你好"]),
        (["```\na b c d e f g h i\n```\nan end of a line"], [
            "```", "a b c d e f g h i", "```", "an end of a", "line",
        ]),
        (["cafe\u0301 a la carte"], ["cafe\u0301 a la ", "carte"]),
    ],
)  # fmt: skip
def test_words_go_to_the_next_line_whole(parts: list[str], lines: list[str]) -> None:
    assert written(parts, 12) == lines


@given(
    st.text(alphabet="ab 你，\n", max_size=80),
    st.lists(st.integers(0, 80), max_size=5),
    st.integers(20, 40),
)
def test_no_text_is_lost_and_no_word_is_cut(text: str, cuts: list[int], width: int) -> None:
    ends = [0, *sorted(cuts), len(text)]
    parts = [text[start:end] for start, end in pairwise(ends)]
    lines = written(parts, width)
    assert lines == written([text], width)
    # But for the breaks, and spaces for which a break stands, it is the text.
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)
    words = re.findall(r"[ab]+", text)
    if all(len(word) < width - 1 for word in words):
        assert re.findall(r"[ab]+", "\n".join(lines)) == words
        assert all(sum(map(columns, line)) < width for line in lines)


def test_a_line_that_has_begun_is_ended_once() -> None:
    for kind in (Writer, WordWriter):
        paper = Paper()
        writer = kind(paper)
        writer.write("a word")
        assert writer.mid_line
        writer.end_line()
        writer.end_line()
        writer.write("another\n")
        assert not writer.mid_line
        writer.end_line()
        assert paper.getvalue() == "a word\nanother\n"


def test_only_a_terminal_gets_text_that_is_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert type(writer_for(io.StringIO(), markdown=True)) is Writer
    assert type(writer_for(Paper())) is WordWriter
    assert type(writer_for(Paper(), markdown=True)) is MarkdownWriter
    monkeypatch.setenv("TERM", "dumb")
    assert type(writer_for(Paper())) is Writer


def test_markdown_is_rendered_block_by_block(capsys: pytest.CaptureFixture[str]) -> None:
    writer = MarkdownWriter(sys.stdout)
    writer.write("# Tea\n\nIt is **ho")
    first = capsys.readouterr().out
    assert "Tea" in first
    assert "#" not in first
    writer.write("t**, [see](https://x.example/y) \x1b]8;;\n\n```\na  b\n\nc\n")
    shown = capsys.readouterr().out
    assert "It is hot, see (https://x.example/y) ␛]8;;" in shown
    assert "**" not in shown
    assert "\x1b" not in shown
    assert "a  b" not in shown  # the block of code is not at its end
    writer.end_line()
    assert re.search(r"a  b *\n *\n *c", capsys.readouterr().out)
    writer.end_line()
    assert capsys.readouterr().out == ""
