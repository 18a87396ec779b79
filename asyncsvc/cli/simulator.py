"""`simulator`: the simulated provider in this process.

Prints the line `simulator listening on URL` on stdout once it takes calls.
"""

from pathlib import Path
from typing import Annotated

import typer

from asyncsvc.cli.options import FAILED, HERE, MISUSED, Failure, Port
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

    def announce(url: str) -> None:
        for each in _introduction(simulated, url):
            print(each)
        print(f"simulator listening on {url}", flush=True)

    try:
        serve(simulated, HOST, port or 0, announce)
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
