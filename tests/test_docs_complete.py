"""What a document names exists, and what exists is documented.

Settings, metrics, error codes, routes, socket operations and commands are tables made from the code
(`docgen.py`), so that none is missing there; here is what is written by hand beside them.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncsvc import errors
from asyncsvc.config.diff import NAMED
from asyncsvc.config.settings import Settings
from asyncsvc.tasks.state import EventType
from asyncsvc.web.admin.metrics import ROWS
from tests.docgen import ROOT, pages
from tests.web.description import operations, strict, template

TEXTS = {
    page: page.read_text(encoding="utf-8") for page in pages() if page.parent.name != "decisions"
}
"""Decisions tell of what was, so their names need not exist today."""
everywhere = pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)


def test_the_table_of_events_has_each_type_and_no_other() -> None:
    text = TEXTS[ROOT / "docs/protocol.md"]
    table = text.partition("| type | data |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `(\w+)`", table, re.MULTILINE)
    assert sorted(named) == sorted([*EventType, "progress"])


@everywhere
def test_each_call_that_a_page_names_is_served(page: Path) -> None:
    paths = strict()["paths"]
    served = {(method, path) for path, method, _ in operations(strict())}
    unknown = []
    for method, path in re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^\s`?…]*)[?`]", TEXTS[page]):
        found = template(re.sub(r"\{\w+\}", "x", path), paths)
        theirs = page.name == "openclaw.md" and path.startswith("/sessions/")  # of the gateway
        if (method, found) not in served and not path.startswith("/ws") and not theirs:
            unknown.append(f"{method} {path}")
    assert not unknown


@everywhere
def test_each_setting_that_a_page_names_exists(page: Path) -> None:
    unknown = []
    for section, key in re.findall(r"`([a-z]+)\.([a-z_]+)(?: = [^`]*)?`", TEXTS[page]):
        field = Settings.model_fields.get(section)
        if field is not None and section not in NAMED and key != "mcp":
            kind: Any = field.annotation
            if key not in kind.model_fields:
                unknown.append(f"{section}.{key}")
    for section, name, key in re.findall(
        r"\bASYNCSVC_([A-Z]+)__(\w+?)(?:__([A-Z_]+))?=", TEXTS[page]
    ):
        kind = Settings.model_fields[section.lower()].annotation
        if section.lower() in NAMED:
            kind, name = NAMED[section.lower()][1], key
        if name.lower() not in kind.model_fields:
            unknown.append(f"{section}__{name}")
    assert not unknown


@everywhere
def test_each_metric_that_a_page_names_exists(page: Path) -> None:
    known = {row.shown for row in ROWS}
    known |= {f"{row.shown}{end}" for row in ROWS for end in ("_bucket", "_count", "_sum")}
    named = re.findall(r"`(asyncsvc_[a-z_]+)\b", TEXTS[page])
    assert not [name for name in named if name not in known]


def test_each_code_of_a_failed_task_that_the_page_of_openai_names_exists() -> None:
    known = {kind.code for kind in _all(errors.AsyncsvcError) if hasattr(kind, "code")}
    table = TEXTS[ROOT / "docs/openai.md"].partition("| task's `error.code` |")[2]
    firsts = re.findall(r"^\| (?:\(refused\) )?(`.*?) \|", table.partition("\n\n")[0], re.MULTILINE)
    named = {name for row in firsts for name in re.findall(r"`(\w+)`", row)}
    assert len(named) > 15
    assert not named - known - {"idempotency_conflict", "expired", "max_steps", "internal"}


def _all(kind: type[Any]) -> Iterator[type[Any]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _all(sub)


def test_each_alarm_has_a_heading_that_says_what_to_do() -> None:
    source = (ROOT / "asyncsvc/monitoring/monitor.py").read_text(encoding="utf-8")
    alarms = {
        node.args[0].value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Figure"
        and isinstance(node.args[0], ast.Constant)
    }
    part = TEXTS[ROOT / "docs/operations.md"].partition("\n## Alarms\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^### (\w+)$", part, re.MULTILINE)) == alarms
    table = TEXTS[ROOT / "docs/metrics.md"].partition("| alarm | figure |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == alarms


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@everywhere
def test_each_link_to_a_heading_finds_it(page: Path) -> None:
    lost = []
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", TEXTS[page]):
        there = (page.parent / target).resolve() if target else page
        if there.suffix == ".md" and anchor not in anchors(there.read_text(encoding="utf-8")):
            lost.append(f"{target}#{anchor}")
    assert not lost


def test_each_runbook_of_an_alert_is_a_heading() -> None:
    text = (ROOT / "docs/alerts.yml").read_text(encoding="utf-8")
    runbooks = re.findall(r"runbook: (\S+)#(\S+)", text)
    assert runbooks
    lost = [
        f"{page}#{anchor}"
        for page, anchor in runbooks
        if anchor not in anchors((ROOT / page).read_text(encoding="utf-8"))
    ]
    assert not lost
