"""The parts of the documentation that are made from the code.

`python -m tests.docgen` rewrites them; `test_docs.py` fails where they are out of date. A part
stands between `<!-- made from the code: NAME -->` and `<!-- end -->`. The table behind `--help` and
completion, `asyncsvc/cli/commands.json`, is made in the same way.
"""

import ast
import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from asyncsvc import errors
from asyncsvc.cli.arguments import Command
from asyncsvc.cli.options import HERE, THERE
from asyncsvc.cli.parser import declared as declared_commands
from asyncsvc.config.diff import EFFECTS, NAMED, Effect
from asyncsvc.config.settings import McpServer, Settings, Tools
from asyncsvc.tasks.state import TRANSITIONS
from asyncsvc.web.admin.metrics import ROWS
from asyncsvc.web.http.sockets import CLOSE_CODES
from asyncsvc.web.openapi.document import document
from asyncsvc.web.routes import ROUTES
from asyncsvc.web.tasks.socket_operations import OPERATIONS
from tests.test_floors import GROUND

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(<!-- made from the code: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def lifecycle() -> str:
    """The state table as a mermaid diagram."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for source, arrows in TRANSITIONS.items():
        for cause, state in arrows.items():
            lines.append(
                f"    {source.value if source else '[*]'} --> {state.value}: {cause.value}"
            )
    return "\n".join([*lines, "```"])


def settings() -> str:
    """A table for each section."""
    parts = []
    for name, field in Settings.model_fields.items():
        kind: Any = NAMED[name][1] if name in NAMED else field.annotation
        parts.append(_section(f"{name}.NAME" if name in NAMED else name, kind))
        if kind is Tools:
            parts.append(_section("tools.mcp.NAME", McpServer, EFFECTS["tools"]["mcp"]))
    return "\n\n".join(parts)


def _section(name: str, kind: type[BaseModel], whole: Effect | None = None) -> str:
    """The table of a section; `whole` is the effect of all keys of one that changes as a whole."""
    rows = [
        f"### `[{name}]`",
        "",
        "| key | default | meaning | allowed | after a reload |",
        "| --- | --- | --- | --- | --- |",
    ]
    for key, field in kind.model_fields.items():
        default = "required" if field.is_required() else f"`{_toml(field.default)}`"
        effect = whole or EFFECTS[name.partition(".")[0]][key]
        allowed = _allowed(field)
        rows.append(f"| `{key}` | {default} | {field.description} | {allowed} | {effect} |")
    return "\n".join(rows)


def _toml(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value).replace("'", '"')


def _allowed(field: FieldInfo) -> str:
    limits = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥"}
    facts = [
        f"{sign} {getattr(meta, name):g}"
        for meta in field.metadata
        for name, sign in limits.items()
        if getattr(meta, name, None) is not None
    ]
    return ", ".join(facts)


def request_errors() -> str:
    """Status, code and meaning of each answer that is an error."""
    rows = ["| status | code | type |", "| --- | --- | --- |"]
    found = [
        (kind.status, kind.code, kind.type)
        for kind in _all(errors.RequestError)
        if kind.code != "internal"
    ]
    found += [(409, "illegal_transition", "invalid_request_error")]
    found += [(409, "idempotency_conflict", "invalid_request_error")]
    found += [(403, code, "permission_error") for code in ("forbidden_host", "forbidden_origin")]
    rows += [f"| {status} | `{code}` | `{kind}` |" for status, code, kind in sorted(set(found))]
    return "\n".join(rows)


def task_errors() -> str:
    """The codes of a failed task."""
    rows = ["| code | tried again by itself | `/retry` can help |", "| --- | --- | --- |"]
    for kind in _all(errors.ProviderError):
        again = "waits, at no cost" if kind.slow_down else "yes" if kind.again else "no"
        if kind is errors.Unexplained:
            continue
        name = f"`{kind.code}`"
        if issubclass(kind, errors.Unexplained):
            name += ", where neither key, account nor model is named"
        rows.append(f"| {name} | {again} | {'yes' if kind.retryable else 'no'} |")
    # Kinds of one error may differ in what is no business of a client.
    return "\n".join(dict.fromkeys(rows))


def metrics() -> str:
    """Name, kind, labels and meaning of each metric."""
    rows = ["| metric | kind | labels | meaning |", "| --- | --- | --- | --- |"]
    for row in ROWS:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        rows.append(f"| `{row.shown}` | {row.kind} | {labels} | {row.help} |")
    return "\n".join(rows)


def close_codes() -> str:
    """With which codes a WebSocket is closed, and why."""
    rows = [f"| {code} | {why} |" for code, why in CLOSE_CODES.items()]
    return "\n".join(["| code | meaning |", "| --- | --- |", *rows])


def socket_operations() -> str:
    """The operations of a WebSocket: scope, fields, what they do."""
    rows = ["| op | scope | fields | what it does |", "| --- | --- | --- | --- |"]
    for op, declared in OPERATIONS.items():
        needed = declared.takes.__required_keys__
        fields = ", ".join(
            f"`{name}`" + ("" if name in needed else "?") for name in declared.takes.__annotations__
        )
        about = " ".join((declared.takes.__doc__ or "").split())
        rows.append(f"| `{op}` | {declared.scope.value} | {fields} | {about} |")
    return "\n".join(rows)


def routes() -> str:
    """Every call over HTTP: the scope that it needs, and what it does."""
    rows = ["| call | scope | what it does |", "| --- | --- | --- |"]
    for path, entry in sorted(document(ROUTES)["paths"].items()):
        for verb in [verb for verb in ("get", "post", "put", "patch", "delete") if verb in entry]:
            operation = entry[verb]
            scope = operation.get("x-scope", "none, open to all")
            rows.append(f"| `{verb.upper()} {path}` | {scope} | {operation['summary']} |")
    return "\n".join(rows)


def command_list() -> str:
    """A table of the commands for each group: what each takes, and what it does."""
    found: dict[str, list[str]] = {}
    for name, row in json.loads(commands()).items():
        arguments = [each if isinstance(each, str) else "|".join(each) for each in row["arguments"]]
        options = [
            option if value is None else f"{option} {value if isinstance(value, str) else '…'}"
            for option, value in row["options"].items()
        ]
        call = " ".join([name, *arguments]).replace("|", "\\|")
        shown = ", ".join(f"`{option}`" for option in options).replace("|", "\\|")
        found.setdefault(row["group"], []).append(f"| `{call}` | {shown} | {row['help']} |")
    head = ["| command | options | what it does |", "| --- | --- | --- |"]
    parts = [[f"## {group}", "", *head, *rows] for group, rows in found.items()]
    return "\n\n".join("\n".join(part) for part in parts)


DRAWN_FOR_ALL = GROUND - {"asyncsvc", "access"}
"""Parts that all may import; the picture of the packages leaves them out."""


def package_imports() -> dict[str, set[str]]:
    """Each package or top module of asyncsvc and those that it imports, found in the source."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "asyncsvc").rglob("*.py")):
        part = path.relative_to(ROOT / "asyncsvc").parts[0].removesuffix(".py")
        imported = found.setdefault(part, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = node.module.split(".")
                if names[0] == "asyncsvc":
                    imported.update(names[1:2] or {alias.name for alias in node.names})
    return {part: imported & found.keys() - {part} for part, imported in found.items()}


def packages() -> str:
    """The imports between packages as a mermaid diagram, without implied ones."""
    arrows = {
        part: imported - DRAWN_FOR_ALL
        for part, imported in package_imports().items()
        if part not in DRAWN_FOR_ALL | {"__init__", "__main__"}
    }

    def below(part: str) -> set[str]:
        return arrows[part].union(*(below(other) for other in arrows[part]))

    lines = ["```mermaid", "flowchart TD"]
    for part, imported in arrows.items():
        implied = set[str]().union(*(below(other) for other in imported))
        lines += [f"    {part} --> {other}" for other in sorted(imported - implied)]
    return "\n".join([*lines, "```"])


def _all(kind: type[Any]) -> list[type[Any]]:
    return [kind_ for sub in kind.__subclasses__() for kind_ in (sub, *_all(sub))]


COMMANDS_FILE = ROOT / "asyncsvc" / "cli" / "commands.json"


def commands() -> str:
    """The commands in a few words, as JSON; see `asyncsvc.cli.overview`."""
    rows = {name: _command(each) for name, each in declared_commands().items()}
    order = sorted(rows, key=lambda name: [HERE, THERE].index(rows[name]["group"]))
    return json.dumps({name: rows[name] for name in order}, indent=1, ensure_ascii=False) + "\n"


def _command(command: Command) -> dict[str, Any]:
    options: dict[str, Any] = {}
    arguments: list[Any] = []
    for each in command.parameters:
        # What stands for the value in the help, or the values to choose from.
        value = list(each.choices) or each.metavar
        if each.positional:
            arguments.append(value)
        else:
            options |= dict.fromkeys(each.names, None if each.flag else value)
    return {
        "group": command.group,
        "help": command.help,
        "options": options,
        "arguments": arguments,
    }


MAKERS = {
    "packages": packages,
    "lifecycle": lifecycle,
    "settings": settings,
    "request-errors": request_errors,
    "task-errors": task_errors,
    "metrics": metrics,
    "close-codes": close_codes,
    "socket-operations": socket_operations,
    "routes": routes,
    "commands": command_list,
}


def made(text: str) -> str:
    """The page with its made parts as they should be."""
    return BLOCK.sub(lambda m: f"{m[1]}{MAKERS[m[2]]()}\n{m[3]}", text)


def pages() -> list[Path]:
    return [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]


SETTINGS, TEMPLATE = ROOT / "settings.toml", ROOT / "asyncsvc/cli/settings.toml"
"""The settings of the project, and what `init` writes: the same."""

if __name__ == "__main__":
    TEMPLATE.write_bytes(SETTINGS.read_bytes())
    for page in pages():
        page.write_text(made(page.read_text(encoding="utf-8")), encoding="utf-8")
    COMMANDS_FILE.write_text(commands(), encoding="utf-8")
