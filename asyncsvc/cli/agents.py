"""`approve`, `deny`, `fork`, `ledger` and `files`: an agent's calls of tools and its workspace."""

import sys
from typing import Annotated
from urllib.parse import quote

from asyncsvc.cli.agent_tables import file_table, ledger_table
from asyncsvc.cli.arguments import Argument, Commands, Option
from asyncsvc.cli.client import Api, reach
from asyncsvc.cli.new_files import STD, report, written
from asyncsvc.cli.options import (
    THERE,
    Json,
    TaskId,
    Url,
    print_created,
    print_json,
    read_text,
)
from asyncsvc.cli.steering import command
from asyncsvc.cli.tables import print_answer

app = Commands()


@app.command(group=THERE)
def approve(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Let an agent make the call of a tool that waits for it."""
    return command(task_id, "approve", as_json, url, {})


@app.command(group=THERE)
def deny(
    task_id: TaskId,
    reason: Annotated[str | None, Option(help="Why; the agent reads it.")] = None,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Do not let an agent make the call of a tool that waits for it."""
    return command(task_id, "deny", as_json, url, {} if reason is None else {"reason": reason})


@app.command(group=THERE)
def fork(
    task_id: TaskId,
    text: Annotated[
        str | None, Argument(metavar="[TEXT|-]", help="A further message; - reads stdin.")
    ] = None,
    step: Annotated[
        int | None,
        Option(metavar="N", min=0, help="Go on after this step; else the last."),
    ] = None,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Start an agent that goes on from a step of another one; print its id."""
    content = None if text is None else read_text(text)
    with reach(url) as api:
        answer = api.fork(api.resolve(task_id), step, content)
    return print_created(answer, answer["task_id"], str(answer["status"]), as_json)


@app.command(group=THERE)
def ledger(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """List the calls of tools of an agent, with what became of each."""
    with reach(url) as api:
        found = api.get(f"/tasks/{api.resolve(task_id)}/ledger")
    return print_answer(found, as_json, lambda answer: ledger_table(answer["calls"]))


@app.command(group=THERE)
def files(
    task_id: TaskId,
    path: Annotated[
        str | None,
        Argument(metavar="[PATH]", help="A file of the workspace. Else a list."),
    ] = None,
    out: Annotated[
        str | None,
        Option(metavar="FILE|-", help="A new file for it; without PATH all, as a tar.gz."),
    ] = None,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """List the files of an agent's workspace, show one, or fetch one or all."""
    with reach(url) as api:
        where = f"/tasks/{api.resolve(task_id)}/files"
        if path is not None:
            where += f"/{quote(path)}"
        if out is not None:
            query = {} if path is not None else {"format": "tar.gz"}
            return _fetch(api, where, query, out, as_json)
        if path is not None:
            return _show(api, where, path, as_json)
        found = api.get(where)
    return print_answer(found, as_json, file_table)


def _fetch(api: Api, where: str, query: dict[str, str], out: str, as_json: bool) -> int:
    """Write an answer into a new file."""
    size = 0
    with written(out) as file:
        for part in api.download(where, query):
            size += file.write(part)
    if as_json and out != STD:
        print_json({"file": out, "bytes": size})
    else:
        report(f"{out}: {size} bytes")
    return 0


def _show(api: Api, where: str, path: str, as_json: bool) -> int:
    """Write one file to stdout: as it is into a pipe, for a terminal as safe text."""
    if not as_json and not sys.stdout.isatty():
        for part in api.download(where):
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
        return 0
    text = b"".join(api.download(where)).decode(errors="replace")
    if as_json:
        print_json({"path": path, "text": text})
    else:
        sys.stdout.write(text)
    return 0
