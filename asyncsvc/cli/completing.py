"""What a shell may put in the place of the word at the cursor.

Promises to be quick and quiet: no library is imported, the commands and their options come from
`overview`, a running service is asked for at most `PATIENCE_S`, and a failure of any kind is no
proposal. Prints one proposal a line, with its meaning where the shell shows that; none leaves the
word to the shell, which completes names of files.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from asyncsvc.cli.overview import OPTIONS, Command, commands
from asyncsvc.cli.terminal import one_line

PATIENCE_S = 0.15
NEWEST = 50
"""Tasks whose ids are proposed at most."""
SHORT_ID = 8
"""Characters at the end of an id that tables show."""
Proposals = Iterable[tuple[str, str]]


def complete(words: Sequence[str]) -> int:
    """Print the proposals for the last of these words; the first names the shell."""
    with suppress(Exception):
        shell, *line = words
        for value, meaning in dict(proposals(line)).items():
            print(_shown(shell, value, one_line(meaning)))
    return 0


def _shown(shell: str, value: str, meaning: str) -> str:
    if shell == "bash" or not meaning:
        return value.replace(":", "\\:") if shell == "zsh" else value
    if shell == "zsh":
        return f"{value.replace(':', chr(92) + ':')}:{meaning}"
    return f"{value}\t{meaning}"


def proposals(line: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each value for the last word of a command line, with its meaning."""
    *before, word = _joined(line) or [""]
    known = commands()
    if not before:
        names = [(name, each.help) for name, each in known.items()]
        top = [(flag, text) for flags, text in OPTIONS.items() for flag in flags.split(", ")]
        yield from _fitting([*names, *top], word)
        return
    if (command := known.get(before[0])) is None:
        return
    option, argument = _taken(command, before)
    if option is None and word.startswith("-"):
        flags = [name for name in command.options if name not in before]
        yield from _fitting([(flag, "") for flag in [*flags, "--help"]], word)
    elif (taken := option or argument) is not None:
        yield from _fitting(_values(taken, before, word), word)


def _joined(line: Sequence[str]) -> list[str]:
    """The words, with `--name=value` as two: bash gives three of it, other shells one."""
    found: list[str] = []
    for word in line:
        name, sign, value = word.partition("=")
        if word == "=" and found and found[-1].startswith("--"):
            found.append("")
        elif found and found[-1] == "" and len(found) > 1 and found[-2].startswith("--"):
            found[-1] = word
        elif sign and name.startswith("--"):
            found += [name, value]
        else:
            found.append(word)
    return found


Kind = list[str] | str
"""Values to choose from, or the word for a value in the help."""


def _taken(command: Command, before: Sequence[str]) -> tuple[Kind | None, Kind | None]:
    """What the word at the cursor is the value of: the option before it, and else which argument
    comes next."""
    count, option = 0, None
    for word in before[1:]:
        if option is not None:
            option = None
        elif word.startswith("-"):
            option = command.options.get(word)
        else:
            count += 1
    return option, command.arguments[count] if count < len(command.arguments) else None


def _fitting(found: Proposals, word: str) -> Iterator[tuple[str, str]]:
    return (each for each in found if each[0].startswith(word))


def _values(kind: Kind, before: Sequence[str], word: str) -> Proposals:
    """The values of a kind; `before` begins with the command."""
    if not isinstance(kind, str):
        return [(each, "") for each in kind]
    command = before[0]
    if kind == "MODEL" or command in ("pause-model", "resume-model"):
        return [(each["name"], _state(each)) for each in _asked(before, "/models")["models"]]
    if kind == "NAME" and (command == "tool" or before[-1] in ("--tool", "--approve")):
        return [(each["name"], each["description"]) for each in _asked(before, "/tools")["tools"]]
    if kind.strip("[].") != "ID":
        return []
    if command == "unschedule":
        found = _asked(before, "/schedules")["schedules"]
        return _ids(found, "schedule_id", "cron", word)
    return _ids(_asked(before, f"/tasks?limit={NEWEST}")["tasks"], "task_id", "status", word)


def _ids(items: Iterable[dict[str, Any]], name: str, fact: str, word: str) -> Proposals:
    """Whole ids, or their ends where these are typed, as tables show them."""
    for item in items:
        whole = item[name]
        meaning = f"{item[fact]}: {item['content_preview']}"
        yield (whole, meaning)
        if word:
            yield (whole[-SHORT_ID:], meaning)


def _state(model: dict[str, Any]) -> str:
    return str(model["model"] if model["enabled"] else f"disabled: {model['reason']}")


def _asked(before: Sequence[str], path: str) -> dict[str, Any]:
    from asyncsvc.cli.client import Api, find
    from asyncsvc.cli.options import environment, settings_file

    line = list(before)
    url = line[line.index("--url") + 1] if "--url" in line[:-1] else None
    return Api(find(url, environment(settings_file(None))), PATIENCE_S, PATIENCE_S).get(path)
