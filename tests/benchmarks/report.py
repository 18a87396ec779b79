"""What a benchmark has found, and how it is printed.

Owns the table, the verdict and the exit status. Promises that a broken promise of the product
(status 1) is never mixed up with a target that was missed (status 3). Never measures anything.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

BROKEN = 1
MISSED = 3


@dataclass
class Report:
    """`broken` are faults of correctness, `missed` are speeds below their targets."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def row(self, *cells: object) -> None:
        self.rows.append(cells)

    def require(self, holds: bool, otherwise: str) -> None:
        """A condition of correctness."""
        if not holds:
            self.broken.append(otherwise)

    def target(self, met: bool, otherwise: str) -> None:
        """A speed that the product is meant to have."""
        if not met:
            self.missed.append(otherwise)

    def finish(self) -> int:
        """Print everything; the exit status."""
        print(self.text(), flush=True)
        return BROKEN if self.broken else MISSED if self.missed else 0

    def text(self) -> str:
        cells = [[_shown(cell) for cell in row] for row in (self.columns, *self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [
            "  ".join(
                cell.ljust(width) if index == 0 else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in cells
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        lines_below = [f"  {note}" for note in self.notes]
        lines_below += [f"BROKEN: {fault}" for fault in self.broken]
        lines_below += [f"MISSED TARGET: {fault}" for fault in self.missed]
        if not self.broken and not self.missed:
            lines_below.append("OK")
        return "\n".join([self.title, *lines, *lines_below])


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed; nan for none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def progress(line: str) -> None:
    """Tell a person at the terminal how far it is, apart from the table on stdout."""
    print(line, file=sys.stderr, flush=True)


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
