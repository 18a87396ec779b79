"""The agent that mends a failing test of Python's unittest: the simulated provider's own script.

Each step follows from the results of the tools so far: the output of the tests names the test, the
search finds the function that it calls, and that function's text is tried with one operator
exchanged after the other, until the tests pass or nothing is left to try.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from asyncsvc.simulator.conversation import MadeCall, Offer, Turn
from asyncsvc.simulator.steps import PlannedCall, Step

TESTS = ["python3", "-B", "-m", "unittest"]
NEEDED = ("exec_command", "search_files", "read_file", "edit_file")
EXCHANGES = (
    ("-=", "+=", 1), ("+=", "-=", -1), ("/=", "*=", 1), ("*=", "/=", -1),
    (" - ", " + ", 1), (" + ", " - ", -1), (" / ", " * ", 1), (" * ", " / ", -1),
    (" / ", " // ", 0),
    (" < ", " <= ", 1), (" <= ", " < ", -1), (" > ", " >= ", 1), (" >= ", " > ", -1),
    (" == ", " != ", 0), (" != ", " == ", 0), (" and ", " or ", 0), (" or ", " and ", 0),
    ("min(", "max(", 1), ("max(", "min(", -1), ("not ", "", 0),
)  # fmt: skip
"""Known faults: what stands there, what may have been meant, and whether a value then grows (1) or
shrinks (-1)."""
MOST_TRIES = 8
_FRAME = re.compile(
    r'^  File "(?P<file>[^"\n]+)", line (?P<line>\d+), in (?P<name>\S+)\n(?P<code>    \S.*)?',
    re.MULTILINE,
)
_ERROR = re.compile(r"^(\w+(?:\.\w+)*(?:Error|Exception|Failure)\b.*)$", re.MULTILINE)
_UNEQUAL = re.compile(r"AssertionError: (-?[\d.]+) != (-?[\d.]+)")
_RAN = re.compile(r"^Ran (\d+) tests?", re.MULTILINE)
_CALLED = re.compile(r"(?<![\w.])(?!self\b|assert)([A-Za-z_]\w*)\(")
_FOUND = re.compile(r"^([^:\n]+\.py):(\d+): ", re.MULTILINE)
_COMMIT = re.compile(r"^\[\S+ (?:\(root-commit\) )?([0-9a-f]{7,})\]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Failed:
    """A failing test, as its output tells: the error, and the line of code that raised it."""

    error: str
    file: str
    line: int
    code: str
    tested: str | None
    """The function that a failing assertion calls; None where the error is in `file` itself."""

    @property
    def wish(self) -> int:
        """Whether the value must grow (1) or shrink (-1); 0: not known."""
        if (match := _UNEQUAL.search(self.error)) is None:
            return 0
        first, second = float(match[1]), float(match[2])
        # `assertEqual(7, total(…))` names the expected value first.
        swapped = re.search(r"assertEqual\(-?\d", self.code) is not None
        return 1 if (first < second) is not swapped else -1


@dataclass(frozen=True, slots=True)
class Edit:
    """One try: the line, and the text of a file before and after it."""

    line: int
    before: str
    after: str
    exchange: tuple[str, str]


def mending_step(played: list[Turn], offer: Offer) -> Step | None:
    """The next step; None where the agent has already ended with a text."""
    if played and not played[-1].calls:
        return None
    return _Mending(played, offer).step()


class _Mending:
    """What the conversation shows so far, and the step that follows from it."""

    def __init__(self, played: list[Turn], offer: Offer) -> None:
        self._number = len(played)
        self._offer = offer
        self._calls = [call for turn in played for call in turn.calls]
        self._tries = sum(any(call.name == "edit_file" for call in turn.calls) for turn in played)
        self._git = offer.has("git") and not self._result("git", "init", ok=False)

    def step(self) -> Step:
        if missing := [name for name in NEEDED if not self._offer.has(name)]:
            return Step(f"I cannot mend a test without {', '.join(missing)}.")
        if self._git and self._last("git", "status") is None:
            return self._does("I look at the repository first.", ("git", {"args": ["status"]}))
        if self._git and self._is_no_repository() and self._last("git", "init") is None:
            return self._does(
                "There is no repository yet. I make one, so that the change can be seen later.",
                ("git", {"args": ["init"]}),
                ("git", {"args": ["add", "--all"]}),
                ("git", {"args": ["commit", "-m", "The state before"]}),
            )
        if (refused := self._refused_edit()) is not None:
            return Step(f"I could not change the file, so I stop here: {_last_line(refused)}")
        tested = self._last("exec_command", since="edit_file")
        if tested is None or tested.result is None:
            return self._does("I run the tests.", ("exec_command", {"argv": TESTS}))
        if _failed(tested.result):
            return self._after_failure(tested.result)
        return self._after_success(tested.result)

    def _after_success(self, output: str) -> Step:
        if (ran := _RAN.search(output)) is None or ran[1] == "0":
            return Step(f"No test has run: {_last_line(output)}")
        if not self._tries:
            return Step(f"{_ran(output)}: all pass. There is nothing to mend.")
        if self._git and self._last("git", "diff", since="edit_file") is None:
            return self._does("The tests pass. This is the change:", ("git", {"args": ["diff"]}))
        if self._git and self._last("git", "commit", since="edit_file") is None:
            edit = self._edit()
            message = f"Mend {edit[0]}: {edit[1].exchange[0].strip()} was wrong"
            return self._does(
                "I commit it.",
                ("git", {"args": ["add", "--all"]}),
                ("git", {"args": ["commit", "-m", message]}),
            )
        return Step(self._report(output))

    def _report(self, output: str) -> str:
        path, edit = self._edit()
        wrong, right = (part.strip() for part in edit.exchange)
        first = next(call for call in self._calls if call.name == "exec_command")
        error = (_read(first.result or "") or Failed("", "", 0, "", None)).error
        meant = f"`{right}` was meant" if right else "it was too much"
        text = f"{_ran(output)}: all pass now. The fault was in {path}, line {edit.line}: "
        text += f"`{wrong}` stood there and {meant} ({error})."
        commit = self._last("git", "commit", since="edit_file")
        if commit is not None and (match := _COMMIT.search(commit.result or "")):
            text += f" The change is commit {match[1]}."
        return text

    def _after_failure(self, output: str) -> Step:
        failed = _read(output)
        if failed is None:
            return Step(f"I cannot read from the output what fails: {_last_line(output)}")
        path = failed.file
        if failed.tested is not None:
            wanted = f"def {failed.tested}("
            search = self._last("search_files")
            if search is None:
                say = f"{failed.error}. The test calls `{failed.tested}`; I look for it."
                return self._does(say, ("search_files", {"pattern": wanted}))
            if (match := _FOUND.search(search.result or "")) is None:
                return Step(f"{failed.error}, but `{wanted}` stands in no file here.")
            path = match[1]
        if self._last("read_file") is None:
            return self._does(f"I read {path}.", ("read_file", {"path": path}))
        return self._try()

    def _try(self) -> Step:
        """Exchange the next operator, after the try before it has been undone."""
        path, edits = self._edits()
        if not edits:
            return Step(f"I find nothing in {path} that I know to be a fault.")
        if self._tries > len(edits):
            tried = f"{len(edits)} change{'' if len(edits) == 1 else 's'}"
            return Step(f"I tried {tried} in {path}, none helps, and all is as it was before.")
        steps: list[tuple[str, dict[str, object]]] = []
        say = "That was not it" if self._tries else ""
        if self._tries:
            last = edits[self._tries - 1]
            steps.append(("edit_file", {"path": path, "old": last.after, "new": last.before}))
        if self._tries == len(edits):
            return self._does(f"{say}, and I know no other fault; I undo it.", *steps)
        edit = edits[self._tries]
        wrong, right = (part.strip() for part in edit.exchange)
        steps.append(("edit_file", {"path": path, "old": edit.before, "new": edit.after}))
        tried = f"I put `{right}` there" if right else "I take it out"
        say += ". " if say else ""
        return self._does(f"{say}Line {edit.line} has `{wrong}`; {tried}.", *steps)

    def _edit(self) -> tuple[str, Edit]:
        """The file, and the try that stands in it now."""
        path, edits = self._edits()
        return path, edits[min(self._tries, len(edits)) - 1]

    def _edits(self) -> tuple[str, list[Edit]]:
        """The file that was read, and what may be tried in it, the most likely first."""
        read = next(call for call in self._calls if call.name == "read_file")
        first = next(call for call in self._calls if call.name == "exec_command")
        failed = _read(first.result or "")
        path, text = str(read.arguments.get("path")), read.result or ""
        if failed is None or _failed(text):
            return path, []
        found = list(_possible(text, failed))
        found.sort(key=lambda edit: _rank(edit.exchange, failed.wish))
        return path, found[:MOST_TRIES]

    def _does(self, say: str, *calls: tuple[str, dict[str, object]]) -> Step:
        made = [
            PlannedCall(f"call_mend_{self._number}_{place}", name, json.dumps(arguments))
            for place, (name, arguments) in enumerate(calls)
        ]
        return Step(say, tuple(made))

    def _last(
        self, name: str, command: str | None = None, since: str | None = None
    ) -> MadeCall | None:
        """The latest call of a tool, of git with that command; none before the last `since`."""
        for call in reversed(self._calls):
            if call.name == since:
                return None
            arguments = call.arguments.get("args")
            if call.name == name and (command is None or (arguments or [""])[0] == command):
                return call
        return None

    def _result(self, name: str, command: str, *, ok: bool) -> bool:
        """Whether the latest call has a result, and it is of that kind."""
        call = self._last(name, command)
        return call is not None and call.result is not None and _failed(call.result) is not ok

    def _is_no_repository(self) -> bool:
        status = self._last("git", "status")
        return status is not None and "not a git repository" in (status.result or "")

    def _refused_edit(self) -> str | None:
        edit = self._last("edit_file")
        done = edit is None or edit.result is None or edit.result.startswith("edited ")
        return None if done or edit is None else edit.result


def _failed(result: str) -> bool:
    return result.startswith("exit code ")


def _read(output: str) -> Failed | None:
    """The failure to begin with: one that names two values, else the first."""
    parts = output.split("\n" + "=" * 70 + "\n")
    found = [failed for part in parts if (failed := _failure(part)) is not None]
    return next((failed for failed in found if failed.wish), found[0] if found else None)


def _failure(output: str) -> Failed | None:
    """What the output for one test tells."""
    error = _ERROR.search(output)
    if error is None:
        return None
    frames = [
        f for f in _FRAME.finditer(output, 0, error.start()) if "/lib/python" not in f["file"]
    ]
    if not frames:
        return None
    frame = frames[-1]
    file, code = _in_workspace(frame["file"]), (frame["code"] or "").strip()
    tested = _CALLED.search(code.partition("(")[2]) if frame["name"].startswith("test") else None
    return Failed(error[1], file, int(frame["line"]), code, tested[1] if tested else None)


def _in_workspace(path: str) -> str:
    """The path within the workspace, which the sandbox shows as /ws."""
    return path.removeprefix("/ws/") if path.startswith("/ws/") else path.rpartition("/")[2]


def _possible(text: str, failed: Failed) -> Iterator[Edit]:
    """Each operator of the suspected lines that may be exchanged."""
    lines = text.splitlines(keepends=True)
    for number in _suspected(lines, failed):
        line = lines[number - 1]
        for wrong, right, _ in EXCHANGES:
            if wrong not in line.partition("#")[0]:
                continue
            start = number
            while start > 1 and text.count("".join(lines[start - 1 : number])) > 1:
                start -= 1  # an edit must fit in one place alone
            above = "".join(lines[start - 1 : number - 1])
            changed = line.replace(wrong, right, 1)
            yield Edit(number, above + line, above + changed, (wrong, right))


def _suspected(lines: list[str], failed: Failed) -> list[int]:
    """The numbers of the lines that may hold the fault: the tested function, and then those of the
    file that it calls."""
    if failed.tested is None:
        return [failed.line] if failed.line <= len(lines) else []
    found: list[int] = []
    names = [failed.tested]
    for name in names:  # which grows meanwhile
        body = _body(lines, name)
        found += body
        called = _CALLED.findall("".join(lines[number - 1] for number in body))
        names += [each for each in dict.fromkeys(called) if each not in names]
    return found


def _body(lines: list[str], name: str) -> list[int]:
    """The numbers of a function's lines; none where it is not in the file."""
    head, found = re.compile(rf"(\s*)def {re.escape(name)}\("), []
    start = next((at for at, line in enumerate(lines) if head.match(line)), None)
    if start is None:
        return []
    indented = len(lines[start]) - len(lines[start].lstrip())
    for number, line in enumerate(lines[start + 1 :], start=start + 2):
        if line.strip() and len(line) - len(line.lstrip()) <= indented:
            break
        if not line.lstrip().startswith(('"', "'", "#")):
            found.append(number)
    return found


def _rank(exchange: tuple[str, str], wish: int) -> int:
    """Exchanges that move the value the right way come first."""
    way = next(grows for wrong, right, grows in EXCHANGES if (wrong, right) == exchange)
    return 0 if wish and way == wish else 1 if not way or not wish else 2


def _ran(output: str) -> str:
    match = _RAN.search(output)
    count = int(match[1]) if match else 0
    return f"{count} test{'' if count == 1 else 's'} run"


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")[:200]


def _last_line(text: str) -> str:
    return _first_line("\n".join(reversed(text.splitlines())))
