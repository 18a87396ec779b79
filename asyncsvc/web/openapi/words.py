"""The words for a function that serves a path, from its docstring `METHOD path: what it does.`"""

import inspect
from collections.abc import Callable
from typing import Any


def words(method: str, function: Callable[..., Any], otherwise: str = "") -> tuple[str, str]:
    """(summary, description); `otherwise` stands for a docstring that is not there."""
    first, _, rest = (inspect.getdoc(function) or otherwise).partition("\n")
    label, colon, meaning = first.partition(": ")
    sentence = meaning if colon and label.startswith(method) else first
    summary = sentence[:1].upper() + sentence[1:].rstrip(".")
    return summary, rest.strip() or f"{summary}."
