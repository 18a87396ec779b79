"""`serve`: the service in this process.

Prints the stable line `listening on URL` on stdout once tasks are taken, and exits with 0 after
SIGTERM or SIGINT at any moment: the server is imported only after the signal handler is set.
Neither rich's tables nor the simulator is imported, so that the start stays fast.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from asyncsvc.cli.options import HERE, Database, Port, SettingsFile, program, settings_file

app = typer.Typer()
log = logging.getLogger(__name__)


@app.command(rich_help_panel=HERE)
def serve(
    settings: SettingsFile = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Port = None,
    db: Database = None,
) -> int:
    """Start the service; flags win over environment, environment over file."""
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        _serve(settings, host, port, db)
    except KeyboardInterrupt:
        pass  # it came before the server had taken over the signals: nothing was begun
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _leave(*_: object) -> None:
    raise KeyboardInterrupt


def _serve(named: Path | None, host: str | None, port: int | None, db: Path | None) -> None:
    from asyncsvc import server
    from asyncsvc.config.load import load
    from asyncsvc.config.settings import Settings
    from asyncsvc.providers.registry import Catalogue

    def announce(url: str) -> None:
        catalogue = Catalogue(settings, environ)
        for line in told(settings, catalogue, file):
            print(line)
        print(f"database  {Path(settings.storage.path).absolute()}")
        print(f"listening on {url}", flush=True)
        enabled = ", ".join(dict.fromkeys(u.name for u in catalogue.upstreams)) or "none"
        lacks = "; ".join(f"{name}: {why}" for name, why in catalogue.disabled.items())
        log.info("listening on %s; models enabled: %s; disabled: %s", url, enabled, lacks or "none")

    def read() -> Settings:
        return load(file, environ, overrides(host, port, db))

    environ: Mapping[str, str] = os.environ
    found = settings_file(named)
    # Absolute: a reload must find it wherever the process has gone.
    file = found and found.absolute()
    settings = read()
    log_to_stderr()
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        runner.run(server.serve(settings, environ, announce, read=read))
    log.info("stopped")


def overrides(host: str | None, port: int | None, db: Path | None) -> dict[str, dict[str, Any]]:
    """What the flags say, in the shape of the settings."""
    found: dict[str, dict[str, Any]] = {
        "server": {"host": host, "port": port},
        "storage": {"path": str(db) if db is not None else None},
    }
    return {
        section: kept
        for section, values in found.items()
        if (kept := {key: value for key, value in values.items() if value is not None})
    }


def told(settings: Any, catalogue: Any, file: Path | None) -> list[str]:
    """What was found, for the person at the terminal."""
    from asyncsvc.providers.agents import crowded

    enabled = dict.fromkeys(upstream.name for upstream in catalogue.upstreams)
    names = {**{name: "" for name in enabled}, **catalogue.disabled}
    width = max((len(name) for name in names), default=0)
    lines = [f"settings  {file or 'built-in defaults (no settings.toml found)'}"]
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


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where the platform has it."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"
DATE = "%Y-%m-%d %H:%M:%S"
LIBRARIES = ("uvicorn", "httpx", "httpcore", "aiohttp", "websockets", "asyncio")


def log_to_stderr(ours: int = logging.INFO) -> None:
    """Log our own records from `ours` on, the libraries' from WARNING on."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT, DATE))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("asyncsvc").setLevel(ours)
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
