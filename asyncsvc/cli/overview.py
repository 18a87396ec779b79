"""The commands in a few words, for `--help` and for completion, without importing any of them.

`commands.json` is made from the commands themselves by `python -m tests.docgen`: of each command
its group, its line of help, its options and arguments with what each one takes.
"""

import json
import os
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from asyncsvc.cli import arguments

INDENT, WIDEST, MOST_COLUMN = 2, 100, 32
OPTIONS = {
    "-h, --help": "Show this; after a command, its options and an example.",
    "--version": "Say which version this is.",
}


class Command(NamedTuple):
    """One command. Of an option or argument: the values to choose from, or the word for its value
    in the help, or None for an option without a value."""

    group: str
    help: str
    options: dict[str, list[str] | str | None]
    arguments: list[list[str] | str]


def commands() -> dict[str, Command]:
    """Return all commands by name, in the order of the help."""
    with open(os.path.join(os.path.dirname(__file__), "commands.json"), encoding="utf-8") as file:
        found: dict[str, dict[str, Any]] = json.load(file)
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
                lines += _entry(name, _short(each.help, width() - column), column)
    lines += ["", "Options:"]
    lines += _entry(
        "-h, --help", "Show this, or with a command its options and an example.", column
    )
    lines += _entry("--version", "Say which version this is.", column)
    return "\n".join(lines)


def command_help(command: "arguments.Command", program: str, example: str | None) -> str:
    """Return the text of `COMMAND --help`, as wide as the terminal."""
    given = [each for each in command.parameters if each.positional]
    words = [each.metavar if each.required else f"[{each.metavar.strip('[]')}]" for each in given]
    lines = [" ".join([f"Usage: {program} {command.name} [OPTIONS]", *words]), ""]
    lines += textwrap.wrap(command.help, width())
    groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for each in command.parameters:
        groups.setdefault(each.declared.group, []).append((_names(each), _meaning(each)))
    groups["Options"].append(("-h, --help", "Show this."))
    longest = max(len(name) for entries in groups.values() for name, _ in entries)
    column = min(MOST_COLUMN, longest + 2 * INDENT)
    for title, entries in groups.items():
        lines += ["", f"{title}:"] if entries else []
        for name, text in entries:
            lines += _entry(name, text, column)
    if example is not None:
        lines += ["", "Example:", f"{' ' * INDENT}{program} {example}"]
    return "\n".join(lines)


def _names(each: "arguments.Parameter") -> str:
    names = ", ".join(each.names)
    return names if each.positional or each.flag else f"{names} {each.metavar}"


def _meaning(each: "arguments.Parameter") -> str:
    """The help of an option or argument, with its default, its limits and its variable."""
    low, high = each.declared.min, each.declared.max
    facts = []
    if low is not None:
        facts.append(f"{low} to {high}" if high is not None else f"at least {low}")
    if each.default not in (None, False):
        facts.append(f"default {each.default}")
    if each.many and not each.positional:
        facts.append("may come several times")
    if each.declared.envvar:
        facts.append(f"or the variable {each.declared.envvar}")
    text = each.declared.help
    return f"{text.rstrip('.')} ({', '.join(facts)})." if facts else text


def _entry(name: str, text: str, column: int) -> list[str]:
    """A name and what it means, wrapped beside it, or below it where it is long."""
    head = " " * INDENT + name
    above = [] if len(head) + INDENT <= column else [head]
    return above + textwrap.wrap(
        text,
        width(),
        initial_indent=("" if above else head).ljust(column),
        subsequent_indent=" " * column,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _short(text: str, room: int) -> str:
    """A sentence, without its second half where it is longer than a line."""
    first = text.rstrip(".").partition("; ")[0].partition(": ")[0]
    return text if len(text) <= room else f"{first}."


def width() -> int:
    """Return how wide text for people may be."""
    try:
        columns = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
    except (OSError, ValueError):
        columns = 80
    return max(40, min(columns, WIDEST))
