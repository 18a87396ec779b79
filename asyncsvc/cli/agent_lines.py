"""An agent's events as lines for people: steps, calls of tools with their output, decisions.

`call_text`, `wait_text` and `how_to_decide` are the words that all commands use for the same thing.
"""

import json
import shlex
from collections.abc import Callable
from typing import Any

from asyncsvc.cli.failures import program
from asyncsvc.cli.terminal import one_line

VALUE_CHARS = 60
CALL_CHARS = 200
RESULT_LINES = 12
"""Lines shown of a result that did not come while the tool ran."""
OUTPUT_CHARS = 8000
"""Longest line of output that is put together from its pieces."""
DECISIONS = {
    "approved": "approved",
    "denied": "denied",
    "rerun": "runs again",
    "skip": "left out",
    "fail": "ends the task",
}


def call_text(name: str, arguments: Any, most: int = CALL_CHARS) -> str:
    """A call of a tool in one line: its name, and the arguments as far as there is room."""
    return _cut(one_line(f"{name} {_arguments(arguments)}".strip()), most)


def _arguments(given: Any) -> str:
    if not isinstance(given, dict):
        return _value(given)
    parts = []
    for key, value in sorted(given.items(), key=lambda each: each[0] != "path"):
        if key in ("argv", "args") and isinstance(value, list):
            parts.append(shlex.join(str(each) for each in value))
        elif key == "path" and isinstance(value, str):
            parts.append(shlex.quote(value))
        else:
            parts.append(f"{key}={_value(value)}")
    return " ".join(parts)


def _value(value: Any) -> str:
    return _cut(json.dumps(value, ensure_ascii=False), VALUE_CHARS)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def wait_text(asked: dict[str, Any]) -> str:
    """What a person is to decide: the data of an `approval` event without a decision."""
    call = call_text(asked["name"], asked.get("arguments"))
    if asked.get("review"):
        return f"waits for your decision: {call} was cut off, and may have had its effect"
    return f"waits for your approval: {call}"


def how_to_decide(asked: dict[str, Any], task_id: str) -> str:
    """The command that decides."""
    if asked.get("review"):
        return f"{program()} resume {task_id} --decision rerun|skip|fail"
    return f"{program()} approve {task_id}, or deny"


class AgentLines:
    """The lines of one agent. `write` is given a line, and whether it is output of a tool."""

    def __init__(self, write: Callable[[str, bool], None]) -> None:
        self._write = write
        self._calls: dict[str, str] = {}
        self._shown: set[str] = set()
        """Calls whose line has been written."""
        self._pieces: dict[str, str] = {}
        """The unfinished line of each call that writes while it runs."""
        self._left_out: set[str] = set()
        """Calls that do not run, by a person's decision."""
        self._latest: str | None = None

    def take(self, kind: str, data: dict[str, Any]) -> None:
        """Write what an event adds; events of other kinds add nothing."""
        match kind:
            case "step":
                self._write(f"[step {data['number']}]", False)
            case "tool_call":
                self._calls[data["id"]] = call_text(data["name"], data.get("arguments"))
            case "tool_started":
                self._shown.discard(data["id"])  # a call that runs again is shown again
                self._show(data["id"])
            case "tool_output":
                self._output(data["id"], data["text"])
            case "tool_result":
                self._result(data)
            case "rollback":
                call = self._calls.get(data["id"], data["id"])
                self._write(f"[{call} was cut off and is undone; it runs again]", False)
            case "approval" if "decision" in data:
                self._decision(data)

    def _show(self, call_id: str) -> None:
        """Write the call's line, unless it is the latest thing on the screen."""
        if call_id not in self._shown or self._latest != call_id:
            self._shown.add(call_id)
            self._write(f"[{self._calls.get(call_id, call_id)}]", False)
        self._latest = call_id

    def _output(self, call_id: str, text: str) -> None:
        if self._latest != call_id:
            self._show(call_id)
        lines = (self._pieces.get(call_id, "") + text).split("\n")
        self._pieces[call_id] = lines.pop()[-OUTPUT_CHARS:]
        for line in lines:
            self._write(line, True)

    def _result(self, data: dict[str, Any]) -> None:
        call_id = data["id"]
        if call_id in self._left_out:
            return  # the decision is shown; the result only repeats it for the model
        if self._latest != call_id:
            self._show(call_id)
        if (left := self._pieces.pop(call_id, None)) is None:
            lines = str(data.get("output") or "").splitlines()
            for line in lines[:RESULT_LINES]:
                self._write(line, True)
            if len(lines) > RESULT_LINES:
                self._write(f"… {len(lines) - RESULT_LINES} more lines", True)
        elif left:
            self._write(left, True)
        self._write(f"[{result_text(data)}]", False)
        self._latest = None

    def _decision(self, data: dict[str, Any]) -> None:
        if data["decision"] in ("denied", "skip"):
            self._left_out.add(data["id"])
        call = self._calls.get(data["id"], data["id"])
        reason = f": {data['reason']}" if data.get("reason") else ""
        self._write(f"[{call}: {DECISIONS.get(data['decision'], data['decision'])}{reason}]", False)


def result_text(data: dict[str, Any]) -> str:
    """How a call of a tool ended, in a few words."""
    code, seconds = data.get("exit_code"), data.get("duration_s")
    ended = "ok" if data.get("ok") else f"exit code {code}" if code else "failed"
    name = f"{data['name']}: " if data.get("name") else ""
    took = f", {seconds:.1f} s" if seconds is not None else ""
    return f"{name}{ended}{took}{', output cut' if data.get('truncated') else ''}"
