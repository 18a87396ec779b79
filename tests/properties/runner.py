"""From a story to what it showed: one virtual loop, one folder in memory, one verdict.

Owns the surroundings of a story. Promises that it runs the same way each time, and that an
error which the product only logs, or which reaches no caller, breaks it as well.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from asyncsvc.journal import long_texts
from asyncsvc.journal.long_texts import PART_BYTES, PART_CHARS
from asyncsvc.routing.classifier import Classifier
from tests.memory import folder as in_memory
from tests.properties.lives import law
from tests.properties.steps import Crash, Story
from tests.properties.still_database import Disk, still
from tests.properties.story import Telling
from tests.virtual_time import loop, run_virtual

CLASSIFIER = Classifier.builtin()
"""Read once: a service that begins again is a fifth of a story's time otherwise."""
PROVOKED = ("a fault of ours while running task", "nothing was received by the call")
"""What a story's own bug and its silences are logged as."""


class _Complaints(logging.Handler):
    """What the product has logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not text.startswith(PROVOKED):
            self.found.append(f"{text}: {record.exc_info[1]!r}" if record.exc_info else text)


@contextmanager
def _listening() -> Iterator[_Complaints]:
    complaints = _Complaints()
    ours = logging.getLogger("asyncsvc")
    was, ours.propagate = ours.propagate, False
    ours.addHandler(complaints)
    try:
        yield complaints
    finally:
        ours.removeHandler(complaints)
        ours.propagate = was


def tell(story: Story) -> Counter[str]:
    """Run it; what happened in it, by kind. Raises Broken."""
    power = any(isinstance(step, Crash) and step.power for step in story.steps)
    disk, ids = Disk(power), itertools.count()
    with (
        _listening() as complaints,
        in_memory("asyncsvc-story-") as folder,
        patch(
            "asyncsvc.clock.os", SimpleNamespace(urandom=lambda _: next(ids).to_bytes(10, "little"))
        ),
        patch.object(Classifier, "builtin", lambda: CLASSIFIER),
        # In half of the stories most results are long ones, which are stored in parts; in another
        # half most bodies.
        patch.object(long_texts, "PART_CHARS", 3 if len(story.steps) % 2 else PART_CHARS),
        patch.object(long_texts, "PART_BYTES", 30 if len(story.steps) % 4 < 2 else PART_BYTES),
        still(story.turns, disk),
    ):
        telling: list[Telling] = []

        async def run() -> None:
            def unhandled(_: Any, context: dict[str, Any]) -> None:
                complaints.found.append(f"{context.get('message')}: {context.get('exception')!r}")

            loop().set_exception_handler(unhandled)
            telling.append(Telling(Path(folder), story, disk))
            await telling[0].tell()

        run_virtual(run())
        law(not complaints.found, f"errors of ours: {complaints.found}")
        return telling[0].happened
