"""`simulator`: the simulated provider in this process.

Prints the line `simulator listening on URL` on stdout once it takes calls.
"""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from asyncsvc.cli.options import FAILED, HERE, MISUSED, Failure, Port
from asyncsvc.cli.serve import fastest_loop
from asyncsvc.simulator import Profile, ProfileError, serve

app = typer.Typer()
HOST = "127.0.0.1"


@app.command(rich_help_panel=HERE)
def simulator(
    port: Port = 0,
    profile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Models, limits, faults, in TOML.")
    ] = None,
) -> int:
    """Serve the simulated provider alone, to try limits and faults."""
    try:
        simulated = Profile.load(profile) if profile is not None else Profile.builtin()
    except ProfileError as error:
        raise Failure("; ".join(str(error).splitlines()), MISUSED) from None

    def announce(line: str) -> None:
        for each in _introduction(simulated, line.split()[-1]):
            print(each)
        print(line, flush=True)

    try:
        with asyncio.Runner(loop_factory=fastest_loop()) as runner:
            runner.run(_until_signalled(serve(simulated, HOST, port or 0, announce)))
    except OSError as error:
        raise Failure(
            f"cannot listen on {HOST}:{port}: {error.strerror or error}; choose another --port N",
            FAILED,
        ) from None
    return 0


def _introduction(profile: Profile, url: str) -> list[str]:
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
    return [*lines, f"figures {url}/_sim/stats"]


def _limits(profile: Profile, name: str) -> str:
    settings = profile.settings_for(name)
    if settings is None:
        return ""
    found: list[str] = [settings.type]
    if settings.concurrency:
        found.append(f"{settings.concurrency} at once")
    if settings.rpm:
        found.append(f"{settings.rpm} in {settings.window_s:g} s")
    return ", ".join(found)


async def _until_signalled(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C ends the runner there
            loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
