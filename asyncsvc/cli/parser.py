"""The commands, their arguments and their help.

Owns the words that a person types. Promises that bad usage is one line on stderr and exit
code 2. Never does anything itself: each command imports what it needs and hands over, so
that `serve` pays for nothing but the parser.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.main import get_command

from asyncsvc import __version__
from asyncsvc.cli import levers, storage_commands
from asyncsvc.cli.failure import FAILED, MISUSED, Failure
from asyncsvc.cli.options import HERE, THERE, Json, SettingsFile, States, Url
from asyncsvc.cli.options import reach as _api
from asyncsvc.errors import AsyncsvcError, SettingsError

app = typer.Typer(
    name="asyncsvc",
    help="A task service for LLM calls: durable, rate-exact, streaming.\n\n"
    "Without a command it serves. `demo` shows it at work without any key.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Port = Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one.")]
TaskId = Annotated[str, typer.Argument(metavar="ID", help="A task's id, or the end of it.")]


def run(argv: list[str]) -> int:
    """Do what the command line says; the exit code."""
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        argv = ["serve", *argv]
    try:
        code = get_command(app).main(argv, prog_name=_program(), standalone_mode=False)
    except typer.TyperException as error:
        said = " ".join(error.format_message().replace("Value error, ", "").split())
        asked = f"{_program()} {argv[0]}" if argv[0] in _names() else _program()
        return _fail([f"{said.rstrip('.')}. See {asked} --help"], error.exit_code)
    except SettingsError as error:
        return _fail(error.lines, MISUSED)
    except Failure as error:
        return _fail([str(error)], error.code)
    except AsyncsvcError as error:
        return _fail([str(error)], FAILED)
    return code if isinstance(code, int) else 0


def _fail(lines: list[str], code: int) -> int:
    for line in lines:
        print(f"asyncsvc: {line}", file=sys.stderr)
    return code


def _program() -> str:
    from asyncsvc.cli.serving import program

    return program()


def _names() -> set[str]:
    return {
        str(info.name or getattr(info.callback, "__name__", "")) for info in app.registered_commands
    }


@app.callback(invoke_without_command=True)
def top(
    version: Annotated[bool, typer.Option("--version", help="Say which version this is.")] = False,
) -> None:
    if version:
        print(f"asyncsvc {__version__}")
        raise typer.Exit


@app.command(rich_help_panel=HERE)
def serve(
    settings: SettingsFile = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Port = None,
    db: Annotated[Path | None, typer.Option(metavar="FILE", help="The SQLite file.")] = None,
) -> int:
    """Start the service; flags win over environment, environment over file."""
    from asyncsvc.cli import serving

    return serving.serve(settings, host, port, db)


@app.command(rich_help_panel=HERE)
def demo(
    port: Port = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Keep serving until Ctrl-C.")] = False,
) -> int:
    """Four tasks answered live by a simulated provider: no key, nothing leaves the machine."""
    from asyncsvc.cli import demonstration

    return demonstration.demo(port or 0, keep)


@app.command(rich_help_panel=HERE)
def simulator(
    port: Port = 0,
    profile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Models, limits, faults, in TOML.")
    ] = None,
) -> int:
    """Serve the simulated provider alone, to try limits and faults."""
    from asyncsvc.cli import simulating

    return simulating.simulate(port or 0, profile)


@app.command(rich_help_panel=HERE)
def check(settings: SettingsFile = None) -> int:
    """Say whether the service could start here, and how to mend what is wrong."""
    from asyncsvc.cli import checking

    return checking.check(settings, os.environ)


@app.command("route-eval", rich_help_panel=HERE)
def route_eval(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Lines {text, class}.")],
    as_json: Json = False,
) -> int:
    """Say how often prompts of your own would be routed as they are labelled."""
    from asyncsvc.cli import routing

    return routing.route_eval(file, as_json, os.environ)


@app.command(rich_help_panel=THERE)
def route(
    text: Annotated[str, typer.Argument(metavar="TEXT|-", help="The prompt; - reads stdin.")],
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Show where a prompt would go and why; without a service, by the settings."""
    from asyncsvc.cli import routing, submitting

    return routing.route(submitting.read_text(text), url, as_json, os.environ)


@app.command(rich_help_panel=THERE)
def submit(
    text: Annotated[str, typer.Argument(metavar="TEXT|-", help="The prompt; - reads stdin.")],
    model: Annotated[str | None, typer.Option(help="A model of the settings; else routed.")] = None,
    lane: Annotated[
        Literal["priority", "short", "long"], typer.Option(help="Which queue.")
    ] = "short",
    priority: Annotated[int, typer.Option(min=0, max=9, help="Higher first in its lane.")] = 5,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stream the answer; exit 0, 1 failed, 130 cancelled.")
    ] = False,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Submit one task and print its id, or see it through with --wait."""
    from asyncsvc.cli import submitting

    fields = {"content": submitting.read_text(text), "lane": lane, "priority": priority}
    if model is not None:
        fields["model"] = model
    with _api(url) as api:
        return submitting.submit(api, fields, wait, as_json)


@app.command(rich_help_panel=THERE)
def chat(
    model: Annotated[str | None, typer.Option(help="A model of the settings; else routed.")] = None,
    url: Url = None,
) -> int:
    """Converse in the terminal: Ctrl-C cancels the answer, Ctrl-D leaves."""
    from asyncsvc.cli import conversing

    with _api(url) as api:
        return conversing.converse(api, model)


@app.command(rich_help_panel=THERE)
def tasks(
    status: Annotated[States | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 20,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """List tasks, newest first."""
    from asyncsvc.cli import asking

    with _api(url) as api:
        return asking.tasks(api, status, limit, as_json)


@app.command(rich_help_panel=THERE)
def show(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Show one task with its texts."""
    from asyncsvc.cli import asking

    with _api(url) as api:
        return asking.show(api, api.resolve(task_id), as_json)


@app.command(rich_help_panel=THERE)
def explain(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Say what happened to a task, and what it waited for."""
    from asyncsvc.cli import explaining

    with _api(url) as api:
        return explaining.explain(api, api.resolve(task_id), as_json)


@app.command(rich_help_panel=THERE)
def watch(
    task_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Stream this one. Else a live table.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Events, one JSON line each.")] = False,
    url: Url = None,
) -> int:
    """Follow one task, or all of them live."""
    with _api(url) as api:
        if task_id is not None:
            from asyncsvc.cli import submitting

            return submitting.watch(api, api.resolve(task_id), as_json)
        from asyncsvc.cli import watching

        return watching.watch_all(api, as_json)


@app.command(rich_help_panel=THERE)
def cancel(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Cancel a task; a running one is cut off at once."""
    return _steer(task_id, "cancel", as_json, url)


@app.command(rich_help_panel=THERE)
def pause(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Hold a task until `resume`."""
    return _steer(task_id, "pause", as_json, url)


@app.command(rich_help_panel=THERE)
def resume(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Let a paused task go on."""
    return _steer(task_id, "resume", as_json, url)


@app.command(rich_help_panel=THERE)
def retry(task_id: TaskId, as_json: Json = False, url: Url = None) -> int:
    """Start a finished task anew, under the same id."""
    return _steer(task_id, "retry", as_json, url)


@app.command(rich_help_panel=THERE)
def models(as_json: Json = False, url: Url = None) -> int:
    """Show each model: enabled or what it lacks, its load and its limits."""
    from asyncsvc.cli import asking

    with _api(url) as api:
        return asking.models(api, as_json)


@app.command(rich_help_panel=THERE)
def stats(as_json: Json = False, url: Url = None) -> int:
    """Count the tasks by state, in all and per model."""
    from asyncsvc.cli import asking

    with _api(url) as api:
        return asking.stats(api, as_json)


@app.command(rich_help_panel=THERE)
def reload(as_json: Json = False, url: Url = None) -> int:
    """Let the service read its settings again; say what that has changed."""
    from asyncsvc.cli import asking

    with _api(url) as api:
        return asking.reload(api, as_json)


def _steer(task_id: str, verb: str, as_json: bool, url: str | None) -> int:
    from asyncsvc.cli import asking

    with _api(url) as api:
        return asking.steer(api, api.resolve(task_id), verb, as_json)


levers.add_to(app)
storage_commands.register(app)
