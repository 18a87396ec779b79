"""The commands of a document: its fenced blocks, and the rows of a table of commands."""

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(*found) for found in FENCE.findall(page.read_text(encoding="utf-8"))]


def columns(page: Path, *heads: str) -> dict[str, list[str]]:
    """The commands below each of these heads, of the first table that has them all."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        names = [name.strip() for name in line.strip("|").split("|")]
        if all(head in names for head in heads):
            rows = []
            for row in lines[number + 2 :]:
                if not row.startswith("|"):
                    break
                rows.append([cell.strip().strip("`") for cell in row.strip("|").split("|")])
            return {head: [row[names.index(head)] for row in rows] for head in heads}
    raise AssertionError(f"{page} has no table with {heads}")


def headings(page: Path) -> list[int]:
    """The depth of each heading, in order."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [len(found) for found in re.findall(r"^(#+) ", text, re.MULTILINE)]
