"""Every regular expression of the package, and texts that make one backtrack.

Run as a program with names of modules, it times each pattern of these on each text that is made
for it, and prints JSON: the slowest call of each pattern. It is a process of its own, so that one
that hangs can be ended.
"""

import ast
import importlib
import json
import pkgutil
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import asyncsvc

PACKAGE = Path(asyncsvc.__file__).parent
SEARCHING = frozenset({"search", "sub", "subn", "findall", "finditer", "split"})
METHODS = SEARCHING | {"match", "fullmatch"}
SCREEN_CHARS, SUSPECT_CHARS = 2_000, 20_000
"""Length of the first texts, and of those that took longest: there the quadratic takes seconds."""
FULL_CHARS = 1_000_000
SLOW_S = 0.25
"""A text of SUSPECT_CHARS that takes longer is found guilty without a longer one."""
SUSPECTS = 3
"""The slowest texts of a pattern, which are tried at greater length."""


@dataclass(frozen=True)
class Found:
    """A pattern of the source and the methods by which it is used."""

    where: str
    pattern: re.Pattern[Any]
    methods: frozenset[str]


def modules() -> list[str]:
    """Names of all modules of the package."""
    found = pkgutil.walk_packages(asyncsvc.__path__, "asyncsvc.")
    return ["asyncsvc", *(each.name for each in found if not each.name.endswith("__main__"))]


def tree(module: str) -> ast.Module:
    spec = importlib.import_module(module).__file__
    assert spec is not None
    return ast.parse(Path(spec).read_text(encoding="utf-8"))


def calls(module: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of a function of `re` that takes a pattern."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id == "re" and node.func.attr != "escape":
                yield node.func.attr, node


def patterns(module: str) -> list[Found]:
    """Return the patterns that a module holds in its names, and those written into a call."""
    loaded = importlib.import_module(module)
    found: dict[tuple[Any, int], Found] = {}
    for name, value in vars(loaded).items():
        for pattern in _held(value, module, set()):
            found.setdefault(
                (pattern.pattern, pattern.flags),
                Found(f"{module}.{name}", pattern, _used(name, module)),
            )
    for method, call in calls(module):
        if method != "compile" and isinstance(call.args[0], ast.Constant):
            one = re.compile(str(call.args[0].value))
            found[one.pattern, one.flags] = Found(
                f"{module}:{call.lineno}", one, frozenset({method})
            )
    return list(found.values())


def _held(value: Any, module: str, seen: set[int], depth: int = 0) -> Iterator[re.Pattern[Any]]:
    """Yield the patterns within a value: a table, a class or an instance of the package."""
    if id(value) in seen or depth > 6:
        return
    seen.add(id(value))
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _held(pair, module, seen, depth + 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _held(each, module, seen, depth + 1)
    elif type(value).__module__ == module or getattr(value, "__module__", "") == module:
        for name in [*getattr(value, "__dict__", {}), *getattr(type(value), "__slots__", ())]:
            yield from _held(getattr(value, name, None), module, seen, depth + 1)


def _used(name: str, module: str) -> frozenset[str]:
    """Methods that are called on a name, by its module or, where it is public, by any; else all."""
    places = [module] if name.startswith("_") else modules()
    found = {
        node.attr
        for place in places
        for node in _attributes(place)
        if node.attr in METHODS
        and name in (getattr(node.value, "attr", ""), getattr(node.value, "id", ""))
    }
    return frozenset(found) or METHODS


@cache
def _attributes(module: str) -> list[ast.Attribute]:
    return [node for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute)]


SIGNS = " \n\t0aAzZ_-.,:;/\\\"'`<>[]{}()=*+?!@#$%&|~^é中。“”\u3000\ufeff\udbff"
WORD = re.compile(r"[A-Za-z0-9]{2,}|[\u3000-\u9fff]+|[<>/\[\]{}=:-]{2,}")


@dataclass(frozen=True, order=True)
class Attack:
    """A text of any length: a beginning, a unit again and again, an end that fits nothing."""

    head: str
    unit: str
    tail: str = ""

    def __str__(self) -> str:
        return f"{self.head!r} + {self.unit!r} * n + {self.tail!r}"

    def text(self, chars: int) -> str:
        return self.head + self.unit * (chars // len(self.unit)) + self.tail


def attacks(source: str) -> list[Attack]:
    """Return texts of what the pattern names: begun, repeated, cut off."""
    words = list(dict.fromkeys(WORD.findall(source)))[:12]
    own = [sign for sign in dict.fromkeys(source) if not sign.isalnum()][:12]
    units = [*SIGNS, *words, *(f"{word} " for word in words)]
    units += [first + second for first in '0a ._"<' for second in [*own, "0", "a", " "]]
    heads = ["", *words[:2], *own[:2]]
    found = [Attack(head, unit) for unit in SIGNS for head in heads]
    return found + [Attack("", unit, tail) for unit in dict.fromkeys(units) for tail in ("", "\0!")]


def seconds(found: Found, text: str) -> float:
    """Time of the slowest use of a pattern on a text."""
    pattern = found.pattern
    given: Any = text.encode(errors="surrogatepass") if isinstance(pattern.pattern, bytes) else text
    slowest = 0.0
    for way in (
        "finditer" if found.methods & SEARCHING else "",
        *(found.methods & {"match", "fullmatch"}),
    ):
        if way:
            began = time.process_time()
            result = getattr(pattern, way)(given)
            if way == "finditer":
                for _ in result:
                    pass
            slowest = max(slowest, time.process_time() - began)
    return slowest


def judged(found: Found) -> tuple[str, float]:
    """The slowest text of a pattern, and the seconds that FULL_CHARS of it take or would take."""
    source = found.pattern.pattern
    source = source.decode(errors="replace") if isinstance(source, bytes) else source
    short = [(seconds(found, each.text(SCREEN_CHARS)), str(each), each) for each in attacks(source)]
    suspects = [attack for *_, attack in sorted(short, reverse=True)[:SUSPECTS]]
    longer = max((seconds(found, each.text(SUSPECT_CHARS)), str(each)) for each in suspects)
    if longer[0] > SLOW_S:
        return longer[1], longer[0] * FULL_CHARS / SUSPECT_CHARS
    full = max((seconds(found, each.text(FULL_CHARS)), str(each)) for each in suspects)
    return full[1], full[0]


def main(names: list[str]) -> None:
    for name in names:
        for found in patterns(name):
            print(json.dumps([found.where, *judged(found)]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
