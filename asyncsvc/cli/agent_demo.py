"""`demo --agent`: an agent mends a failing test in a small git repository.

The service, its tools and its sandbox are the real ones; the model is simulated and decides each
step by what the tools give. The exit code is 0 only where a test has failed before and all pass
after. Neither settings nor environment are read.
"""

import asyncio
import difflib
import sys
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Group, RenderableType
from rich.text import Text

from asyncsvc.cli import tables
from asyncsvc.cli.client import Address
from asyncsvc.cli.demo_service import LONGEST_S, answered, served
from asyncsvc.cli.following import follow
from asyncsvc.cli.options import FAILED, MISUSED, Failure, program
from asyncsvc.cli.terminal import say
from asyncsvc.cli.transcript import Transcript
from asyncsvc.config.settings import Settings
from asyncsvc.simulator import Profile

PROMPT = "Mend the failing test of this repository: find the fault, run the tests again, commit."
MENDED = "cart.py"
FILES = {
    "README.md": "# Cart\n\nWhat a cart of goods costs. `python3 -m unittest` runs the tests.\n",
    MENDED: '''"""A cart of goods."""


def total(goods):
    """The price of all goods, each given as (count, price)."""
    result = 0
    for count, price in goods:
        result -= count * price
    return result


def is_free(goods, limit):
    """Whether the goods are sent at no cost."""
    return total(goods) >= limit
''',
    "test_cart.py": """import unittest

from cart import is_free, total


class TotalTest(unittest.TestCase):
    def test_an_empty_cart_costs_nothing(self):
        self.assertEqual(total([]), 0)

    def test_prices_are_added_up(self):
        self.assertEqual(total([(2, 10), (1, 5)]), 25)

    def test_a_large_cart_is_sent_at_no_cost(self):
        self.assertTrue(is_free([(3, 10)], 30))
""",
}
SHELL = "exec_command"
STYLES = {"+": "green", "-": "red", "@": "cyan"}


def profile() -> Profile:
    """The simulated provider of the agent's model."""
    pace = {"first_token_s": 0.1, "tokens_per_s": 150, "jitter": 0.3}
    return Profile.parse({"default": pace})


def settings(base_url: str, port: int, folder: Path) -> Settings:
    """The service's settings: one model, at the simulated provider."""
    return Settings.model_validate(
        {
            "server": {"port": port, "grace_s": 0},
            "storage": {"path": str(folder / "demo.db")},
            "tools": {"workspace": str(folder / "workspaces")},
            "models": {"simulated": {"model": "agent-1", "base_url": base_url}},
        }
    )


async def play(port: int, keep: bool, folder: Path) -> int:
    """Serve, and let the agent work. Raises Failure."""

    def made(base_url: str) -> Settings:
        return settings(base_url, port, folder)

    async def perform(url: str) -> int:
        code = await _perform(Address(url))
        if keep:
            say(f"listening on {url} until Ctrl-C; next, in another terminal:")
            say(f"{program()} chat --agent --url {url}")
        return code

    return await served(profile(), made, perform, keep)


@dataclass
class Tests:
    """How the runs of the tests have ended, by the results of the tool."""

    results: list[dict[str, Any]] = field(default_factory=list)

    def take(self, event: dict[str, Any]) -> None:
        if event["type"] == "tool_result" and event["data"].get("name") == SHELL:
            self.results.append(event["data"])

    @property
    def mended(self) -> bool:
        """Whether they have failed at first, and passed at last."""
        return len(self.results) > 1 and not self.results[0]["ok"] and self.results[-1]["ok"]


async def _perform(address: Address) -> int:
    """Submit the task, show what the agent does, and how the workspace has changed."""
    try:
        async with (
            asyncio.timeout(LONGEST_S),
            httpx.AsyncClient(base_url=address.url, trust_env=False, timeout=LONGEST_S) as http,
        ):
            await check_sandbox(http)
            say(f"an agent at {address.url} is asked: {PROMPT}")
            body = {"type": "agent", "content": PROMPT, "files": FILES}
            task_id = answered(await http.post("/tasks", json=body), address)["task_id"]
            tests, transcript = await _followed(address, task_id)
            task = answered(await http.get(f"/tasks/{task_id}"), address)
            after = await http.get(f"/tasks/{task_id}/files/{MENDED}")
    except TimeoutError:
        raise Failure(f"the demo was not over after {LONGEST_S:g} s") from None
    except httpx.HTTPError as error:
        raise Failure(f"the demo's service does not answer: {error!r}") from None
    tables.console().print(_conclusion(task, tests, after.text if after.is_success else None))
    return 0 if transcript.exit_code == 0 and tests.mended else FAILED


async def check_sandbox(http: httpx.AsyncClient) -> None:
    """Raises Failure where programs cannot be run, as the agent must."""
    answer = await http.post(f"/tools/{SHELL}", json={"argv": ["python3", "--version"]})
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        why = answer.json()["error"]["message"]
        raise Failure(
            f"the agent must run the tests in a sandbox, and here is none: {why}", MISUSED
        )


async def _followed(address: Address, task_id: str) -> tuple[Tests, Transcript]:
    tests, transcript = Tests(), Transcript(sys.stdout, sys.stdout)
    transcript.view.task_id = task_id
    async with aclosing(follow(address, task_id)) as events:
        async for event in events:
            tests.take(event)
            transcript.take(event)
    return tests, transcript


def _conclusion(task: dict[str, Any], tests: Tests, after: str | None) -> RenderableType:
    meta, usage = task["metadata"], task["metadata"]["usage"] or {}
    figures = f"{meta.get('steps')} steps, {meta.get('tool_calls')} calls of tools, "
    figures += f"{usage.get('total_tokens')} tokens"
    if len(tests.results) > 1:
        ends = ["passed" if found["ok"] else "failed" for found in tests.results]
        figures += f"; the tests: {', '.join(ends)}"
    return Group(Text(), *_diff(after), Text(figures, "green" if tests.mended else "red"))


def _diff(after: str | None) -> Iterator[Text]:
    """How the mended file has changed, by what is in the workspace now; nothing where it is not
    known."""
    before = FILES[MENDED].splitlines()
    after = FILES[MENDED] if after is None else after
    for line in difflib.unified_diff(before, after.splitlines(), MENDED, MENDED, lineterm=""):
        yield Text(line, STYLES.get(line[0], ""))
