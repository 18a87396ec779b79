"""Imports only go down, in no circle; time is asked for in one place only."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "asyncsvc"

GROUND = {
    "asyncsvc",
    "errors",
    "clock",
    "histogram",
    "large_work",
    "loop_turns",
    "memory",
    "config",
    "net",
    "access",
}
MAY_USE = {
    "errors": set[str](),
    "clock": set[str](),
    "histogram": set[str](),
    "large_work": {"memory"},
    "loop_turns": set[str](),
    "memory": set[str](),
    "net": {"net", "errors"},
    "config": {"config", "net", "errors"},
    "logs": {"logs", "config", "clock"},
    "sandbox": {"sandbox", "config", "errors"},
    "access": {"config", "net", "errors"},
    "tasks": {"tasks", *GROUND},
    "storage": {"storage", "tasks", *GROUND},
    "journal": {"journal", "storage", "tasks", *GROUND},
    "limits": {"limits", *GROUND},
    "providers": {"providers", "limits", "tasks", *GROUND},
    "routing": {"routing", *GROUND},
    "scheduling": {"scheduling", "routing", "providers", "limits", "journal", "storage", "tasks"},
    "tools": {"tools", "sandbox", "journal"},
    "agents": {"agents", "providers", "journal"},
    "execution": {"execution", "scheduling", "agents", "tools"},
    "webhooks": {"webhooks", "journal", "limits"},
    "intake": {"intake", "execution", "scheduling", "webhooks"},
    "cron": {"cron", "intake"},
    "batches": {"batches", "intake"},
    "monitoring": {"monitoring", "intake"},
    "lifecycle": {"lifecycle", "intake", "execution"},
    "rehearsal": {"rehearsal", "intake"},
    "web": {
        "web",
        "lifecycle",
        "monitoring",
        "batches",
        "webhooks",
        "cron",
        "intake",
        "tools",
    },
    "simulator": {"simulator"},
    "app": {"web"},
    "server": {"app"},
    "selftest": {"selftest", "sandbox", "storage", "limits"},
    "cli": {"cli", "server", "rehearsal", "simulator", "logs", "selftest"},
    "__main__": {"cli"},
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


FACES = {
    "agents": {"conversation", "history", "textual"},
    "batches": {"batches", "files", "lines", "steps"},
    "cli": {""},
    "config": {
        "advice", "diff", "environment", "listening", "load", "secrets", "settings", "telemetry",
    },
    "cron": {"schedules"},
    "execution": {"agent", "execution", "workers"},
    "intake": {
        "admission", "agent_checks", "commands", "decisions", "forks", "importer", "intake",
        "quotas", "staging",
    },
    "journal": {"counters", "journal", "transaction"},
    "lifecycle": {"reload", "restart", "retention"},
    "limits": {
        "account", "adaptive", "backoff", "breaker", "headers", "sliding_window", "verdict",
    },
    "logs": {"output", "safe_text"},
    "monitoring": {
        "alarms", "explain", "figures", "model_log", "monitor", "otel", "spans", "task_log",
        "why_slow",
    },
    "net": {
        "allowed_hosts",
        "bounded_reads",
        "egress",
        "json_bounds",
        "pinned",
        "response_heads",
        "signing",
        "tls",
        "web_addresses",
    },
    "providers": {
        "addresses", "agents", "client", "registry", "tokens", "tools", "trial", "upstream",
    },
    "providers.answers": {
        "answer", "chat_reading", "delta", "embeddings", "finish_reasons", "frames", "lenient_json",
        "pieces", "size", "thinking", "tool_calls",
    },
    "providers.openclaw": {"chat", "runs", "socket"},
    "rehearsal": {"comparison", "scenario", "suggestions"},
    "routing": {"router"},
    "scheduling": {
        "cache", "candidates", "dispatcher", "eta", "scheduler", "steps", "timers",
    },
    "selftest": {"checks", "processes", "selftest"},
    "simulator": {""},
    "storage": {"audit", "backup", "database", "entries", "export", "lock", "own_files",
                "past", "protocol", "refusals", "room"},
    "storage.migrations": {""},
    "sandbox": {""},
    "tasks": {"marks", "parameters", "state", "submission", "trace", "unknown_fields"},
    "tools": {
        "execute", "fetch", "files", "mcp_servers", "memory", "registry", "task_workspaces", "tool",
        "workspace",
    },
    "web": {"routes"},
    "web.admin": {"commands", "figures", "health", "metrics", "settings", "transfer"},
    "web.http": {
        "auth", "body", "body_memory", "connections", "errors", "handshakes", "large_answers",
        "made_once", "proxies", "resources", "security_headers", "socket_protocol", "sockets",
        "state", "static_files", "streaming",
    },
    "web.openai": {"batches", "chat", "embeddings", "files", "models", "responses"},
    "web.openapi": {"routes"},
    "web.page": {"routes"},
    "web.tasks": {
        "event_schemas", "explain", "ledger", "models", "routes", "schedules", "schemas",
        "socket_operations", "sse", "steering", "tools", "views", "websocket", "why_slow",
        "workspaces",
    },
    "webhooks": {"deliveries"},
}  # fmt: skip
"""The modules that other packages import; all others belong to their package. "" is the package
itself."""


def package_of(module: str) -> str:
    """The innermost package that holds a module."""
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def test_packages_are_imported_through_their_faces() -> None:
    used: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        for other in imports_of(path) & MODULES.keys():
            owner = package_of(other).removeprefix("asyncsvc").removeprefix(".")
            if owner and not package_of(module).startswith(f"asyncsvc.{owner}"):
                face = other.removeprefix(f"asyncsvc.{owner}").removeprefix(".")
                used.setdefault(owner, set()).add(face)
    for package, faces in used.items():
        assert faces <= FACES.get(package, set()), f"{package} shows no such modules"
    assert used == FACES, "a module that no other package imports is no face"


@pytest.mark.parametrize("package", FACES)
def test_a_package_names_its_faces(package: str) -> None:
    text = ast.get_docstring(
        ast.parse((PACKAGE / package.replace(".", "/") / "__init__.py").read_text())
    )
    assert text is not None
    missing = {face for face in FACES[package] if face and face not in re.findall(r"\w+", text)}
    assert not missing


CLOCKS = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow")}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_the_clock_alone_asks_for_the_time(path: Path) -> None:
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
    assert ast.get_docstring(tree), "a module says what it owns"
    assert text.count("\n") <= 500, "a module has at most 500 lines"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, node.name


WORDS = re.compile(
    r"(?<![a-z_\"`])(whoever|somebody|nobody|told|said|heard|clerks?|seats?|tapes?|strand(?:ed|s)?"
    r"|pardon(?:ed|s)?|breath|aboard|obstacles?|meets|born|untold|overlay|levers?|tally|corked"
    r"|desk|houses?|aftermath|fate|blame|keepers?|wishes|unbarred|lent|strangers?|closures)(?![a-z_])",
    re.IGNORECASE,
)
"""Private words that the field has a word for; docs/glossary.md lists the project's own terms."""
WRITTEN = [
    *FILES,
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
    ROOT / "README.md",
]
QUOTES = {
    "asyncsvc/execution/workers.py": "the figure `clerks` of /health keeps its name",
    "asyncsvc/web/tasks/schemas.py": "the figure `clerks` of /health keeps its name",
}
"""Files that quote such a word, and why."""


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_private_words(path: Path) -> None:
    found = sorted({word[0].lower() for word in WORDS.finditer(path.read_text(encoding="utf-8"))})
    if path != Path(__file__) and path.relative_to(ROOT).as_posix() not in QUOTES:
        assert not found, f"{path} has {found}"


def test_the_glossary_has_at_most_fifteen_terms() -> None:
    rows = re.findall(
        r"^\| \w", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert 1 < len(rows) - 1 <= 15


PACKAGES = [path for path in FILES if path.name == "__init__.py" and path.parent != PACKAGE]


@pytest.mark.parametrize("path", PACKAGES, ids=module_of)
def test_each_package_says_what_it_owns(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert text.count("\n") < 5, "at most five lines"
    assert len(text) > 40
