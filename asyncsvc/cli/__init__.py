"""The command line: one module for each group of commands, declaration and body together.

Neither Ctrl-C nor a closed pipe nor a known error shows a traceback. May be imported: `main`.
"""

import os
import sys
from typing import NoReturn

from asyncsvc.cli.options import FAILED, INTERRUPTED


def main() -> NoReturn:
    """Run the command of `sys.argv` and end the process."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show Chinese gets question marks, not a traceback.
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
    try:
        from asyncsvc.cli.parser import run

        code = run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout has left. What is still buffered must not be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    sys.exit(code)
