"""The commands that ask once and print the answer.

Owns the choice between table and JSON. Promises that --json prints what the service said,
whole and unchanged. Never keeps a connection open.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from asyncsvc.cli.client import Api
from asyncsvc.cli.submitting import print_json

if TYPE_CHECKING:
    from rich.console import RenderableType


def tasks(api: Api, status: str | None, limit: int, as_json: bool) -> int:
    """A page of tasks, newest first."""
    page = api.get("/tasks", {"status": status, "limit": limit})
    if as_json:
        print_json(page)
        return 0
    from asyncsvc.cli import tables, terminal

    console = terminal.console()
    console.print(tables.tasks(page["tasks"], console.width))
    if page["next_cursor"]:
        console.print(f"the newest {limit}; more with --limit N", style="bright_black")
    return 0


def show(api: Api, task_id: str, as_json: bool) -> int:
    """One task with its texts."""

    def table(view: dict[str, Any]) -> "RenderableType":
        from asyncsvc.cli import tables

        return tables.task(view)

    return _tell(api.task(task_id), as_json, table)


def models(api: Api, as_json: bool) -> int:
    """The models of the settings."""

    def table(answer: dict[str, Any]) -> "RenderableType":
        from asyncsvc.cli import tables

        return tables.models(answer["models"])

    return _tell(api.get("/models"), as_json, table)


def stats(api: Api, as_json: bool) -> int:
    """Counts of tasks."""

    def table(answer: dict[str, Any]) -> "RenderableType":
        from asyncsvc.cli import tables

        return tables.stats(answer)

    return _tell(api.get("/tasks/stats"), as_json, table)


def reload(api: Api, as_json: bool) -> int:
    """The settings are read again; says what has changed."""
    found = api.post("/admin/reload")
    if as_json:
        print_json(found)
        return 0
    for key, its in found["changed"].items():
        print(f"changed  {key}  {_toml(its['from'])} -> {_toml(its['to'])}")
    for name in found["added"]:
        print(f"added    models.{name}")
    for name in found["removed"]:
        print(f"removed  models.{name}")
    for key in found["needs_restart"]:
        print(f"restart  {key}  stays as it is until the service is started anew")
    if not any(found.values()):
        print("nothing has changed")
    return 0


def _toml(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


def steer(api: Api, task_id: str, verb: str, as_json: bool) -> int:
    """Cancel, pause, resume or retry; says how the task then stands."""
    task = api.steer(task_id, verb)
    if as_json:
        print_json(task)
    else:
        print(f"{task['task_id']}  {task['status']}")
    return 0


def _tell(
    answer: dict[str, Any], as_json: bool, table: Callable[[dict[str, Any]], "RenderableType"]
) -> int:
    if as_json:
        print_json(answer)
        return 0
    from asyncsvc.cli import terminal

    terminal.console().print(table(answer))
    return 0
