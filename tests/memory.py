"""Folders in memory, on Linux, where a sync to the disk costs nothing.

A test proves as much there: its processes outlive no power cut, and a disk that fails is one whose
system calls fail.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

_SHARED = Path("/dev/shm")
MEMORY = _SHARED if os.access(_SHARED, os.W_OK) else None
"""A file system in memory; None where there is none."""


def folder(prefix: str = "asyncsvc-test-") -> "TemporaryDirectory[str]":
    """A temporary folder in memory, or on the disk where there is no such memory."""
    return TemporaryDirectory(dir=MEMORY, prefix=prefix)
