"""Imports only go down, in no circle; time is asked for in one place only."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "asyncsvc"

GROUND = {"asyncsvc", "errors", "clock", "histogram", "memory", "record", "config", "net"}
MAY_USE = {
    "errors": set[str](),
    "clock": set[str](),
    "histogram": set[str](),
    "memory": set[str](),
    "net": {"net", "errors"},
    "config": {"config", "net", "errors"},
    "tasks": {"tasks", *GROUND},
    "storage": {"storage", "tasks", *GROUND},
    "journal": {"journal", "storage", "tasks", *GROUND},
    "limits": {"limits", *GROUND},
    "providers": {"providers", "limits", "tasks", *GROUND},
    "routing": {"routing", *GROUND},
    "scheduling": {"scheduling", "routing", "providers", "limits", "journal", "storage", "tasks"},
    "execution": {"execution", "scheduling"},
    "webhooks": {"webhooks", "journal", "limits"},
    "intake": {"intake", "execution", "scheduling", "webhooks"},
    "cron": {"cron", "intake"},
    "batches": {"batches", "intake"},
    "monitoring": {"monitoring", "intake"},
    "lifecycle": {"lifecycle", "intake", "execution"},
    "web": {"web", "lifecycle", "monitoring", "batches", "webhooks", "cron", "intake"},
    "simulator": {"simulator"},
    "app": {"web"},
    "server": {"app"},
    "cli": {"cli", "server", "simulator"},
}
for _package, _below in MAY_USE.items():
    # Above the limits a package may use what the packages below it may use.
    if _package not in GROUND and _package != "simulator":
        for _lower in list(_below):
            if _lower in MAY_USE and _lower != _package:
                _below |= MAY_USE[_lower]
        _below |= GROUND
"""The floors, from the ground up; a floor may use itself and what stands here."""

FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


MODULES = {module_of(path): path for path in FILES}


def imports_of(path: Path) -> set[str]:
    """Our own modules that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(names & MODULES.keys() or {node.module})
    return {name for name in found if name.split(".")[0] == "asyncsvc"}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_only_go_down(path: Path) -> None:
    floor = floor_of(module_of(path))
    if floor == "asyncsvc":
        return
    up = {name for name in imports_of(path) if floor_of(name) not in MAY_USE[floor]}
    assert not up, f"{module_of(path)} must not know {sorted(up)}"


def test_there_is_no_circle() -> None:
    arrows = {module: imports_of(path) & MODULES.keys() for module, path in MODULES.items()}
    finished: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " → ".join([*above[above.index(module) :], module])
        if module not in finished:
            for other in sorted(arrows[module] - {module}):
                visit(other, (*above, module))
            finished.add(module)

    for module in arrows:
        visit(module, ())


CLOCKS = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow")}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nobody_but_the_clock_asks_for_the_time(path: Path) -> None:
    # The simulator is a program of its own and knows nothing of our clock.
    if module_of(path) == "asyncsvc.clock" or floor_of(module_of(path)) == "simulator":
        return
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id, node.func.attr) in CLOCKS
    ]
    assert not calls, f"{module_of(path)} asks for the time in line {calls[0].lineno}"


BANNED = {"utils", "util", "common", "helpers", "base", "core", "manager", "service", "handler"}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_sizes_names_and_docstrings(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert path.stem not in BANNED
    said = ast.get_docstring(tree)
    assert said, "a module says what it owns"
    assert text.count("\n") <= 500, "a module has at most 500 lines"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, node.name


WORDS = re.compile(
    r"(?<![a-z_])(whoever|somebody|nobody|clerks?|seats?|tapes?|strand|pardon|breath|aboard|obstacles"
    r"|born|untold|overlay|levers|tally|corked|desk|house)(?![a-z_])",
    re.IGNORECASE,
)
"""Private words that the field has a word for; docs/glossary.md lists the project's own terms."""
WRITTEN = [*FILES, *sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]
STILL_CLEANED = {
    "asyncsvc/app.py",
    "asyncsvc/config/diff.py",
    "asyncsvc/cron/schedule.py",
    "asyncsvc/cron/schedules.py",
    "asyncsvc/errors.py",
    "asyncsvc/execution/call.py",
    "asyncsvc/execution/chunk_writer.py",
    "asyncsvc/execution/execution.py",
    "asyncsvc/execution/outcome.py",
    "asyncsvc/execution/recovery.py",
    "asyncsvc/execution/workers.py",
    "asyncsvc/intake/admission.py",
    "asyncsvc/intake/commands.py",
    "asyncsvc/intake/intake.py",
    "asyncsvc/intake/model_pause.py",
    "asyncsvc/journal/appends.py",
    "asyncsvc/journal/counters.py",
    "asyncsvc/journal/journal.py",
    "asyncsvc/journal/subscriptions.py",
    "asyncsvc/journal/transaction.py",
    "asyncsvc/lifecycle/hangup.py",
    "asyncsvc/limits/breaker.py",
    "asyncsvc/limits/call_statistics.py",
    "asyncsvc/limits/closed.py",
    "asyncsvc/limits/cooldown.py",
    "asyncsvc/limits/learned_limit.py",
    "asyncsvc/limits/permit.py",
    "asyncsvc/limits/semaphore.py",
    "asyncsvc/limits/wait_reasons.py",
    "asyncsvc/monitoring/alarms.py",
    "asyncsvc/monitoring/monitor.py",
    "asyncsvc/monitoring/process_statistics.py",
    "asyncsvc/net/egress.py",
    "asyncsvc/providers/accounts.py",
    "asyncsvc/providers/bounded.py",
    "asyncsvc/providers/dialects.py",
    "asyncsvc/providers/openclaw/capacity.py",
    "asyncsvc/providers/openclaw/chat.py",
    "asyncsvc/providers/openclaw/runs.py",
    "asyncsvc/providers/registry.py",
    "asyncsvc/providers/upstream.py",
    "asyncsvc/record.py",
    "asyncsvc/scheduling/account_slots.py",
    "asyncsvc/scheduling/cache.py",
    "asyncsvc/scheduling/candidates.py",
    "asyncsvc/scheduling/eta.py",
    "asyncsvc/scheduling/fair_queue.py",
    "asyncsvc/scheduling/hold_back.py",
    "asyncsvc/scheduling/pools.py",
    "asyncsvc/scheduling/scheduler.py",
    "asyncsvc/scheduling/single_flight.py",
    "asyncsvc/scheduling/timers.py",
    "asyncsvc/scheduling/wait_clocks.py",
    "asyncsvc/scheduling/waiting.py",
    "asyncsvc/server.py",
    "asyncsvc/storage/atomic_file.py",
    "asyncsvc/storage/backup.py",
    "asyncsvc/storage/export.py",
    "asyncsvc/storage/files.py",
    "asyncsvc/storage/lock.py",
    "asyncsvc/storage/opened_files.py",
    "asyncsvc/storage/purge.py",
    "asyncsvc/storage/statements.py",
    "asyncsvc/tasks/state.py",
    "asyncsvc/web/admin/transfer.py",
    "asyncsvc/web/http/attempts.py",
    "asyncsvc/web/http/body.py",
    "asyncsvc/web/http/connections.py",
    "asyncsvc/web/http/corked.py",
    "asyncsvc/web/http/errors.py",
    "asyncsvc/web/http/sockets.py",
    "asyncsvc/web/openai/batch_lines.py",
    "asyncsvc/web/openai/files.py",
    "asyncsvc/web/openai/held_request.py",
    "asyncsvc/web/openai/response_stream.py",
    "asyncsvc/web/openai/responses.py",
    "asyncsvc/web/openapi/routes.py",
    "asyncsvc/web/tasks/explain.py",
    "asyncsvc/web/tasks/routes.py",
    "asyncsvc/web/tasks/schemas.py",
    "asyncsvc/web/tasks/service_schemas.py",
    "asyncsvc/web/tasks/views.py",
    "asyncsvc/webhooks/deliveries.py",
    "docs/decisions/0001-group-commit.md",
    "docs/decisions/0002-results-beside-tasks.md",
    "docs/decisions/0003-central-dispatch.md",
    "docs/decisions/0010-single-flight.md",
    "docs/decisions/0011-learned-limits.md",
    "docs/decisions/0013-a-lean-admission.md",
    "docs/decisions/0016-reload-in-place.md",
    "docs/decisions/0017-schedules-in-kept.md",
    "docs/decisions/0018-webhook-delivery.md",
    "docs/decisions/0019-alarms-and-metrics.md",
    "docs/decisions/0020-forgetting-in-small-steps.md",
    "docs/decisions/0021-room-for-large-bodies.md",
    "docs/decisions/0023-sent-text-binds.md",
    "docs/decisions/0024-stories-and-an-oracle.md",
    "docs/decisions/0026-turns-by-weight.md",
    "docs/decisions/0027-waits-told-by-the-gate.md",
    "docs/decisions/0028-a-commit-that-meets-the-loop-less.md",
    "docs/decisions/0029-a-last-look-before-the-call.md",
}
"""Files that may still hold banned words. Delete an entry once its file is clean."""


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_private_words(path: Path) -> None:
    found = sorted({word[0].lower() for word in WORDS.finditer(path.read_text(encoding="utf-8"))})
    if path.relative_to(ROOT).as_posix() not in STILL_CLEANED:
        assert not found, f"{path} says {found}"


def test_the_glossary_has_at_most_fifteen_terms() -> None:
    rows = re.findall(
        r"^\| \w", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert 1 < len(rows) - 1 <= 15


PACKAGES = [path for path in FILES if path.name == "__init__.py" and path.parent != PACKAGE]
STUBS = {
    "asyncsvc.execution",
    "asyncsvc.intake",
    "asyncsvc.journal",
    "asyncsvc.lifecycle",
    "asyncsvc.limits",
    "asyncsvc.providers.answers",
    "asyncsvc.providers.openclaw",
    "asyncsvc.scheduling",
    "asyncsvc.storage",
    "asyncsvc.web.admin",
    "asyncsvc.web.http",
    "asyncsvc.web.openapi",
    "asyncsvc.web.tasks",
}
"""Packages whose docstring is still to be written."""


@pytest.mark.parametrize("path", PACKAGES, ids=module_of)
def test_each_package_says_what_it_owns(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert text.count("\n") < 5, "at most five lines"
    assert len(text) > 40 or module_of(path) in STUBS
