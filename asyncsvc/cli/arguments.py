"""Commands declared by the signatures of functions, parsed by argparse of the standard library.

A parameter `Annotated[int, Option(min=1)] = 20` is the option `--name` with that type, limits and
default; `Argument()` is a positional one. Types: str, int, float, bool (a flag), Path, `Literal`
for a choice, `T | None`, `list[T]` for an option that may come several times or the arguments that
are left. A `NamedTuple` of such fields, each with a default, is a set of options that several
commands share. Promises that nothing but argparse is imported: a command starts in a fraction of
the time that it takes with a library for command lines, see `docs/decisions/0057-argparse.md`.
"""

import argparse
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NoReturn,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from asyncsvc.cli.failures import MISUSED, Failure

Body = Callable[..., Any]


class Declared(NamedTuple):
    """What is declared of one option or argument. `parser` makes the value of the text, and raises
    ValueError with a sentence about it."""

    names: tuple[str, ...]
    positional: bool
    metavar: str | None
    help: str
    min: float | None
    max: float | None
    envvar: str | None
    parser: Callable[[str], Any] | None
    group: str


def Option(
    *names: str,
    metavar: str | None = None,
    help: str = "",
    min: float | None = None,
    max: float | None = None,
    envvar: str | None = None,
    parser: Callable[[str], Any] | None = None,
    group: str = "Options",
) -> Any:
    """Declare an option; without names it is `--` and the name of the parameter. `group` is the
    heading in the help under which it stands."""
    return Declared(names, False, metavar, help, min, max, envvar, parser, group)


def Argument(*, metavar: str | None = None, help: str = "") -> Any:
    """Declare an argument. A metavar with `--` in it takes all that is left, options too."""
    return Declared((), True, metavar, help, None, None, None, None, "Arguments")


class Misuse(Failure):
    """A command line that a command does not take."""

    def __init__(self, message: str) -> None:
        super().__init__(message, MISUSED)


class HelpAsked(Exception):
    """--help stands in the command line."""


class Parameter(NamedTuple):
    """An option or argument of a command, by the name of the function's parameter."""

    name: str
    declared: Declared
    kind: Any
    """The type of one value."""
    many: bool
    required: bool
    default: Any

    @property
    def positional(self) -> bool:
        return self.declared.positional

    @property
    def names(self) -> tuple[str, ...]:
        """What stands for it on the command line."""
        if self.positional:
            return (self.metavar,)
        return self.declared.names or (f"--{self.name.replace('_', '-')}",)

    @property
    def flag(self) -> bool:
        return self.kind is bool

    @property
    def choices(self) -> tuple[Any, ...]:
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    @property
    def metavar(self) -> str:
        """What stands for its value in the help."""
        return self.declared.metavar or "|".join(map(str, self.choices)) or self.name.upper()

    @property
    def rest(self) -> bool:
        """Whether it takes all that is left of the command line, options too."""
        return self.positional and "--" in self.metavar

    def value(self, text: str) -> Any:
        """Return the value of a text. Raises ArgumentTypeError that says what is allowed."""
        try:
            found = (self.declared.parser or self._of_its_kind)(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        low, high = self.declared.min, self.declared.max
        if (low is not None and found < low) or (high is not None and found > high):
            allowed = f"from {low} to {high}" if None not in (low, high) else f"at least {low}"
            if low is None:
                allowed = f"at most {high}"
            raise argparse.ArgumentTypeError(f"{text} is not allowed; it is {allowed}")
        return found

    def _of_its_kind(self, text: str) -> Any:
        if self.choices:
            if text not in self.choices:
                raise ValueError(f"{text!r} is none of {', '.join(map(str, self.choices))}")
            return text
        if self.kind is str or self.kind is Path:
            return self.kind(text)
        try:
            return self.kind(text)
        except ValueError:
            raise ValueError(
                f"{text!r} is no {'whole ' if self.kind is int else ''}number"
            ) from None


class Command(NamedTuple):
    """One command: how it is called, and the function that does it."""

    name: str
    group: str
    body: Body
    parameters: list[Parameter]
    sets: dict[str, tuple[type, list[str]]]
    """Parameters of the function that are made of several: the class, the names of its fields."""

    @property
    def help(self) -> str:
        first = (self.body.__doc__ or "").strip().partition("\n\n")[0]
        return " ".join(first.split())

    def values(self, argv: Sequence[str], environ: dict[str, str]) -> dict[str, Any]:
        """Return the arguments of the function. Raises Misuse, HelpAsked."""
        parser = _Parser(
            usage="",
            add_help=False,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
            # With a width it need not look for that of the terminal; the help is not argparse's.
            formatter_class=lambda prog: argparse.HelpFormatter(prog, width=80),
        )
        parser.add_argument("-h", "--help", action=_Help, nargs=0)
        for each in self.parameters:
            _add(parser, each)
        options = [each for each in self.parameters if not each.positional]
        parser.known = ["--help", *(name for each in options for name in each.names)]
        # Options may stand between arguments, but not where an argument takes what is left.
        rest = any(each.rest for each in self.parameters)
        given = vars((parser.parse_args if rest else parser.parse_intermixed_args)(list(argv)))
        found: dict[str, Any] = {}
        for each in self.parameters:
            variable = environ.get(each.declared.envvar or "")
            if each.name in given:
                found[each.name] = given[each.name]
            elif variable:
                found[each.name] = _of_variable(each, variable)
            elif not each.required:
                found[each.name] = each.default
        for each in self.parameters:
            if each.rest and found[each.name][:1] == ["--"]:
                del found[each.name][0]
            if each.required and each.many and not found.get(each.name):
                raise Misuse(f"Missing argument {each.metavar!r}")
        for name, (made, fields) in self.sets.items():
            found[name] = made(**{field: found.pop(field) for field in fields})
        return found


def _of_variable(each: Parameter, text: str) -> Any:
    try:
        return each.value(text)
    except argparse.ArgumentTypeError as error:
        raise Misuse(f"{each.declared.envvar}: {error}") from None


class _Parser(argparse.ArgumentParser):
    """A parser whose faults are raised, in the words of the command line."""

    known: Sequence[str] = ()
    """The names of all options."""

    def error(self, message: str) -> NoReturn:
        if missing := re.fullmatch(r"the following arguments are required: (.*)", message):
            raise Misuse(f"Missing argument {missing[1].split(', ')[0]!r}")
        if unknown := re.fullmatch(r"unrecognized arguments: (.*)", message):
            word = unknown[1].split()[0]
            if not word.startswith("-"):
                raise Misuse(f"Got unexpected extra argument(s) ({unknown[1]})")
            from difflib import get_close_matches

            close = get_close_matches(word.partition("=")[0], self.known, n=1)
            guess = f". Did you mean {close[0]}?" if close else ""
            raise Misuse(f"No such option: {word}{guess}")
        raise Misuse(re.sub(r"^argument ([^:]+): ", r"\1: ", message))


class _Help(argparse.Action):
    def __call__(self, *_: Any) -> None:
        raise HelpAsked


def _add(parser: _Parser, each: Parameter) -> None:
    if each.positional:
        nargs: str | None = None if each.required else "?"
        if each.many:
            nargs = argparse.REMAINDER if each.rest else "+" if each.required else "*"
        more: dict[str, Any] = {}
        if nargs == "?":  # argparse would read the text that says "no default" as a value
            more["default"] = each.default
        parser.add_argument(each.name, nargs=nargs, metavar=each.metavar, type=each.value, **more)
    elif each.flag:
        parser.add_argument(*each.names, dest=each.name, action="store_true")
    else:
        action = "append" if each.many else "store"
        parser.add_argument(
            *each.names, dest=each.name, action=action, metavar=each.metavar, type=each.value
        )


class Commands:
    """The commands of one module: `@app.command()` adds the function below it."""

    def __init__(self) -> None:
        self.found: dict[str, Command] = {}

    def command(self, name: str | None = None, *, group: str) -> Callable[[Body], Body]:
        """Add a function as a command; without a name, under its own. Its docstring is the help."""

        def add(body: Body) -> Body:
            own = name or body.__name__.strip("_").replace("_", "-")
            self.found[own] = Command(own, group, body, *_parameters(body))
            return body

        return add


def _parameters(body: Body) -> tuple[list[Parameter], dict[str, tuple[type, list[str]]]]:
    """The options and arguments of a function, and which of them make one of its parameters."""
    code, hints = body.__code__, get_type_hints(body, include_extras=True)
    names = code.co_varnames[: code.co_argcount]
    given = body.__defaults__ or ()
    defaults = dict(zip(names[len(names) - len(given) :], given, strict=True))
    found: list[Parameter] = []
    sets: dict[str, tuple[type, list[str]]] = {}
    for name in names:
        if hasattr(kind := hints[name], "_fields"):
            parts = get_type_hints(kind, include_extras=True)
            usual = kind._field_defaults
            found += [_parameter(each, hint, False, usual[each]) for each, hint in parts.items()]
            sets[name] = kind, list(parts)
        else:
            found.append(_parameter(name, hints[name], name not in defaults, defaults.get(name)))
    return found, sets


def _parameter(name: str, hint: Any, required: bool, default: Any) -> Parameter:
    kind, declared = hint, Option()
    if get_origin(hint) is Annotated:
        kind, declared = get_args(hint)
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
    many = get_origin(kind) is list
    if many:
        (kind,) = get_args(kind)
    return Parameter(name, declared, kind, many, required, default)


def run(command: Command, argv: Sequence[str]) -> int:
    """Run a command; return its exit code. Raises Misuse, HelpAsked and what it raises."""
    code = command.body(**command.values(argv, dict(os.environ)))
    return code if isinstance(code, int) else 0
