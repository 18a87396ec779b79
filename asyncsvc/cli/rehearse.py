"""`rehearse`: the past replayed under other settings, as tables or JSON.

Reads the database's file and changes nothing; works beside a running service.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

from rich.console import Group, RenderableType
from rich.text import Text

from asyncsvc.cli import tables
from asyncsvc.cli.arguments import Argument, Commands, Option
from asyncsvc.cli.options import (
    HERE,
    MISUSED,
    Database,
    Failure,
    Json,
    SettingsFile,
    duration_option,
    environment,
    settings_file,
)
from asyncsvc.cli.tables import print_answer
from asyncsvc.cli.terminal import say
from asyncsvc.clock import now_ms
from asyncsvc.config.load import load
from asyncsvc.rehearsal import suggestions
from asyncsvc.rehearsal.comparison import compare, past_since, served_models
from asyncsvc.rehearsal.scenario import Scenario, changed, present
from asyncsvc.rehearsal.suggestions import Single
from asyncsvc.storage import own_files
from asyncsvc.storage.backup import NotACopy
from asyncsvc.storage.past import TASKS_MOST, learned_limits, past_tasks
from asyncsvc.tasks.state import Task

app = Commands()

DAY_S = 86_400.0


@app.command(group=HERE)
def rehearse(
    new: Annotated[
        Path | None,
        Argument(metavar="NEW.toml", help="The settings to try; else those of today."),
    ] = None,
    values: Annotated[
        list[str] | None,
        Option("--set", metavar="KEY=VALUE", help="One value to try."),
    ] = None,
    model: Annotated[
        str | None,
        Option(help="One more account of this model, with limits of its own, as a key gives."),
    ] = None,
    suggest: Annotated[
        bool, Option("--suggest", help="Try single changes, and say which saves most.")
    ] = False,
    since: Annotated[float | None, duration_option("--since", "How far back; default 1d.")] = None,
    settings: SettingsFile = None,
    db: Database = None,
    as_json: Json = False,
) -> int:
    """Replay past tasks under other settings; nothing is called, nothing is changed."""
    file, until = settings_file(settings), now_ms()
    environ, tries = environment(file), new is not None or bool(values) or model is not None
    if suggest and tries:
        raise Failure("--suggest chooses what to try: give nothing else to try", MISUSED)
    if new is not None and not new.is_file():
        raise Failure(f"{new}: no such file", MISUSED)
    begin = max(until - round((DAY_S if since is None else since) * 1000), 0)
    stored, learned = _stored(db or Path(load(file, environ).storage.path), begin)
    past = past_since(stored, begin, until)
    served = served_models(past)
    if sys.stderr.isatty():
        say(f"replaying {len(past)} tasks", sys.stderr)
    now = present(file, environ, served)
    if suggest:

        def single(change: Single) -> Scenario:
            given = [] if change.value is None else [change.value]
            return changed(now, file, environ, served, given, change.account)

        found = suggestions.suggest(past, now, single, learned, begin, until)
        return print_answer(found, as_json, suggestion_table)
    tried = changed(now, new or file, environ, served, values or [], model) if tries else None
    found = compare(past, now, tried, learned, begin, until)
    if len(stored) == TASKS_MOST:
        found["notes"].append(f"the newest {TASKS_MOST} tasks only: choose a shorter --since")
    return print_answer(found, as_json, report)


def _stored(path: Path, begin: int) -> tuple[list[Task], dict[str, dict[str, int]]]:
    """The tasks of the database since `begin`, and what the service has learned of limits."""
    try:
        own_files.check(path)
        if not path.exists():
            raise Failure(f"{path}: there is no database yet, so no past to replay", MISUSED)
        return past_tasks(path, begin), learned_limits(path)
    except NotACopy as error:
        raise Failure(f"{path}: cannot be used: {error}", MISUSED) from None


def suggestion_table(found: dict[str, Any]) -> RenderableType:
    """What each single change would save."""
    table = tables.plain_table("change", ">waits in all", ">saves", ">p50 / p95 / longest")
    for row in ({"option": "as it is", "saved_s": None} | found["now"], *found["changes"]):
        saved = tables.NOTHING if row["saved_s"] is None else f"{row['saved_s']:.0f} s"
        table.add_row(row["option"], f"{row['waited_s']:.0f} s", saved, _spread(row))
    head = f"{found['tasks']} tasks from {found['since']} to {found['until']}"
    none = [] if found["changes"] else [Text("no setting bounds what these tasks waited for")]
    return Group(Text(head, "bold"), table, *none)


def report(found: dict[str, Any]) -> RenderableType:
    """The comparison as tables."""
    kinds = [name for name in ("now", "new") if name in found["ends"]]
    carried = found["carried_over"]
    before = f", {carried} of them from before, not counted in the waits" if carried else ""
    head = f"{found['tasks']} tasks from {found['since']} to {found['until']}{before}"
    return Group(
        Text(head, "bold"),
        Text("waits for the first start, p50 / p95 / longest, in seconds (m: minutes, h: hours)"),
        _waits(found["waits"], kinds),
        Text("accounts: calls, busy share of the slots, most at once and in a window, of allowed"),
        _accounts(found["accounts"], kinds),
        _ends(found, kinds),
        *(Text(f"note: {note}", "yellow") for note in found["notes"]),
        Text("assumed: " + "; ".join(found["assumed"]), "bright_black"),
    )


def _waits(rows: list[dict[str, Any]], kinds: list[str]) -> RenderableType:
    table = tables.plain_table("lane", "owner", ">tasks", ">measured", *(f">{k}" for k in kinds))
    for row in rows:
        owner = tables.NOTHING if row["owner"] is None else row["owner"]
        cells = (_spread(row[name]) for name in ("measured", *kinds))
        table.add_row(row["lane"], tables.one_line(owner), str(row["tasks"]), *cells)
    return table


def _spread(found: dict[str, Any]) -> str:
    if not found["count"]:
        return tables.NOTHING
    return " / ".join(_seconds(found[name]) for name in ("p50_s", "p95_s", "max_s"))


def _seconds(seconds: float) -> str:
    """A time in few characters."""
    if seconds < 9.95:
        return f"{seconds:.1f}"
    if seconds < 600:
        return f"{seconds:.0f}"
    return f"{seconds / 60:.0f}m" if seconds < 36_000 else f"{seconds / 3600:.0f}h"


def _accounts(rows: list[dict[str, Any]], kinds: list[str]) -> RenderableType:
    table = tables.plain_table(
        "account", "", ">calls", ">busy", ">at once", ">window", "waited for"
    )
    for row in rows:
        for kind in kinds:
            table.add_row(tables.one_line(row["account"]), kind, *_use(row[kind]))
    return table


def _use(use: dict[str, Any] | None) -> list[str]:
    if use is None:
        return [tables.NOTHING, "", "", "", "takes no part"]
    window = f"{use['most_in_window']} of {use['rpm']}" if use["rpm"] else tables.NOTHING
    if use["tpm"]:
        window += f", {use['most_tokens_in_window']} of {use['tpm']} tokens"
    waited = [f"{why} {_seconds(s)}" for why, s in list(use["waited_s"].items())[:3]]
    return [
        str(use["calls"]),
        f"{use['busy_share']:.0%}",
        f"{use['most_at_once']} of {use['concurrency']}",
        window,
        ", ".join(waited),
    ]


def _ends(found: dict[str, Any], kinds: list[str]) -> RenderableType:
    table = tables.plain_table("of the tasks", *(f">{kind}" for kind in kinds))
    for name, key in (("", "ends"), ("refused: ", "refused")):
        for code in dict.fromkeys(code for kind in kinds for code in found[key][kind]):
            counts = (str(found[key][kind].get(code, 0)) for kind in kinds)
            table.add_row(f"{name}{code}", *counts)
    return table
