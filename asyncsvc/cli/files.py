"""Which settings file counts where none is named.

Owns the order of looking. Promises to take the current directory's first. Never reads it.
"""

import sys
from pathlib import Path

import asyncsvc
from asyncsvc.config.load import DEFAULT_FILE


def settings_file(named: Path | None) -> Path | None:
    """The file to read: the named one, or the one here, or the one beside main.py.

    None: there is none, so the built-in defaults count. A named one is not checked here.
    """
    if named is not None:
        return named
    folders = [Path.cwd(), Path(sys.argv[0]).resolve().parent, Path(asyncsvc.__file__).parents[1]]
    files = [folder / DEFAULT_FILE for folder in folders]
    return next((file for file in files if file.is_file()), None)
