"""What a person types into `chat`: questions of one or many lines, and the history of them.

A line that ends with a backslash goes on in the next one; three double quotes begin and end a text
of many lines. The history is a file that only its owner can read, of at most `MOST_LINES` lines; a
system without readline has none.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

PROMPT, MORE = "> ", "… "
QUOTES = '"' * 3
MOST_LINES = 1000
LONGEST_LINE = 4096
"""Characters of a line that goes into the history."""


def history_file() -> Path:
    """Return where the history is: in the folder for the state of programs."""
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home())
    else:
        folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return folder / "asyncsvc" / "chat_history"


class Questions:
    """Questions typed at a terminal. `history` None: none is read and none is written."""

    def __init__(self, history: Path | None, words: Sequence[str]) -> None:
        self._history = history
        self._readline = _readline()
        if self._readline is not None:
            self._readline.set_auto_history(False)
            _complete(self._readline, words)
            if history is not None and _usable(history):
                self._readline.set_history_length(MOST_LINES)
                with contextlib.suppress(OSError):
                    self._readline.read_history_file(history)
            else:
                self._history = None

    def __iter__(self) -> Iterator[str]:
        """Yield each question, until Ctrl-D; Ctrl-C drops what is typed of one."""
        while True:
            try:
                question = self._read()
            except KeyboardInterrupt:
                print()
                continue
            except EOFError:
                print()
                return
            if question.strip():
                yield question

    def _read(self) -> str:
        line = self._line(PROMPT)
        if line.strip().startswith(QUOTES):
            return self._quoted(line.strip().removeprefix(QUOTES))
        lines = [line]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(self._line(MORE))
        return "\n".join(lines)

    def _quoted(self, first: str) -> str:
        lines = [first] if first else []
        while not (lines and lines[-1].rstrip().endswith(QUOTES)):
            lines.append(self._line(MORE))
        lines[-1] = lines[-1].rstrip().removesuffix(QUOTES)
        return "\n".join(lines).strip("\n")

    def _line(self, prompt: str) -> str:
        line = input(prompt)
        if self._readline is not None and line.strip() and len(line) <= LONGEST_LINE:
            self._readline.add_history(line)
            if self._history is not None:
                _remember(self._readline, self._history)
        return line


def _readline() -> ModuleType | None:
    """The keys and the history of a shell, where the system has them."""
    try:
        import readline
    except ImportError:
        return None
    return readline


def _complete(readline: ModuleType, words: Sequence[str]) -> None:
    """Complete the first word of a line with the tab key."""

    def fitting(text: str, state: int) -> str | None:
        found = [word for word in words if text and word.startswith(text)]
        return found[state] if state < len(found) else None

    readline.set_completer_delims(" ")
    readline.set_completer(fitting)
    libedit = "libedit" in (readline.__doc__ or "")  # macOS has it in the place of readline
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")


def _usable(file: Path) -> bool:
    """Make the file where there is none; whether it is a plain file that only we can read."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        os.close(os.open(file, flags, 0o600))
        file.chmod(0o600)
    except OSError:
        return False
    return True


def _remember(readline: ModuleType, file: Path) -> None:
    """Add the last line to the file; at once, so that two conversations keep what both hold."""
    with contextlib.suppress(OSError):
        if hasattr(readline, "append_history_file"):
            readline.append_history_file(1, file)
        else:  # libedit
            readline.write_history_file(file)
        file.chmod(0o600)
