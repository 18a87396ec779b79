"""The variables that the settings may name: those of the process, and those of a `.env` file.

Owns the syntax of the file and the order: the process's own variables win, also empty ones.
Promises that no message holds a value, and that `os.environ` is not changed, so that programs which
the service starts get nothing of the file. The rules of the file stand in docs/settings.md.
"""

import os
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from asyncsvc.errors import SettingsError

ENV_FILE = ".env"
MOST_BYTES = 1 << 20

_NAME = r"(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
_SINGLE = r"'(?P<single>[^']*)'"
_DOUBLE = r'"(?P<double>(?:[^"\\]|\\.)*)"'
_BARE = r"(?P<bare>(?![ \t]*['\"])[^\n]*)"
_COMMENT = r"(?:[ \t]+#[^\n]*)?(?=[ \t]*(?:\n|\Z))"
_LINE = re.compile(
    rf"[ \t]*+(?:#[^\n]*|{_NAME}[ \t]*+(?:=(?:[ \t]*(?:{_SINGLE}|{_DOUBLE}){_COMMENT}|{_BARE}))?)?"
    r"[ \t]*(?:\n|\Z)",
    re.DOTALL,
)
"""One variable, a comment, or nothing; a value in quotes may hold line breaks."""
_BARE_COMMENT = re.compile(r"[ \t]#.*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


class Environment(Mapping[str, str]):
    """The variables of a process over those of a file, which `reread` reads again.

    Raises SettingsError where the file cannot be read; there need not be one.
    """

    def __init__(self, process: Mapping[str, str], file: Path | None = None) -> None:
        self.file = file
        self._process = process
        self._of_file = _read(file)

    @classmethod
    def beside(cls, settings: Path | None, process: Mapping[str, str]) -> "Environment":
        """With the `.env` in the folder of the settings, or in this one where there are none."""
        folder = settings.absolute().parent if settings is not None else Path.cwd()
        return cls(process, folder / ENV_FILE)

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> "Environment":
        """The variables as they are where they are an `Environment`, else with no file."""
        return variables if isinstance(variables, cls) else cls(variables)

    def __getitem__(self, name: str) -> str:
        if name in self._process:
            return self._process[name]
        return self._of_file[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._process
        yield from (name for name in self._of_file if name not in self._process)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @contextmanager
    def reread(self) -> Generator[list[str]]:
        """Read the file again and give the names of the variables that have changed; an exception
        within the context puts back what was read before. Raises SettingsError."""
        before, after = self._of_file, _read(self.file)
        both = {**before, **after}
        changed = [name for name in both if before.get(name) != after.get(name)]
        self._of_file = after
        try:
            yield [name for name in changed if name not in self._process]
        except BaseException:
            self._of_file = before
            raise


def _read(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    try:
        if file.is_dir():
            return {}  # the folder of a virtual environment may be called so
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise SettingsError(
            [f"{file}: cannot be read: {error.strerror or error}; chown or chmod it, or remove it"]
        ) from None
    if len(data) > MOST_BYTES:
        raise SettingsError([f"{file}: has more than {MOST_BYTES} bytes; variables only, please"])
    try:
        return parsed(data.decode("utf-8-sig"), str(file))
    except UnicodeDecodeError:
        raise SettingsError([f"{file}: is not text in UTF-8; save it so"]) from None


def parsed(text: str, where: str = ENV_FILE) -> dict[str, str]:
    """Return the variables of a file's text. Raises SettingsError with a line for each fault."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    found: dict[str, str] = {}
    faults = []
    at = 0
    while at < len(text):
        line = _LINE.match(text, at)
        if line is None or line.end() == at:
            number = text.count("\n", 0, at) + 1
            faults.append(f"{where}: line {number} {_what_is_wrong(text, at)}")
            at = (text.find("\n", at) + 1) or len(text)
            continue
        at = line.end()
        if line["name"] and (value := _value(line)) is not None:
            found[line["name"]] = value
    if faults:
        raise SettingsError(faults)
    return found


def _value(line: re.Match[str]) -> str | None:
    """The value of a line; None where it names a variable without =, which sets nothing."""
    if line["single"] is not None:
        return line["single"]
    if line["double"] is not None:
        return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), line["double"])
    if line["bare"] is not None:
        return _BARE_COMMENT.sub("", line["bare"]).strip()
    return None


def _what_is_wrong(text: str, at: int) -> str:
    """Words for a line that cannot be read; never the line, which may hold a key."""
    line = text[at:].partition("\n")[0]
    name, equals, value = line.partition("=")
    if equals and re.fullmatch(rf"[ \t]*{_NAME}[ \t]*", name):
        mark = value.strip()[:1]
        return (
            f"has a value that begins with {mark} and does not end with it; close it, and put "
            "nothing but a comment behind it"
        )
    return (
        "is neither NAME=value nor a comment that begins with #; a name has letters, digits and _ "
        "only. The line is not repeated here"
    )


def open_to_others(file: Path) -> str | None:
    """Return a warning about a file with secrets that other users of this machine can read."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return None
    if os.name == "nt" or not mode & 0o044:
        return None
    return f"{file} holds secrets and can be read by others: chmod 600 {file}"
