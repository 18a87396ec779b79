"""`models`, `pause-model`, `resume-model` and `reload`: the models of a running service."""

import json
from typing import Annotated, Any
from urllib.parse import quote

from rich.console import Group, RenderableType
from rich.text import Text

from asyncsvc.cli import tables
from asyncsvc.cli.arguments import Argument, Commands
from asyncsvc.cli.client import reach
from asyncsvc.cli.options import THERE, Json, Url, print_json
from asyncsvc.cli.terminal import say

app = Commands()

ModelName = Annotated[str, Argument(metavar="NAME", help="A model of the settings.")]


@app.command(group=THERE)
def models(as_json: Json = False, url: Url = None) -> int:
    """Show each model: enabled or what it lacks, its load and its limits."""
    with reach(url) as api:
        answer = api.get("/models")
    return tables.print_answer(answer, as_json, lambda found: model_table(found["models"]))


@app.command("pause-model", group=THERE)
def pause_model(name: ModelName, as_json: Json = False, url: Url = None) -> int:
    """Begin no call with a model until `resume-model`; those under way go on."""
    return _command(name, "pause", as_json, url)


@app.command("resume-model", group=THERE)
def resume_model(name: ModelName, as_json: Json = False, url: Url = None) -> int:
    """Let a paused model take calls again."""
    return _command(name, "resume", as_json, url)


def _command(name: str, verb: str, as_json: bool, url: str | None) -> int:
    with reach(url) as api:
        model = api.post(f"/models/{quote(name, safe='')}/{verb}")
    state = "paused" if model["paused"] else "resumed"
    line = f"{model['name']}  {state}, {model['in_flight']} calls under way"
    return tables.print_answer(model, as_json, lambda _: line)


@app.command(group=THERE)
def reload(as_json: Json = False, url: Url = None) -> int:
    """Let the service read its settings again; say what that has changed."""
    with reach(url) as api:
        found = api.post("/admin/reload")
    if as_json:
        print_json(found)
        return 0
    for key, its in found["changed"].items():
        say(f"changed  {key}  {_toml(its['from'])} -> {_toml(its['to'])}")
    for name in found["added"]:
        say(f"added    models.{name}")
    for name in found["removed"]:
        say(f"removed  models.{name}")
    for key in found["needs_restart"]:
        say(f"restart  {key}  stays as it is until the service is started anew")
    for name in found["variables"]:
        say(f"changed  {name}, read from .env")
    for name in found["enabled"]:
        say(f"enabled  {name}")
    for name, why in found["disabled"].items():
        say(f"disabled {name}  {why}")
    if not any(found.values()):
        say("nothing has changed")
    return 0


def _toml(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


def model_table(items: list[dict[str, Any]]) -> RenderableType:
    """All models of the settings."""
    table = tables.plain_table(
        "model", "state", ">busy", ">in 60 s", ">queued", ">errors", ">latency"
    )
    table.columns[0].min_width, table.columns[1].min_width = 18, 16
    for item in items:
        name = Text(item["name"], "bold")
        table.add_row(
            Group(name, tables.one_line(item["model"], "bright_black")),
            _state(item),
            f"{item['in_flight']}/{_limit(item, 'concurrency')}",
            f"{item['calls_last_60s']}/{_limit(item, 'rpm')}"
            if item["rpm"] or item.get("rpm_auto")
            else str(item["calls_last_60s"]),
            str(item["queue_depth"]),
            Text(f"{item['errors']}/{item['calls']}", "red" if item["errors"] else ""),
            tables.number(item["latency_s"], " s"),
        )
    return table if items else Text("the settings name no model")


def _limit(item: dict[str, Any], name: str) -> str:
    """A limit; one that is learned has a ~ before it, for it may change."""
    if not item.get(f"{name}_auto"):
        return str(item[name])
    return "~" if item[name] is None else f"~{item[name]}"


def _state(item: dict[str, Any]) -> Text:
    if not item["enabled"]:
        return Text(f"disabled: {item['reason']}", "bright_black")
    if item.get("paused"):
        return Text("paused", "magenta")
    if item["breaker"] != "closed":
        return Text(f"breaker {item['breaker']}", "red")
    if item["waiting_for"]:
        return Text(str(item["waiting_for"]), "yellow")
    return Text("enabled", "green")
