"""The command line as a child that ends with its parent: `python child.py COMMAND…`.

Run as a program by `selftest`, never imported. Its stdin is a pipe from the parent: the end of the
pipe is the end of the parent, however that came, so that not even a killed parent leaves a service.
"""

import os
import sys
import threading
from pathlib import Path

ROOT = str(Path(__file__).parents[2])


def _end_with_parent() -> None:
    # Not sys.stdin: a thread that waits in its lock would disturb the end of the interpreter.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    # Python has put this file's folder there, whose names are none of the library's.
    del sys.path[0]
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    threading.Thread(target=_end_with_parent, name="end with the parent", daemon=True).start()

    from asyncsvc.cli import main

    main()
