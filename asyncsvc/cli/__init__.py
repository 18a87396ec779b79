"""The command line: one module for each group of commands, declaration and body together.

Neither Ctrl-C nor a closed pipe nor a known error shows a traceback. May be imported: `main`.
"""

from asyncsvc.cli.parser import main

__all__ = ["main"]
