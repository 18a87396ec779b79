"""Unsafe characters of texts, in streams, tables and JSON."""

import io
import json
import sys
from typing import TextIO, cast

import pytest
from rich.panel import Panel
from rich.text import Text

from asyncsvc.cli import tables
from asyncsvc.cli.terminal import (
    Screen,
    control,
    json_text,
    one_line,
    plain,
    styled,
)
from asyncsvc.cli.transcript import Transcript

BAD = [*range(9), *range(11, 13), *range(14, 32), *range(127, 160), 0x2028, 0x2029]
BAD += [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("code", BAD, ids=hex)
def test_an_unsafe_character_becomes_a_sign_of_one_column(code: int) -> None:
    shown = plain(f"a{chr(code)}b")
    assert chr(code) not in shown
    assert len(shown) == 3
    assert Text(shown).cell_len == 3
    assert json.loads(json_text(chr(code))) == chr(code)
    assert chr(code) not in json_text({chr(code): [chr(code)]}, 2)


@pytest.mark.parametrize(
    "text", ["a\n\tb", "你好 — é 🙂", "שלום\u200f!", "👩‍👩‍👧", "e\u0301", "\xa0"]
)
def test_texts_of_all_languages_stay(text: str) -> None:
    assert plain(text) == text
    assert json_text(text) == json.dumps(text, ensure_ascii=False)


def test_a_carriage_return_overwrites_nothing() -> None:
    assert plain("good\rbad\r\nnext") == "good\nbad\nnext"
    assert one_line("good\rbad\r\nnext\tend") == "good bad next end"


def test_a_sequence_split_over_writes_is_caught() -> None:
    stream = Terminal()
    screen = Screen(stream)
    for sign in "a\x1b]52;c;x\x07b\r\nc\rd\x1b[31m":
        screen.write(sign)
    screen.writelines(["\x9b", "31m\n"])
    assert stream.getvalue() == "a␛]52;c;x␇b\nc\nd␛[31m\ufffd31m\n"


def test_only_our_own_sequences_pass() -> None:
    stream = Terminal()
    screen = cast(TextIO, Screen(stream))
    control(screen, "\x1b[2m")
    print("\x1b[2m", file=screen)
    assert stream.getvalue() == "\x1b[2m␛[2m\n"
    assert screen.isatty()


def test_a_transcript_shows_what_a_model_sends_without_its_sequences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out, err = Terminal(), Terminal()
    transcript = Transcript(cast(TextIO, Screen(out)), cast(TextIO, Screen(err)))
    event = {"seq": 1, "type": "attempt", "data": {"number": 1, "name": "n\x1b[2J", "model": "m"}}
    transcript.take({"type": "status", "data": {"status": "running"}})
    transcript.take(event)
    for text in ("\x1b", "[31mred", "\x1b]0;", "t\x07"):
        transcript.take({"type": "chunk", "data": {"text": text}})
    error = {"code": "upstream_rejected", "message": "no\n[completed]\x1b[2J"}
    transcript.take({"type": "status", "data": {"status": "failed", "error": error}})
    assert out.getvalue() == "␛[31mred␛]0;t␇\n"
    assert "\x1b[2J" not in err.getvalue()
    assert "[failed: upstream_rejected: no [completed]␛[2J]\n" in err.getvalue()


def test_tables_keep_their_width(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    table = tables.plain_table("a", "b")
    table.add_row("\x1b" * 9 + "x\ny", Text("\x9b31m"))
    table.add_row("\x1b[31m" * 90, "z")
    console = tables.console()
    console.print(table, Panel(Text("\x1b[1mp"), title=Text("\x1b]0;t\x07")))
    shown = stream.getvalue()
    assert plain(shown) == shown
    assert "␛␛␛␛␛␛␛␛␛x y" in shown
    assert max(map(len, shown.splitlines())) <= tables.PIPE_WIDTH


async def test_a_view_that_is_redrawn_has_its_colours_and_no_signs_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", Screen(stream))
    async with tables.redrawn(tables.console(), lambda: tables.status("failed"), 8):
        pass
    assert "\x1b[31mfailed" in stream.getvalue()
    assert "␛" not in stream.getvalue()


@pytest.mark.parametrize("variable", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_only_where_they_are_wanted(
    variable: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert styled(Terminal())
    assert not styled(io.StringIO())
    monkeypatch.setenv(*variable)
    assert not styled(Terminal())
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    tables.console().print(tables.status("failed"))
    assert stream.getvalue() == "failed\n"
