"""The demo where there is no terminal: lines that say whose text they hold.

Owns how pieces of text are gathered to lines. Promises plain text, and that all of an answer
is printed once. Never draws.
"""

import re
import sys
from collections.abc import Sequence
from typing import Any, Self

from asyncsvc.cli.demo_cast import Part

LEAST_CHARS, MOST_CHARS = 20, 60
"""A line has at least so many characters and ends with a sentence, or has at most so many."""
_SENTENCE_END = re.compile(r"[。！？.!?]\s*$|\n")


class Lines:
    """A view of the demo: `took` is told of each event, after the part's card."""

    def __init__(self, parts: Sequence[Part], url: str) -> None:
        print(f"four tasks to {url}, their tokens over one WebSocket:", flush=True)
        self._gathered = {part.title: "" for part in parts}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to tidy up."""

    def took(self, part: Part, event: dict[str, Any]) -> None:
        """Print what the event adds, if it makes a line."""
        match event["type"]:
            case "chunk":
                self._gather(part, event["data"]["text"])
            case "attempt":
                self._gathered[part.title] = ""
                self._say(part, f"({part.card.model} answers)")
            case "status" if part.card.ended:
                self._flush(part)
                error = part.card.error
                self._say(part, f"({part.card.status}{': ' + error['message'] if error else ''})")

    def _gather(self, part: Part, text: str) -> None:
        line = self._gathered[part.title] + text
        self._gathered[part.title] = line
        if len(line) >= MOST_CHARS or (len(line) >= LEAST_CHARS and _SENTENCE_END.search(line)):
            self._flush(part)

    def _flush(self, part: Part) -> None:
        for line in self._gathered[part.title].splitlines():
            if line.strip():
                self._say(part, line.strip())
        self._gathered[part.title] = ""

    def _say(self, part: Part, text: str) -> None:
        sys.stdout.write(f"[{part.title} · {part.card.name or '…'}] {text}\n")
        sys.stdout.flush()
