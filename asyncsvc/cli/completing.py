"""What a shell may put in the place of the word at the cursor.

Promises to be quick and quiet: no library is imported, the commands and their options come from
`overview`, a running service is asked for at most `PATIENCE_S`, and a failure of any kind is no
proposal. Prints one proposal a line, with its meaning where the shell shows that; none leaves the
word to the shell, which completes names of files.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
Question = Callable[[Sequence[str], str], Proposals]
"""Asks for proposals; given the words before the one at the cursor, and that one."""


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
    option = _option(command, before)
    if option is None and word.startswith("-"):
        flags = [name for name in command.options if name not in before]
        yield from _fitting([(flag, "") for flag in [*flags, "--help"]], word)
        return
    kind = _argument(command, before) if option is None else command.options[option]
    found = [(each, "") for each in kind] if isinstance(kind, list) else []
    if isinstance(kind, str) and (ask := _question(before[0], option, kind)) is not None:
        found = list(ask(before, word))
    yield from _fitting(found, word)


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


def _option(command: Command, before: Sequence[str]) -> str | None:
    """The option whose value the word at the cursor is."""
    option = None
    for word in before[1:]:
        takes = option is None and command.options.get(word) is not None
        option = word if takes else None
    return option


def _argument(command: Command, before: Sequence[str]) -> list[str] | str | None:
    """What the argument at the cursor is; one with ... may come several times."""
    count = 0
    for at, word in enumerate(before[1:], start=1):
        count += _option(command, before[:at]) is None and not word.startswith("-")
    last = command.arguments[-1:]
    several = last if last and "..." in last[0] else []
    return next(iter([*command.arguments[count:], *several]), None)


def _fitting(found: Proposals, word: str) -> Iterator[tuple[str, str]]:
    return (each for each in found if each[0].startswith(word))


def _question(command: str, option: str | None, kind: str) -> Question | None:
    """How the running service is asked for the values of an option, or else of an argument."""
    if option == "--model" or (option is None and command in ("pause-model", "resume-model")):
        return _models
    if option in ("--tool", "--approve") or (option is None and command == "tool"):
        return _tools if kind == "NAME" else None
    if option is None and kind.strip("[].") == "ID":
        return _schedules if command == "unschedule" else _tasks
    return None


def _models(before: Sequence[str], _: str) -> Proposals:
    for each in _asked(before, "/models")["models"]:
        state = each["model"] if each["enabled"] else f"disabled: {each['reason']}"
        yield (each["name"], str(state))


def _tools(before: Sequence[str], _: str) -> Proposals:
    return [(each["name"], each["description"]) for each in _asked(before, "/tools")["tools"]]


def _schedules(before: Sequence[str], word: str) -> Proposals:
    return _ids(_asked(before, "/schedules")["schedules"], "schedule_id", "cron", word)


def _tasks(before: Sequence[str], word: str) -> Proposals:
    return _ids(_asked(before, f"/tasks?limit={NEWEST}")["tasks"], "task_id", "status", word)


def _ids(items: Iterable[dict[str, Any]], name: str, fact: str, word: str) -> Proposals:
    """Whole ids, or their ends where these are typed, as tables show them."""
    for item in items:
        whole = item[name]
        meaning = f"{item[fact]}: {item['content_preview']}"
        yield (whole, meaning)
        if word:
            yield (whole[-SHORT_ID:], meaning)


def _asked(before: Sequence[str], path: str) -> dict[str, Any]:
    from asyncsvc.cli.client import Api, find
    from asyncsvc.cli.options import environment, settings_file

    line = list(before)
    url = line[line.index("--url") + 1] if "--url" in line[:-1] else None
    return Api(find(url, environment(settings_file(None))), PATIENCE_S, PATIENCE_S).get(path)
