"""`serve` and `simulator`: the service or the simulated provider, until a signal ends it.

The stable lines `listening on URL` and `simulator listening on URL` on stdout say that calls are
taken. SIGTERM and SIGINT end `serve` with 0 at any moment: the server is imported only after the
signal handler is set. Each command imports only what it runs, so that the start stays fast.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from asyncsvc.cli.arguments import Commands, Option
from asyncsvc.cli.options import (
    FAILED,
    HERE,
    MISUSED,
    Database,
    Failure,
    Port,
    SettingsFile,
    environment,
    program,
    settings_file,
)
from asyncsvc.cli.terminal import say

LogLevel = Literal["debug", "info", "warning", "error"]
app = Commands()
log = logging.getLogger(__name__)


@app.command(group=HERE)
def serve(
    settings: SettingsFile = None,
    host: Annotated[str | None, Option(help="Address to listen on.")] = None,
    port: Port = None,
    db: Database = None,
    certfile: Annotated[
        str | None, Option(metavar="FILE", help="Serve https with this certificate, PEM.")
    ] = None,
    keyfile: Annotated[
        str | None, Option(metavar="FILE", help="The key of the certificate, PEM.")
    ] = None,
    log_level: Annotated[
        LogLevel | None,
        Option(help="Log from here on: debug, info, warning, error."),
    ] = None,
) -> int:
    """Start the service; flags win over environment, environment over file."""
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        _serve(settings, overrides(host, port, db, certfile, keyfile, log_level))
    except KeyboardInterrupt:
        pass  # the signal came before the server handles signals: nothing has begun
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _leave(*_: object) -> None:
    raise KeyboardInterrupt


def _serve(named: Path | None, flags: dict[str, dict[str, Any]]) -> None:
    import_server()
    from asyncsvc import server
    from asyncsvc.config import advice, secrets
    from asyncsvc.config.load import load
    from asyncsvc.config.settings import Settings
    from asyncsvc.logs.output import LogOutput
    from asyncsvc.providers import addresses
    from asyncsvc.providers.registry import Catalogue

    def announce(url: str) -> None:
        for warning in [*advice.of_variables(settings, environ), *addresses.warnings(settings)]:
            log.warning("%s", warning)
        catalogue = Catalogue(settings, environ)
        for line in summary(settings, catalogue, file):
            say(line)
        say(f"database  {Path(settings.storage.path).absolute()}")
        say(f"listening on {url}")
        enabled = ", ".join(dict.fromkeys(u.name for u in catalogue.upstreams)) or "none"
        lacks = "; ".join(f"{name}: {why}" for name, why in catalogue.disabled.items())
        log.info("listening on %s; models enabled: %s; disabled: %s", url, enabled, lacks or "none")

    def read() -> Settings:
        return load(file, environ, flags)

    def apply_log() -> None:
        output.apply(settings.log, secrets.values(settings.model_dump(), environ))

    found = settings_file(named)
    # Absolute: a reload must find it wherever the process has gone.
    file = found and found.absolute()
    environ = environment(file)
    settings = read()
    for line in left_behind(settings, file):
        say(f"note      {line}")
    output = LogOutput()
    apply_log()
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(server.serve(settings, environ, announce, read=read, reloaded=apply_log))
    log.info("stopped")
    output.close()


def import_server() -> None:
    """Import the server in less time and memory than a plain import takes.

    Nearly all that an import makes stays, so Python's collector looks at it once, afterwards.
    `import httpx` also loads the command line of httpx, with a library for its colours, where that
    is installed (for ours, it is); None in its place says for the while that it is not.
    """
    unwanted: dict[str, Any] = {} if "pygments" in sys.modules else {"pygments": None}
    sys.modules.update(unwanted)
    gc.disable()
    try:
        import asyncsvc.server  # noqa: F401
    finally:
        for name in unwanted:
            del sys.modules[name]
        gc.collect()
        gc.freeze()
        gc.enable()


def overrides(
    host: str | None,
    port: int | None,
    db: Path | None,
    certfile: str | None = None,
    keyfile: str | None = None,
    log_level: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the values of the flags in the shape of the settings."""
    found: dict[str, dict[str, Any]] = {
        "server": {"host": host, "port": port, "certfile": certfile, "keyfile": keyfile},
        "storage": {"path": str(db) if db is not None else None},
        "log": {"level": log_level},
    }
    return {
        section: given
        for section, values in found.items()
        if (given := {key: value for key, value in values.items() if value is not None})
    }


def summary(settings: Any, catalogue: Any, file: Path | None) -> list[str]:
    """Return lines that name the settings file, and each model: enabled, or what it lacks."""
    from asyncsvc.providers.agents import crowded

    enabled = dict.fromkeys(upstream.name for upstream in catalogue.upstreams)
    names = {**{name: "" for name in enabled}, **catalogue.disabled}
    width = max((len(name) for name in names), default=0)
    none = f"built-in defaults: no settings.toml here; `{program()} init` writes one"
    lines = [f"settings  {file or none}"]
    for name in settings.models:
        if name in enabled:
            lines.append(f"enabled   {name:{width}}  {', '.join(settings.models[name].model_ids)}")
        else:
            lines.append(f"disabled  {name:{width}}  {catalogue.disabled[name]}")
    if not enabled:
        lines.append("no model is enabled, so no task is taken: set one of the variables above,")
        lines.append(f"or see it work without any key: {program()} demo")
    cores = os.cpu_count() or 1
    return lines + [f"note      {each}" for each in crowded(catalogue.upstreams, cores)]


def left_behind(settings: Any, file: Path | None) -> list[str]:
    """Return a line where a database lies in the working directory, where relative paths counted
    from before, and none lies where they count from now."""
    from asyncsvc.config.load import earlier_place

    earlier, now = earlier_place(settings, file, "storage.path"), Path(settings.storage.path)
    if earlier is None:
        return []
    moves = [f"{earlier}* to {now.parent}"]
    if (folder := earlier_place(settings, file, "tools.workspace")) is not None:
        moves.append(f"{folder} to {settings.tools.workspace}")
    return [
        f"a database lies at {earlier}, which is not used: relative paths count from the folder of "
        f"the settings. To go on with it, stop the service and move {' and '.join(moves)}"
    ]


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory, where the platform has it."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


HOST = "127.0.0.1"


@app.command(group=HERE)
def simulator(
    port: Port = 0,
    profile: Annotated[
        Path | None, Option(metavar="FILE", help="Models, limits, faults, in TOML.")
    ] = None,
) -> int:
    """Serve the simulated provider alone, to try limits and faults."""
    from asyncsvc.simulator import Profile, ProfileError
    from asyncsvc.simulator import serve as serve_simulator

    try:
        simulated = Profile.load(profile) if profile is not None else Profile.builtin()
    except ProfileError as error:
        raise Failure("; ".join(str(error).splitlines()), MISUSED) from None

    def announce(url: str) -> None:
        for line in [f"simulator listening on {url}", *_introduction(simulated, url)]:
            say(line)

    try:
        serve_simulator(simulated, HOST, port or 0, announce)
    except OSError as error:
        raise Failure(
            f"cannot listen on {HOST}:{port}: {error.strerror or error}; choose another --port N",
            FAILED,
        ) from None
    return 0


def _introduction(profile: Any, url: str) -> list[str]:
    lines = [f"model   {name:14}{_limits(profile, name)}" for name in profile.models]
    if profile.server.any_model:
        lines.append("model   any other name as well, without limits of its own")
    key = ""
    if profile.server.api_key is not None:
        lines.append("key     the one of the profile is asked for")
        key = "api_key_env = …, "
    name = next(iter(profile.models), "any-name")
    lines.append("use it  in settings.toml, or by the environment:")
    lines.append(f'          [models.simulated]  base_url = "{url}/v1", {key}model = "{name}"')
    lines.append(
        f"          ASYNCSVC_MODELS__SIMULATED__BASE_URL={url}/v1 "
        f"ASYNCSVC_MODELS__SIMULATED__MODEL={name}"
    )
    lines.append(
        'agents  it plays one for "mend the failing test", or your script: '
        '#agent [{"calls": [{"name": "list_directory"}]}, "Done."]'
    )
    return [*lines, f"figures {url}/_sim/stats"]


def _limits(profile: Any, name: str) -> str:
    settings = profile.settings_for(name)
    if settings is None:
        return ""
    found: list[str] = [settings.type]
    if settings.concurrency:
        found.append(f"{settings.concurrency} at once")
    if settings.rpm:
        found.append(f"{settings.rpm} in {settings.window_s:g} s")
    return ", ".join(found)
