"""The documentation says what the code does."""

import re
from pathlib import Path
from typing import Any

import pytest

from asyncsvc.tasks.state import Cause, EventType, State
from tests.docgen import MAKERS, ROOT, made, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_what_is_made_from_the_code_is_up_to_date(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert made(text) == text, "run python -m tests.docgen"


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


def test_the_first_test_of_the_readme_passes(tmp_path: Path) -> None:
    readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    exec(readme.split("```python\n")[1].split("```")[0], found)
    found["test_an_answer_is_stored"](tmp_path)
