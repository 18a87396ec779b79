"""Stories of a whole service against an oracle, in virtual time: the long form.

`python -m tests.benchmarks.stories --runs N --seed S`: submits, cancellations, pauses, retries,
faults, crashes, power cuts and restarts in any order, each story on a real database, judged from
outside after every step (tests/properties/oracle.py). Prints the seed, what the stories were made
of and what rare things happened in them; exits 1 with the shortest story that breaks a law.
"""

import argparse
import random
import sys
import time
from collections import Counter

from tests.benchmarks.report import Report, progress
from tests.properties.explore import Shown, explore
from tests.properties.steps import Do, Fault, Story

TELL_EVERY = 500
RARE = 0.01
"""What happens in fewer stories than this share is marked."""


class Book:
    """What all stories had in them."""

    def __init__(self, runs: int) -> None:
        self.finished = 0
        self.steps: Counter[str] = Counter()
        self.happened: Counter[str] = Counter()
        self.in_stories: Counter[str] = Counter()
        """In how many stories each kind of thing happened."""
        self._runs = runs
        self._began = time.monotonic()

    def add(self, story: Story, happened: Counter[str]) -> None:
        self.finished += 1
        for step in story.steps:
            kind = type(step).__name__.lower()
            named = {Do: "verb", Fault: "kind"}.get(type(step))
            self.steps[f"{kind} {getattr(step, named)}" if named else kind] += 1
        found = {kind: count for kind, count in happened.items() if count}
        self.happened.update(found)
        self.in_stories.update(found.keys())
        if self.finished % TELL_EVERY == 0:
            progress(f"{self.finished} of {self._runs} stories, {self.seconds:.0f} s")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


def run(runs: int, number: int) -> Report:
    """Tell them; nothing is lost of the book where one breaks."""
    report = Report(f"{runs} stories, --seed {number}", ["what", "times", "stories"])
    book = Book(runs)
    try:
        explore(runs, number, book.add)
    except Shown as shown:
        report.require(False, str(shown))
    for kind, count in sorted(book.steps.items()):
        report.row(f"step: {kind}", count, "")
    for kind, count in sorted(book.happened.items()):
        if kind[0].islower() or kind.startswith("->"):
            report.row(kind, count, book.in_stories[kind])
    steps = book.steps.total()
    report.notes.append(
        f"{book.finished} stories played to their end, {steps} steps, {book.seconds:.0f} s, "
        f"{1000 * book.seconds / max(book.finished, 1):.0f} ms a story"
    )
    rare = sorted(k for k, count in book.in_stories.items() if count < book.finished * RARE)
    if rare:
        report.notes.append(f"in fewer than {RARE:.0%} of the stories: {', '.join(rare)}")
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
    asked = parser.parse_args()
    number = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    progress(f"seed {number}")
    return run(asked.runs, number).finish()


if __name__ == "__main__":
    sys.exit(main())
