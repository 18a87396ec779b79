"""The commands in a few words, for `--help` and for completion, without importing any of them.

`commands.json` is made from the commands themselves by `python -m tests.docgen`: of each command
its group, its line of help, its options and arguments with what each one takes.
"""

import json
import os
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDENT, WIDEST = 2, 100
OPTIONS = {
    "-h, --help": "Show this; after a command, its options and an example.",
    "--version": "Say which version this is.",
}


@dataclass(frozen=True, slots=True)
class Command:
    """One command. Of an option or argument: the values to choose from, or the word for its value
    in the help, or None for an option without a value."""

    group: str
    help: str
    options: dict[str, list[str] | str | None]
    arguments: list[list[str] | str]


def commands() -> dict[str, Command]:
    """Return all commands by name, in the order of the help."""
    text = Path(__file__).with_name("commands.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = json.loads(text)
    return {name: Command(**each) for name, each in found.items()}


def overview(program: str) -> str:
    """Return the text of `--help`, as wide as the terminal."""
    lines = [
        f"Usage: {program} [COMMAND] [OPTIONS]",
        "",
        "A task service for LLM calls: durable, rate-exact, streaming.",
        "Without a command it serves; `demo` shows it at work without any key.",
    ]
    found = commands()
    column = max(len(name) for name in found) + 2 * INDENT
    for group in dict.fromkeys(each.group for each in found.values()):
        lines += ["", f"{group}:"]
        for name, each in found.items():
            if each.group == group:
                lines += _entry(name, each.help, column)
    lines += ["", "Options:"]
    lines += _entry(
        "-h, --help", "Show this, or with a command its options and an example.", column
    )
    lines += _entry("--version", "Say which version this is.", column)
    return "\n".join(lines)


def _entry(name: str, text: str, column: int) -> list[str]:
    """A name and what it means, wrapped beside it; without its second half where that is long."""
    head = " " * INDENT + name
    if len(text) > width() - column:
        text = f"{text.rstrip('.').partition('; ')[0].partition(': ')[0]}."
    return textwrap.wrap(
        text,
        width(),
        initial_indent=head.ljust(column),
        subsequent_indent=" " * column,
        break_long_words=False,
        break_on_hyphens=False,
    )


def width() -> int:
    """Return how wide text for people may be."""
    try:
        columns = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
    except (OSError, ValueError):
        columns = 80
    return max(40, min(columns, WIDEST))
