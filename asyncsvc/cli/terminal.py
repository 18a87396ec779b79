"""The console that tables and live views are drawn on.

Owns the choice between colours and plain text. Promises that NO_COLOR, TERM=dumb and a pipe
get plain text, a pipe in lines wide enough for whole ids. Never draws anything.
"""

import os
import sys

from rich.console import Console

PIPE_WIDTH = 160
WIDE = 110
"""Columns from which there is room for whole ids."""


def console() -> Console:
    """For stdout."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, highlight=False, emoji=False, markup=False)


def lively() -> bool:
    """Whether stdout is a terminal on which a view can be redrawn, and is wished to be."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "") in ("dumb", "unknown")
    return sys.stdout.isatty() and not plain
