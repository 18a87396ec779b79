"""A mutation run: changes one thing at a time in the code and counts the changes that no test sees.

    python -m tests.benchmarks.mutation asyncsvc/limits/breaker.py asyncsvc/storage
    python -m tests.benchmarks.mutation asyncsvc/limits --most 40 --workers 2

Each changed program (a mutant) is tried in a copy of the repository: first with the tests of the
module's own name, then, if these pass, with all tests of its package. A mutant that fails a test,
or that takes much longer than the unchanged code, is killed; one that passes has survived and is
printed with its line. Exits with 1 where fewer than `--least` percent are killed.

A small mutator of its own, as it needs a copy for each worker and the tests of one package. mutmut
and cosmic-ray were not tried.
"""

import argparse
import ast
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("asyncsvc", "tests", "docs", "main.py", "pyproject.toml", "settings.toml", "README.md")
LEAST = 90.0
"""Percent of the mutants that the tests must kill."""
SLOWER = 4.0
"""A mutant that takes this many times as long as the unchanged code is taken for one that hangs."""

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """One change: `old` at an offset of a file's bytes becomes `new`."""

    file: Path
    line: int
    start: int
    old: bytes
    new: bytes

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.new + source[self.start + len(self.old) :]

    def __str__(self) -> str:
        old, new = (" ".join(text.decode().split()) for text in (self.old, self.new))
        return f"{self.file}:{self.line}: {old[:70]}  ->  {new[:70]}"


def mutants(file: Path, source: bytes) -> list[Mutant]:
    """All mutants of one module; annotations, docstrings and log lines are left alone."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node, new in _changes(ast.parse(source)):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        text = f"({ast.unparse(new)})" if isinstance(new, ast.expr) else ast.unparse(new)
        found.append(Mutant(file, node.lineno, start, source[start:end], text.encode()))
    return sorted(found, key=lambda mutant: mutant.start)


def _changes(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, ast.expr | ast.stmt]]:
    """Nodes with what takes their place."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.expr):
            yield from ((node, new) for new in _other_expressions(node))
        elif isinstance(node, ast.stmt):
            yield from ((node, new) for new in _other_statements(node))
        if not _is_talk(node):
            pending += _children(node)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child


def _is_talk(node: ast.AST) -> bool:
    """A text for people: a docstring, a log line, a formatted string, the text of an error."""
    if isinstance(node, ast.JoinedStr):
        return True
    if not isinstance(node, ast.Expr):
        return False
    value = node.value
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        return isinstance(value.func.value, ast.Name) and value.func.value.id == "log"
    return isinstance(value, ast.Constant)


def _other_expressions(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Compare(left=left, ops=[op], comparators=rest) if type(op) in COMPARISONS:
            yield ast.Compare(left, [COMPARISONS[type(op)]()], rest)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            yield ast.BinOp(left, ARITHMETIC[type(op)](), right)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)


def _other_statements(node: ast.stmt) -> Iterator[ast.stmt]:
    match node:
        case ast.Expr() if _is_talk(node):
            return
        case ast.Expr(value=ast.Yield() | ast.YieldFrom()):
            return
        case ast.Expr() | ast.AugAssign() | ast.Raise():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()


def tests_of(file: Path) -> list[list[str]]:
    """The tests of a module in the order in which they are tried; each item is one run."""
    folder = Path("tests", *file.parent.parts[1:])
    named = sorted((ROOT / folder).glob(f"test_{file.stem}*.py"))
    own = [str(path.relative_to(ROOT)) for path in named]
    while folder != Path("tests") and not any((ROOT / folder).glob("test_*.py")):
        folder = folder.parent
    whole = [str(folder)] if folder != Path("tests") else []
    return [run for run in (own, whole) if run] or [["tests/flows"]]


class Place:
    """A copy of the repository in which one mutant at a time is tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, folder / name, ignore=ignored)
            elif source.exists():
                shutil.copy2(source, folder / name)

    def passes(self, tests: Sequence[str], within_s: float) -> bool:
        """Whether these tests pass in time."""
        words = ["-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider", *tests]
        run = subprocess.Popen(
            # Compiled files are distinguished by their time in whole seconds: too coarse here.
            [sys.executable, "-B", *words],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return run.wait(within_s) == 0
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            return False

    def survives(self, mutant: Mutant, limits: Sequence[tuple[Sequence[str], float]]) -> bool:
        """Whether all tests pass with the mutant."""
        target = self.folder / mutant.file
        source = target.read_bytes()
        target.write_bytes(mutant.applied(source))
        try:
            return all(self.passes(tests, within_s) for tests, within_s in limits)
        finally:
            target.write_bytes(source)


def modules(paths: Sequence[str]) -> list[Path]:
    """The modules that are named, by file or by folder, as paths in the repository."""
    found: list[Path] = []
    for name in paths:
        path = (ROOT / name).resolve()
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        found += [file.relative_to(ROOT) for file in files if file.stem != "__init__"]
    return found


def run_module(
    chosen: Sequence[Mutant], runs: list[list[str]], places: "SimpleQueue[Place]", workers: int
) -> list[Mutant]:
    """The mutants of one module that survive these runs of tests. Raises RuntimeError where the
    unchanged code fails them."""
    place, limits = places.get(), []
    try:
        for tests in runs:
            began = time.monotonic()
            if not place.passes(tests, 600):
                raise RuntimeError(f"the tests of the unchanged code fail: {' '.join(tests)}")
            limits.append((tests, 10 + SLOWER * (time.monotonic() - began)))
    finally:
        places.put(place)

    def tried(mutant: Mutant) -> Mutant | None:
        place = places.get()
        try:
            return mutant if place.survives(mutant, limits) else None
        finally:
            places.put(place)

    with ThreadPoolExecutor(workers) as pool:
        return [mutant for mutant in pool.map(tried, chosen) if mutant is not None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 where enough mutants are killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("paths", nargs="+", help="modules or packages")
    parser.add_argument("--most", type=int, help="mutants of each module, chosen by --seed")
    parser.add_argument("--tests", nargs="+", help="these, not those of the module and its package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="mutants tried at once")
    parser.add_argument("--least", type=float, default=LEAST, help="percent to be killed")
    asked = parser.parse_args(argv)
    tried_in_all, alive_in_all = 0, 0
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        places: SimpleQueue[Place] = SimpleQueue()
        for number in range(asked.workers):
            (home := Path(folder, str(number))).mkdir()
            places.put(Place(home))
        for file in modules(asked.paths):
            chosen = mutants(file, (ROOT / file).read_bytes())
            if asked.most is not None and asked.most < len(chosen):
                chosen = random.Random(asked.seed).sample(chosen, asked.most)
            runs = [asked.tests] if asked.tests else tests_of(file)
            tried, survivors = len(chosen), run_module(chosen, runs, places, asked.workers)
            tried_in_all, alive_in_all = tried_in_all + tried, alive_in_all + len(survivors)
            print(f"{file}: {tried - len(survivors)} of {tried} killed", flush=True)
            for mutant in survivors:
                print(f"  survived  {mutant}", flush=True)
    killed = 100.0 * (tried_in_all - alive_in_all) / max(tried_in_all, 1)
    print(f"killed {killed:.1f} % of {tried_in_all} mutants (at least {asked.least:g} %)")
    return 0 if killed >= asked.least else 1


if __name__ == "__main__":
    sys.exit(main())
