"""The tools on files: read, write, edit, list, make a folder, search.

They work in the workspace alone, in a thread, and hold no more of a file than `FILE_MOST`.
"""

import asyncio
import difflib
import fnmatch
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import Field

from asyncsvc.tools.tool import Effects, Parameters, Result, Surroundings, Tool, ToolFault
from asyncsvc.tools.workspace import PathRefused, Workspace

FILE_MOST = 16 << 20
"""Bytes of a file that is read, edited or searched at most."""
LISTED_MOST = 1000
FOUND_MOST = 200
LINE_MOST = 300
DIFF_MOST = 50_000
"""Bytes of a diff that a person is shown."""
COMPARED_MOST = 4_000_000
"""Lines of one text times lines of the other."""
SEARCHED_MOST = 20_000
"""Files that one search looks into."""
T = TypeVar("T")


async def _aside(work: Callable[[], T]) -> T:
    """The result of blocking work on files. Raises ToolFault for what the file system refuses."""
    try:
        return await asyncio.to_thread(work)
    except PathRefused as refusal:
        raise ToolFault(str(refusal)) from None
    except OSError as error:
        name = f"{error.filename}: " if isinstance(error.filename, str) else ""
        raise ToolFault(f"{name}{error.strerror or error}") from None


def cut(text: str, most: int) -> tuple[str, bool]:
    """The text within so many bytes, and whether some was left out."""
    data = text.encode()
    if len(data) <= most:
        return text, False
    return data[:most].decode(errors="ignore"), True


def _text(data: bytes, path: str) -> str:
    if len(data) > FILE_MOST:
        raise ToolFault(f"{path}: larger than {FILE_MOST >> 20} MB")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ToolFault(f"{path}: not text in UTF-8") from None


async def read_text(workspace: Workspace, path: str) -> str:
    """The text of a whole file. Raises ToolFault."""
    return _text(await _aside(lambda: workspace.read(path, FILE_MOST + 1)), path)


async def _diff(path: str, before: str, after: str) -> str:
    """What changes, as a unified diff, its beginning where it is long. Where the texts are too long
    to be compared in a moment, all lines are shown as changed."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    if len(old) * len(new) > COMPARED_MOST:
        lines = [f"-{line}" for line in old] + [f"+{line}" for line in new]
    else:
        compared = difflib.unified_diff(old, new, f"a/{path}", f"b/{path}")
        lines = await asyncio.to_thread(list, compared)
    shown, shortened = cut("".join(_ended(line) for line in lines), DIFF_MOST)
    return shown + ("\n[the rest of the diff is left out]" if shortened else "")


def _ended(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


class ReadParameters(Parameters):
    path: str = Field(description="the file, relative to the workspace")
    offset: int = Field(0, ge=0, description="lines to pass over")
    limit: int | None = Field(None, ge=1, description="lines to read; by default to the end")


class ReadFile(Tool[ReadParameters]):
    name = "read_file"
    description = "Read a text file of the workspace, wholly or some of its lines."
    effects = Effects.NONE
    parameters = ReadParameters

    async def run(self, given: ReadParameters, around: Surroundings) -> Result:
        text = await read_text(around.workspace, given.path)
        if given.offset or given.limit is not None:
            end = None if given.limit is None else given.offset + given.limit
            text = "".join(text.splitlines(keepends=True)[given.offset : end])
        shown, truncated = cut(text, around.max_output_bytes)
        return Result(True, shown, truncated=truncated)


class WriteParameters(Parameters):
    path: str = Field(description="the file, relative to the workspace")
    content: str = Field(description="the whole new text")


class WriteFile(Tool[WriteParameters]):
    name = "write_file"
    description = "Make a text file, or replace it wholly; folders before it are made."
    effects = Effects.WORKSPACE
    parameters = WriteParameters

    async def run(self, given: WriteParameters, around: Surroundings) -> Result:
        data = given.content.encode("utf-8", "replace")
        if len(data) > FILE_MOST:
            raise ToolFault(f"content: larger than {FILE_MOST >> 20} MB")
        await _aside(lambda: around.workspace.write(given.path, data))
        return Result(True, f"wrote {len(data)} bytes to {given.path}")

    async def preview(self, given: WriteParameters, around: Surroundings) -> str | None:
        try:
            before = await read_text(around.workspace, given.path)
        except ToolFault:
            before = ""
        return await _diff(given.path, before, given.content)


class EditParameters(Parameters):
    path: str = Field(description="the file, relative to the workspace")
    old: str = Field(min_length=1, description="text that stands in the file exactly once")
    new: str = Field(description="text to put in its place")


class EditFile(Tool[EditParameters]):
    name = "edit_file"
    description = "Replace a text that stands in a file exactly once."
    effects = Effects.WORKSPACE
    parameters = EditParameters

    async def run(self, given: EditParameters, around: Surroundings) -> Result:
        text = await read_text(around.workspace, given.path)
        count = text.count(given.old)
        if count != 1:
            found = f"stands there {count} times" if count else "does not stand there"
            raise ToolFault(f"{given.path}: the old text {found}; it must be found exactly once")
        changed = text.replace(given.old, given.new).encode("utf-8", "replace")
        await _aside(lambda: around.workspace.write(given.path, changed))
        line = text[: text.index(given.old)].count("\n") + 1
        return Result(True, f"edited {given.path} at line {line}")

    async def preview(self, given: EditParameters, around: Surroundings) -> str | None:
        try:
            before = await read_text(around.workspace, given.path)
        except ToolFault:
            return None
        return await _diff(given.path, before, before.replace(given.old, given.new, 1))


class FolderParameters(Parameters):
    path: str = Field(".", description="the folder, relative to the workspace")


class ListDirectory(Tool[FolderParameters]):
    name = "list_directory"
    description = "List a folder of the workspace: kind, bytes and name of each item."
    effects = Effects.NONE
    parameters = FolderParameters

    async def run(self, given: FolderParameters, around: Surroundings) -> Result:
        items = await _aside(lambda: around.workspace.items(given.path))
        lines = []
        for item in items[:LISTED_MOST]:
            name = item.path.rpartition("/")[2]
            size = str(item.size) if item.kind == "file" else item.kind
            lines.append(f"{size}\t{name}{'/' if item.kind == 'folder' else ''}")
        left = len(items) - len(lines)
        lines += [f"and {left} more"] if left else []
        shown, truncated = cut("\n".join(lines), around.max_output_bytes)
        return Result(True, shown, truncated=truncated or left > 0)


class NewFolderParameters(Parameters):
    path: str = Field(description="the folder, relative to the workspace")


class CreateDirectory(Tool[NewFolderParameters]):
    name = "create_directory"
    description = "Make a folder, and those before it; it may exist already."
    effects = Effects.WORKSPACE
    parameters = NewFolderParameters

    async def run(self, given: NewFolderParameters, around: Surroundings) -> Result:
        await _aside(lambda: around.workspace.make_folder(given.path))
        return Result(True, f"made {given.path}")


class SearchParameters(Parameters):
    pattern: str = Field(
        min_length=1,
        max_length=500,
        description="a pattern of names such as *.py, or a text to look for in names and lines",
    )
    path: str = Field(".", description="the folder to search, relative to the workspace")


class SearchFiles(Tool[SearchParameters]):
    name = "search_files"
    description = "Find files by their name, and lines that hold a text."
    effects = Effects.NONE
    parameters = SearchParameters

    async def run(self, given: SearchParameters, around: Surroundings) -> Result:
        await _aside(lambda: around.workspace.items(given.path))
        lines = await _aside(lambda: _search(around.workspace, given.pattern, given.path))
        shown, truncated = cut("\n".join(lines[:FOUND_MOST]), around.max_output_bytes)
        return Result(True, shown, truncated=truncated or len(lines) > FOUND_MOST)


def _search(workspace: Workspace, pattern: str, path: str) -> list[str]:
    """`name` of each file whose name fits, `name:line: text` of each line that holds the text."""
    found: list[str] = []
    for number, item in enumerate(workspace.walk(path)):
        name = item.path.rpartition("/")[2]
        if fnmatch.fnmatchcase(name, pattern) or pattern in item.path:
            found.append(item.path)
        if len(found) > FOUND_MOST or number >= SEARCHED_MOST:
            break
        if item.size > FILE_MOST:
            continue
        try:
            data = workspace.read(item.path, FILE_MOST)
        except (OSError, PathRefused):
            continue  # removed or replaced meanwhile
        if b"\0" in data[:1024] or pattern.encode("utf-8", "replace") not in data:
            continue
        for line, text in enumerate(data.decode(errors="replace").splitlines(), start=1):
            if pattern in text:
                found.append(f"{item.path}:{line}: {text.strip()[:LINE_MOST]}")
    return found


FILE_TOOLS: tuple[type[Tool[Any]], ...] = (
    ReadFile, WriteFile, EditFile, ListDirectory, CreateDirectory, SearchFiles,
)  # fmt: skip
