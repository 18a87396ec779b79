"""Tables about agents: their calls of tools, their files, and where their time has gone."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from asyncsvc.cli import tables
from asyncsvc.cli.agent_lines import call_text, result_text

CALL_STYLES = {
    "asked": "yellow",
    "needs_approval": "magenta",
    "needs_review": "magenta",
    "started": "cyan",
    "finished": "green",
    "rolled_back": "yellow",
    "denied": "red",
}


def ledger_table(calls: list[dict[str, Any]]) -> RenderableType:
    """The calls of an agent, in their order."""
    if not calls:
        return Text("no call of a tool")
    table = tables.plain_table(">step", "call", "state", "result")
    table.columns[1].ratio, table.columns[3].ratio = 3, 2
    for call in calls:
        state = call["state"]
        table.add_row(
            str(call["step"]),
            call_text(call["name"], call["arguments"]),
            Text(state, CALL_STYLES.get(state, "")),
            _outcome(call),
        )
    return table


def _outcome(call: dict[str, Any]) -> Text:
    result = call.get("result")
    decision = call.get("decision")
    parts = [str(decision)] if decision else []
    if call.get("reason"):
        parts.append(str(call["reason"]))
    if result and call["state"] != "denied":
        parts.append(result_text(result | {"name": None}))
    return tables.one_line("; ".join(parts), "" if not result or result.get("ok") else "red")


def file_table(found: dict[str, Any]) -> RenderableType:
    """The files of a workspace."""
    if not found["files"]:
        return Text("no file")
    table = tables.plain_table("path", ">bytes", "kind")
    for file in found["files"]:
        table.add_row(file["path"], str(file["size"]), file["kind"])
    more = [Text("more files than are listed", "bright_black")] if found.get("truncated") else []
    return Group(table, *more)


def time_table(agent: dict[str, Any]) -> list[RenderableType]:
    """Where the time of an agent has gone, step by step."""
    table = tables.plain_table(">step", ">model", ">tokens", "tools")
    for step in agent["steps"]:
        table.add_row(
            str(step["number"]),
            tables.number(step["model_s"], " s"),
            tables.number((step["usage"] or {}).get("total_tokens")),
            ", ".join(_took(call) for call in step["calls"]),
        )
    if not table.row_count:
        return []
    parts = {"model": agent["model_s"], "tools": agent["tools_s"], "a person": agent["person_s"]}
    spent = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in parts.items())
    return [table, Text(f"of the agent's time: {spent}")]


def _took(call: dict[str, Any]) -> str:
    name = str(call["name"])
    return name if call["took_s"] is None else f"{name} {call['took_s']:.1f} s"
