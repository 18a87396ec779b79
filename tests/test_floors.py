"""Imports only go down, in no circle; time is asked for in one place only."""

import ast
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
