"""The agent that mends a failing test: each of its steps follows from what the tools really do."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from asyncsvc.config.settings import Tools
from asyncsvc.simulator.conversation import MadeCall, Offer, Turn
from asyncsvc.simulator.mending import TESTS, mending_step
from asyncsvc.simulator.steps import Step
from asyncsvc.tools.execute import Runner, exec_tools
from asyncsvc.tools.files import FILE_TOOLS
from asyncsvc.tools.registry import Toolbox, Workspaces
from asyncsvc.tools.tool import Surroundings
from asyncsvc.tools.workspace import Workspace

NAMES = frozenset({"exec_command", "search_files", "read_file", "edit_file"})
MOST_STEPS = 25
TEST = """
import unittest
from cart import total

class CartTest(unittest.TestCase):
    def test_total(self):
        self.assertEqual(total([2, 3]), {expected})
"""


@dataclass
class Played:
    """An agent that has ended: its turns, and the text that it ended with."""

    turns: list[Turn] = field(default_factory=list)
    text: str = ""

    @property
    def calls(self) -> list[MadeCall]:
        return [call for turn in self.turns for call in turn.calls]

    def named(self, name: str) -> list[MadeCall]:
        return [call for call in self.calls if call.name == name]


async def played(folder: Path, files: dict[str, str], offer: Offer | None = None) -> Played:
    """Play the agent with the service's own tools in a folder, without a sandbox."""
    for path, text in files.items():
        (folder / path).write_text(text)
    runner = Runner(Tools(unsafe_no_sandbox=True))
    every = [*(kind() for kind in FILE_TOOLS), *exec_tools(runner, ["python3"])]
    toolbox = Toolbox(every, Workspaces(folder), runner)
    found = Played()
    try:
        for _ in range(MOST_STEPS):
            step = mending_step(found.turns, offer or Offer(NAMES))
            assert step is not None
            found.turns.append(await turn(step, toolbox, folder))
            if not step.calls:
                found.text = step.text
                assert mending_step(found.turns, Offer(NAMES)) is None
                return found
    finally:
        await toolbox.close()
    raise AssertionError("it does not come to an end")


async def turn(step: Step, toolbox: Toolbox, folder: Path) -> Turn:
    """Make the calls of a step."""
    workspace = Workspace(folder)
    around = Surroundings(workspace, None, 65536, lambda _: None)
    calls = []
    for planned in step.calls:
        call = MadeCall(planned.id, planned.name, json.loads(planned.arguments))
        tool = await toolbox.find(call.name)
        result = await toolbox.run(tool, toolbox.given(tool, call.arguments), around)
        head = f"exit code {result.exit_code}\n" if result.exit_code else ""
        call.result = head + result.output
        calls.append(call)
    await asyncio.to_thread(workspace.close)
    return Turn(step.text, calls)


CART = """def total(prices):
    result = 0
    for price in prices:
        result {} price
    return result
"""


async def test_it_reads_the_failure_finds_the_function_and_mends_it(tmp_path: Path) -> None:
    files = {"cart.py": CART.format("-="), "test_cart.py": TEST.format(expected=5)}
    ended = await played(tmp_path, files)
    assert (tmp_path / "cart.py").read_text() == CART.format("+=")
    names = [call.name for call in ended.calls]
    assert names == ["exec_command", "search_files", "read_file", "edit_file", "exec_command"]
    assert "AssertionError: -5 != 5" in (ended.calls[0].result or "")
    assert ended.text.startswith("1 test run: all pass now.")
    assert "cart.py, line 4" in ended.text
    assert "-5 != 5" in ended.text


async def test_other_names_and_another_fault(tmp_path: Path) -> None:
    """Nothing of the way is fixed: another function, in another file, with another operator."""
    source = "LIMIT = 3\n\n\ndef may_enter(age):\n    return age > LIMIT\n"
    test = "import unittest\nfrom door import may_enter\nclass T(unittest.TestCase):\n"
    test += "    def test_it(self):\n        self.assertTrue(may_enter(3))\n"
    ended = await played(tmp_path, {"door.py": source, "test_door.py": test})
    assert "return age >= LIMIT" in (tmp_path / "door.py").read_text()
    assert "door.py, line 5" in ended.text


async def test_a_try_that_does_not_help_is_undone(tmp_path: Path) -> None:
    source = "def total(prices):\n    start = 3 - 3\n    return start + sum(prices) - 5\n"
    files = {"cart.py": source, "test_cart.py": TEST.format(expected=10)}
    ended = await played(tmp_path, files)
    assert (tmp_path / "cart.py").read_text() == source.replace("- 5", "+ 5")
    assert len(ended.named("edit_file")) == 3
    assert "cart.py, line 3" in ended.text


async def test_an_error_in_the_code_itself_names_its_line(tmp_path: Path) -> None:
    source = "def total(prices):\n    return prices[len(prices) / 2] + 2\n"
    files = {"cart.py": source, "test_cart.py": TEST.format(expected=5)}
    ended = await played(tmp_path, files)
    assert ended.named("search_files") == []
    assert (tmp_path / "cart.py").read_text() == source.replace("/", "//")
    assert "TypeError: list indices must be integers" in ended.text


async def test_of_several_failures_it_takes_one_that_names_values(tmp_path: Path) -> None:
    """The first in the output need not be the one that says most."""
    test = (
        TEST.format(expected=5)
        + "    def test_any(self):\n        self.assertTrue(total([1]) > 0)\n"
    )
    ended = await played(tmp_path, {"cart.py": CART.format("-="), "test_cart.py": test})
    assert len(ended.named("edit_file")) == 1
    assert "(AssertionError: -5 != 5)" in ended.text


async def test_the_fault_may_be_in_a_function_that_the_tested_one_calls(tmp_path: Path) -> None:
    source = (
        CART.format("-=").replace("total", "added") + "\n\ndef total(p):\n    return added(p)\n"
    )
    files = {"cart.py": source, "test_cart.py": TEST.format(expected=5)}
    await played(tmp_path, files)
    assert "result += price" in (tmp_path / "cart.py").read_text()


async def test_what_cannot_be_mended_is_left_as_it_was(tmp_path: Path) -> None:
    files = {"cart.py": CART.format("+="), "test_cart.py": TEST.format(expected=99)}
    ended = await played(tmp_path, files)
    assert (tmp_path / "cart.py").read_text() == CART.format("+=")
    assert ended.text == "I tried 1 change in cart.py, none helps, and all is as it was before."


async def test_there_is_nothing_to_mend_or_to_run(tmp_path: Path) -> None:
    files = {"cart.py": CART.format("+="), "test_cart.py": TEST.format(expected=5)}
    assert (await played(tmp_path, files)).text.endswith("There is nothing to mend.")
    for file in files:
        (tmp_path / file).unlink()
    assert (await played(tmp_path, {})).text.startswith("No test has run")


async def test_a_function_that_stands_nowhere_is_written(tmp_path: Path) -> None:
    test = "import unittest\nclass T(unittest.TestCase):\n"
    test += "    def test_it(self):\n        self.assertEqual(len([1]), 2)\n"
    ended = await played(tmp_path, {"test_it.py": test})
    assert ended.text == "AssertionError: 1 != 2, but `def len(` stands in no file here."


@pytest.mark.parametrize("lacking", sorted(NAMES))
async def test_a_tool_that_it_lacks_is_written(tmp_path: Path, lacking: str) -> None:
    ended = await played(tmp_path, {}, Offer(NAMES - {lacking}))
    assert ended.text == f"I cannot mend a test without {lacking}."


def test_a_call_that_was_denied_ends_it() -> None:
    turns = [
        Turn("", [MadeCall("1", "exec_command", {"argv": TESTS}, FAILED_OUTPUT)]),
        Turn("", [MadeCall("2", "search_files", {}, "cart.py:1: def total(prices):")]),
        Turn("", [MadeCall("3", "read_file", {"path": "cart.py"}, CART.format("-="))]),
        Turn("", [MadeCall("4", "edit_file", {}, "exit code 1\nThe person has denied it")]),
    ]
    step = mending_step(turns, Offer(NAMES))
    assert step is not None
    assert not step.calls
    assert "The person has denied it" in step.text


FAILED_OUTPUT = """exit code 1
F
======================================================================
FAIL: test_total (test_cart.CartTest.test_total)
----------------------------------------------------------------------
Traceback (most recent call last):
  File "/ws/test_cart.py", line 7, in test_total
    self.assertEqual(total([2, 3]), 5)
AssertionError: -5 != 5

----------------------------------------------------------------------
Ran 1 test in 0.001s

FAILED (failures=1)
"""
