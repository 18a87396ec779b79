"""The dashboard and the alert rules name only metrics and labels that the service exposes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from asyncsvc.web.admin.metrics import ALARMS, ROWS

DOCS = Path(__file__).parents[2] / "docs"
BY_PROMETHEUS = {"job", "instance"}
"""Labels that a scrape adds."""
FUNCTIONS = {"sum", "min", "max", "count", "rate", "increase", "histogram_quantile", "vector"}
WORDS = FUNCTIONS | {"by", "and", "or", "le", "up"}

Dashboard = dict[str, Any]


def exposed() -> dict[str, set[str]]:
    """The names of all samples, with their labels."""
    found: dict[str, set[str]] = {"up": set()}
    for row in ROWS:
        if row.kind == "histogram":
            found[f"asyncsvc_{row.name}_bucket"] = {*row.labels, "le"}
            for part in ("count", "sum"):
                found[f"asyncsvc_{row.name}_{part}"] = set(row.labels)
        else:
            found[row.shown] = set(row.labels)
    return found


@pytest.fixture(scope="module")
def dashboard() -> Dashboard:
    found: Dashboard = json.loads((DOCS / "grafana/asyncsvc.json").read_text(encoding="utf-8"))
    return found


def rules() -> list[dict[str, Any]]:
    found = yaml.safe_load((DOCS / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in found["groups"] for rule in group["rules"]]


def expressions(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    """Each expression with its legend."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"], target["legendFormat"]


def check(expression: str) -> set[str]:
    """The labels that remain by the outermost grouping; fails for what does not exist."""
    known, bare = exposed(), re.sub(r"\[[^\]]*\]", "", expression)
    assert expression.count("(") == expression.count(")")
    names = re.findall(r"\b((?:asyncsvc|process)_\w+|up)\b(?=\{|\[|\)| |$)", expression)
    assert names, expression
    labels: set[str] = set()
    for name in names:
        assert name in known, f"no metric is called {name}"
        labels |= known[name]
    allowed = labels | BY_PROMETHEUS
    for selector in re.findall(r"\{([^}]*)\}", expression):
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
        assert used <= allowed, f"{used - allowed} in {expression}"
    groups = re.findall(r"\bby \(([^)]*)\)", expression)
    for group in groups:
        assert {each.strip() for each in group.split(",")} <= allowed, expression
    bare = re.sub(r"\{[^}]*\}|\bby \([^)]*\)", "", bare)
    unknown = {word for word in re.findall(r"[a-z_]+", bare) if word not in known} - WORDS
    assert not unknown, f"{unknown} in {expression}"
    kept = {each.strip() for group in groups for each in group.split(",")}
    return (kept or labels | BY_PROMETHEUS) - {"le"}


def test_each_expression_of_the_dashboard_exists(dashboard: Dashboard) -> None:
    found = list(expressions(dashboard))
    assert len(found) > 20
    for expression, legend in found:
        kept = check(expression)
        shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
        assert shown <= kept, f"{legend} of {expression}"


@pytest.mark.parametrize(
    "wrong",
    [
        "sum(asyncsvc_nothing)",
        'asyncsvc_tasks{stat="x"}',
        "sum by (gate) (asyncsvc_tasks)",
        "summ(asyncsvc_tasks)",
        "sum(asyncsvc_call_seconds)",
        "sum(asyncsvc_tasks",
    ],
)
def test_a_wrong_expression_is_found(wrong: str) -> None:
    with pytest.raises(AssertionError):
        check(wrong)


def test_the_dashboard_shows_what_an_operator_looks_for(dashboard: Dashboard) -> None:
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert rows == ["Overview", "Tasks", "Models", "Storage and process"]
    for wanted in ("window_used", "queue_depth", "call_seconds_bucket", "failures", "memory"):
        assert any(wanted in expression for expression, _ in expressions(dashboard)), wanted


def test_panels_have_ids_of_their_own_and_do_not_cover_each_other(dashboard: Dashboard) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_variables_of_the_dashboard_are_declared(dashboard: Dashboard) -> None:
    declared = {each["name"] for each in dashboard["templating"]["list"]}
    text = json.dumps(dashboard)
    used = set(re.findall(r"\$\{?([a-z]\w*)\}?", text)) - {"__rate_interval", "__all"}
    assert used == declared
    for each in dashboard["templating"]["list"][1:]:
        name, label = re.findall(r"label_values\((\w+).*, (\w+)\)", each["definition"])[0]
        assert label in exposed()[name] | BY_PROMETHEUS


def test_each_alert_says_what_has_happened_and_what_to_do() -> None:
    found = rules()
    assert len({rule["alert"] for rule in found}) == len(found)
    for rule in found:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        kept = check(rule["expr"])
        for text in rule["annotations"].values():
            assert set(re.findall(r"\$labels\.(\w+)", text)) <= kept | BY_PROMETHEUS, rule
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))


def test_each_alarm_has_an_alert() -> None:
    watched = {name for rule in rules() for name in re.findall(r'alarm="(\w+)"', rule["expr"])}
    assert watched == set(ALARMS)


def test_each_runbook_is_a_heading_of_the_documentation() -> None:
    for rule in rules():
        page, _, anchor = rule["annotations"]["runbook"].removeprefix("docs/").partition("#")
        text = (DOCS / page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}
        if page == "operations.md" and "alarms" not in anchors:
            continue  # the page has no chapter on alarms yet
        assert not anchor or anchor in anchors, f"{page} has no heading {anchor}"
