"""Commands declared by the signatures of functions."""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pytest

from asyncsvc.cli.arguments import Argument, Commands, HelpAsked, Misuse, Option, run
from asyncsvc.cli.options import duration_option

commands = Commands()
given: list[dict[str, Any]] = []


@commands.command(group="Here")
def look_at(
    task_id: Annotated[str, Argument(metavar="ID")],
    text: Annotated[str | None, Argument(metavar="[TEXT|-]")] = None,
    count: Annotated[int, Option(min=1, max=9)] = 5,
    colour: Annotated[Literal["red", "blue"] | None, Option()] = None,
    since: Annotated[float | None, duration_option("--since", "How far back.")] = None,
    file: Annotated[list[Path] | None, Option("--file", metavar="PATH")] = None,
    as_json: Annotated[bool, Option("--json")] = False,
    url: Annotated[str | None, Option(envvar="A_VARIABLE_OF_A_TEST")] = None,
) -> int:
    """Look at it,
    and at more."""
    given.append(dict(locals()))
    return 3


@commands.command("all", group="Here")
def all_of_it(
    argv: Annotated[list[str], Argument(metavar="-- ARGV...")],
    space: Annotated[str | None, Option()] = None,
) -> None:
    """Take the rest."""
    given.append(dict(locals()))


@commands.command(group="Here")
def read_it(
    file: Annotated[Path | None, Argument(metavar="[FILE]")] = None,
    lines: Annotated[int | None, Option()] = None,
) -> None:
    """Read a file."""
    given.append(dict(locals()))


class Size(NamedTuple):
    width: Annotated[float | None, Option("--width", max=9)] = None
    unit: Annotated[Literal["cm", "mm"], Option()] = "cm"


USUAL = Size()


@commands.command(group="Here")
def cut(name: Annotated[str, Argument()], size: Size = USUAL, twice: bool = False) -> None:
    """Cut to a size."""
    given.append(dict(locals()))


@pytest.mark.parametrize(
    ("argv", "size"),
    [
        ([], USUAL),
        (["--width", "2.5"], Size(2.5)),
        (["--unit", "mm", "--twice", "--width=9"], Size(9.0, "mm")),
    ],
)
def test_a_set_of_options_comes_as_one_value(argv: list[str], size: Size) -> None:
    assert run(commands.found["cut"], [*argv, "rope"]) == 0
    assert given.pop() == {"name": "rope", "size": size, "twice": "--twice" in argv}


@pytest.mark.parametrize(
    ("value", "wrong"), [("x", "'x' is no number"), ("9.5", "9.5 is not allowed; it is at most 9")]
)
def test_a_wrong_value_of_a_set_is_said_as_that_of_any_option(value: str, wrong: str) -> None:
    with pytest.raises(Misuse, match=wrong):
        run(commands.found["cut"], ["rope", "--width", value])


@pytest.mark.parametrize(
    ("argv", "file"), [([], None), (["--lines", "3"], None), (["a.txt", "--lines", "3"], "a.txt")]
)
def test_an_argument_that_is_left_out_has_its_default(argv: list[str], file: str | None) -> None:
    assert run(commands.found["read-it"], argv) == 0
    assert given.pop()["file"] == (None if file is None else Path(file))


DEFAULTS = {
    "text": None,
    "count": 5,
    "colour": None,
    "since": None,
    "file": None,
    "as_json": False,
    "url": None,
}


@pytest.mark.parametrize(
    ("argv", "values"),
    [
        (["a"], {}),
        (["a", "-"], {"text": "-"}),
        (["--count", "7", "a", "--json", "b"], {"count": 7, "as_json": True, "text": "b"}),
        (["a", "--colour=red", "--since", "1h"], {"colour": "red", "since": 3600.0}),
        (["a", "--file", "x", "--file", "y"], {"file": [Path("x"), Path("y")]}),
        (["a", "--", "--count"], {"text": "--count"}),
        (["a", "- a list"], {"text": "- a list"}),
        (["a", ""], {"text": ""}),
    ],
)
def test_values_by_their_types(argv: list[str], values: dict[str, Any]) -> None:
    assert run(commands.found["look-at"], argv) == 3
    assert given.pop() == {"task_id": "a", **DEFAULTS, **values}


def test_a_variable_stands_for_an_option_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_VARIABLE_OF_A_TEST", "http://x")
    run(commands.found["look-at"], ["a"])
    assert given.pop()["url"] == "http://x"
    run(commands.found["look-at"], ["a", "--url", "http://y"])
    assert given.pop()["url"] == "http://y"


@pytest.mark.parametrize(
    ("argv", "argv_of_it", "space"),
    [
        (["--", "ls", "-la"], ["ls", "-la"], None),
        (["--space", "s", "--", "ls", "--space"], ["ls", "--space"], "s"),
        (["ls", "-la"], ["ls", "-la"], None),
    ],
)
def test_what_is_left_of_a_command_line(
    argv: list[str], argv_of_it: list[str], space: str | None
) -> None:
    assert run(commands.found["all"], argv) == 0
    assert given.pop() == {"argv": argv_of_it, "space": space}


@pytest.mark.parametrize(
    ("name", "argv", "message"),
    [
        ("look-at", [], "Missing argument 'ID'"),
        ("look-at", ["a", "b", "c"], "Got unexpected extra argument(s) (c)"),
        ("look-at", ["a", "--cuont", "1"], "No such option: --cuont. Did you mean --count?"),
        ("look-at", ["a", "--xyzzy"], "No such option: --xyzzy"),
        ("look-at", ["a", "--count"], "--count: expected one argument"),
        ("look-at", ["a", "--count", "x"], "--count: 'x' is no whole number"),
        ("look-at", ["a", "--count", "10"], "--count: 10 is not allowed; it is from 1 to 9"),
        ("look-at", ["a", "--colour", "grey"], "--colour: 'grey' is none of red, blue"),
        ("look-at", ["a", "--colo", "red"], "No such option: --colo. Did you mean --colour?"),
        ("look-at", ["a", "--json=1"], "--json: ignored explicit argument '1'"),
        (
            "look-at",
            ["a", "--since", "5x"],
            "'5x' is no duration; one looks like 30s, 5m, 1h or 1d",
        ),
        ("all", [], "Missing argument '-- ARGV...'"),
    ],
)
def test_what_a_command_does_not_take_is_said_in_one_sentence(
    name: str, argv: list[str], message: str
) -> None:
    with pytest.raises(Misuse) as caught:
        run(commands.found[name], argv)
    assert str(caught.value).removeprefix("--since: ") == message
    assert caught.value.code == 2


def test_help_is_asked_for() -> None:
    for argv in (["--help"], ["a", "-h"]):
        with pytest.raises(HelpAsked):
            run(commands.found["look-at"], argv)
    found = commands.found["look-at"]
    assert (found.name, found.group, found.help) == ("look-at", "Here", "Look at it, and at more.")


def test_a_value_that_a_variable_holds_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_NUMBER_OF_A_TEST", "10")
    numbers = Commands()

    @numbers.command(group="Here")
    def count(
        number: Annotated[int, Option(min=1, max=9, envvar="A_NUMBER_OF_A_TEST")] = 1,
    ) -> None:
        raise AssertionError(number)

    with pytest.raises(Misuse, match="A_NUMBER_OF_A_TEST: 10 is not allowed; it is from 1 to 9"):
        run(numbers.found["count"], [])
