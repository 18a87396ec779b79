"""A mutation run: changes one thing at a time in the code and counts the changes that no test sees.

    python -m tests.benchmarks.mutation                             150 mutants of the engine
    python -m tests.benchmarks.mutation asyncsvc/limits --sample 40

First the tests run once under coverage, which gives a map from lines to the tests that run them
(`--map FILE` keeps it for the next time). Then each changed program (a mutant) is tried in a copy
of the repository with the tests that run its line, the quickest first. A mutant that fails a test,
or takes much longer than the unchanged code, is killed; one that passes has survived and is
printed with its line. Exits with 1 where fewer than `--least` percent are killed.

A small mutator of its own, as it needs a copy for each worker and the tests of one line. mutmut
and cosmic-ray were not tried.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from coverage import CoverageData

from tests.benchmarks.covering import FOLDER, PASSED
from tests.benchmarks.mutants import Mutant, mutants
from tests.benchmarks.report import progress
from tests.memory import MEMORY

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("asyncsvc", "tests", "docs", "main.py", "pyproject.toml", "settings.toml", "README.md")
ENGINE = ("tasks", "journal", "limits", "scheduling", "execution")
TESTS = (*ENGINE, "storage", "intake", "lifecycle", "providers", "routing", "cron", "properties")
SAMPLE = 150
LEAST = 90.0
"""Percent of the mutants that the tests must kill."""
FIRST = 30
"""So many of the quickest tests are tried before all others."""
SLOWER, START_S = 5.0, 40.0
"""A run may take START_S and so many times what its tests took in the unchanged code."""


@dataclass(frozen=True)
class Coverage:
    """Which tests run which lines of the unchanged code, and how long each takes."""

    of_line: Mapping[str, Mapping[int, list[str]]]
    """By module and line."""
    seconds: Mapping[str, float]

    def tests(self, mutant: Mutant) -> list[str]:
        """The tests that run the mutant's line, quickest first; of the module where none does.

        A line that runs at import is run by no test, but all tests of the module depend on it.
        """
        lines = self.of_line.get(str(mutant.file), {})
        own = lines.get(mutant.line) or sorted({test for some in lines.values() for test in some})
        return sorted(own, key=lambda test: self.seconds.get(test, 0.0))

    def save(self, file: Path) -> None:
        file.write_text(json.dumps([self.of_line, self.seconds]), encoding="utf-8")


def loaded(file: Path) -> Coverage:
    lines, seconds = json.loads(file.read_text(encoding="utf-8"))
    by_line = {name: {int(n): tests for n, tests in of.items()} for name, of in lines.items()}
    return Coverage(by_line, seconds)


def environment(**variables: str) -> dict[str, str]:
    """As this process's, with files in memory where there is such a place."""
    found = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "ASYNCSVC_TESTS_STORIES": "20"}
    if MEMORY is not None:
        found["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)
    return found | variables


def measured(tests: Sequence[str], workers: int) -> Coverage:
    """Run the tests once; those that fail on the unchanged code are left out."""
    with tempfile.TemporaryDirectory(prefix="mutation-map-") as folder:
        data = Path(folder, "data")
        variables = environment(**{FOLDER: folder, "COVERAGE_FILE": str(data)})
        base = [sys.executable, "-m", "coverage"]
        words = ["-m", "pytest", "-n", str(workers), "-q", "-p", "tests.benchmarks.covering"]
        command = [*base, "run", *words, *tests]
        if subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode:
            print("the tests that fail on the unchanged code are left out", flush=True)
        subprocess.run([*base, "combine", "--quiet"], cwd=ROOT, env=variables, check=True)
        seconds = json.loads(Path(folder, PASSED).read_text(encoding="utf-8"))
        found = CoverageData(str(data))
        found.read()
        of_line = {
            str(Path(name).relative_to(ROOT)): {
                line: [test for test in contexts if test in seconds]
                for line, contexts in found.contexts_by_lineno(name).items()
            }
            for name in found.measured_files()
        }
        return Coverage(of_line, seconds)


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
        listed = self.folder / "tests.txt"
        listed.write_text("\n".join(tests), encoding="utf-8")
        words = ["-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider", f"@{listed}"]
        run = subprocess.Popen(
            [sys.executable, *words],
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return run.wait(within_s) == 0
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            return False

    def survives(self, mutant: Mutant, found: Coverage) -> bool:
        """Whether all tests that run the mutant's line pass."""
        target = self.folder / mutant.file
        source = target.read_bytes()
        self._write(target, mutant.applied(source))
        tests = found.tests(mutant)
        try:
            for some in (tests[:FIRST], tests[FIRST:]):
                expected = sum(found.seconds.get(test, 0.0) for test in some)
                if some and not self.passes(some, START_S + SLOWER * expected):
                    return False
            return True
        finally:
            self._write(target, source)

    def _write(self, target: Path, source: bytes) -> None:
        """Compiled files are distinguished by whole seconds: too coarse here, so it is removed."""
        target.write_bytes(source)
        for compiled in (target.parent / "__pycache__").glob(f"{target.stem}.*.pyc"):
            compiled.unlink()


def all_mutants(paths: Sequence[str]) -> list[Mutant]:
    """The mutants of modules that are named, by file or by folder."""
    found: list[Mutant] = []
    for name in paths:
        path = (ROOT / name).resolve()
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found += mutants(file.relative_to(ROOT), file.read_bytes())
    return found


def survivors(chosen: Sequence[Mutant], found: Coverage, workers: int) -> list[Mutant]:
    """Those of the mutants that pass their tests, each printed as it is found."""
    places: SimpleQueue[Place] = SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        for number in range(workers):
            (home := Path(folder, str(number))).mkdir()
            places.put(Place(home))

        def tried(mutant: Mutant) -> Mutant | None:
            place = places.get()
            try:
                if not place.survives(mutant, found):
                    return None
            finally:
                places.put(place)
            print(f"survived  {mutant}  ({len(found.tests(mutant))} tests)", flush=True)
            return mutant

        alive: list[Mutant] = []
        with ThreadPoolExecutor(workers) as pool:
            for number, mutant in enumerate(pool.map(tried, chosen), 1):
                if mutant is not None:
                    alive.append(mutant)
                if number % 10 == 0:
                    progress(f"{number} of {len(chosen)} mutants, {len(alive)} survived")
        return alive


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 where enough mutants are killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    engine = [f"asyncsvc/{name}" for name in ENGINE]
    tests = [f"tests/{name}" for name in TESTS]
    parser.add_argument("paths", nargs="*", default=engine, help="modules or packages")
    parser.add_argument("--sample", type=int, default=SAMPLE, help="mutants, chosen by --seed")
    parser.add_argument("--tests", nargs="+", default=tests, help="the tests that may kill them")
    parser.add_argument("--map", type=Path, help="a file for the map from lines to tests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="mutants tried at once")
    parser.add_argument("--least", type=float, default=LEAST, help="percent to be killed")
    asked = parser.parse_args(argv)
    if asked.map is not None and asked.map.exists():
        found = loaded(asked.map)
    else:
        found = measured(asked.tests, asked.workers)
        if asked.map is not None:
            found.save(asked.map)
    chosen = all_mutants(asked.paths)
    if asked.sample < len(chosen):
        chosen = random.Random(asked.seed).sample(chosen, asked.sample)
    alive = survivors(chosen, found, asked.workers)
    in_all = Counter(str(mutant.file.parent) for mutant in chosen)
    left = Counter(str(mutant.file.parent) for mutant in alive)
    for package, count in sorted(in_all.items()):
        print(f"{package}: {count - left[package]} of {count} killed")
    killed = 100.0 * (len(chosen) - len(alive)) / max(len(chosen), 1)
    print(f"killed {killed:.1f} % of {len(chosen)} mutants (at least {asked.least:g} %)")
    return 0 if killed >= asked.least else 1


if __name__ == "__main__":
    sys.exit(main())
