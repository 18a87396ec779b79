"""The documentation says what the code does."""

import asyncio
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.cli.parser import COMMANDS
from asyncsvc.tasks.state import Cause, EventType, State
from tests.docgen import COMMANDS_FILE, MAKERS, ROOT, commands, made, pages

PAGES = [*pages(), *(ROOT / ".github").rglob("*.md"), *(ROOT / "tests").rglob("README.md")]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_what_is_made_from_the_code_is_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert made(text) == text, "run python -m tests.docgen"


def test_the_table_behind_the_help_is_that_of_the_commands() -> None:
    assert COMMANDS_FILE.read_text(encoding="utf-8") == commands(), "run python -m tests.docgen"


def test_each_made_part_stands_somewhere() -> None:
    texts = "".join(page.read_text(encoding="utf-8") for page in pages())
    assert all(f"<!-- made from the code: {name} -->" in texts for name in MAKERS)


def test_the_lifecycle_page_explains_each_state_and_cause() -> None:
    text = (ROOT / "docs/task-lifecycle.md").read_text(encoding="utf-8")
    missing = [name for name in [*State, *Cause] if f"`{name}`" not in text]
    assert not missing


def test_the_protocol_page_names_each_event_type() -> None:
    text = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    assert not [kind for kind in [*EventType, "progress"] if f"`{kind}`" not in text]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert not [link for link in links if not (page.parent / link).exists()]


def test_each_file_that_a_page_names_exists() -> None:
    named = re.compile(r"`([\w.-]*(?:/[\w.-]+)+\.(?:py|toml|jsonl|sql)|[a-z_]+\.py)`")
    missing = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if "**Status.** Superseded" not in text:
            missing += [f"{page.name}: {name}" for name in named.findall(text) if not _stands(name)]
    assert not missing


def _stands(name: str) -> bool:
    """Whether a file's path ends so, in the project or its packages."""
    folders = (ROOT, ROOT / "asyncsvc", ROOT / "tests")
    return any((folder / name).is_file() for folder in folders) or any(
        True for folder in folders[1:] for _ in folder.rglob(name)
    )


def test_each_command_that_a_page_names_exists() -> None:
    known = {name for names in COMMANDS.values() for name in names}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"main\.py ([a-z][a-z-]*)", text)
        assert not [name for name in named if name not in known], page
        modules = re.findall(r"python -m (tests(?:\.\w+)*)", text)
        assert not [name for name in modules if find_spec(name) is None], page
        benchmarks = re.findall(r"python -m tests bench ([a-z_]+)", text)
        assert not [name for name in benchmarks if not find_spec(f"tests.benchmarks.{name}")], page


def test_the_first_test_of_the_readme_passes(tmp_path: Path) -> None:
    _examples(ROOT / "tests/README.md")["test_an_answer_is_stored"](tmp_path)


async def test_the_first_tests_for_contributors_pass(tmp_path: Path) -> None:
    found = _examples(ROOT / ".github/CONTRIBUTING.md")
    await asyncio.to_thread(found["test_an_hour_passes_at_once"])
    await found["test_a_task_is_answered"](tmp_path)


def _examples(page: Path) -> dict[str, Any]:
    """What the examples in Python of a page define."""
    found: dict[str, Any] = {}
    for part in page.read_text(encoding="utf-8").split("```python\n")[1:]:
        exec(part.split("```")[0], found)
    return found
