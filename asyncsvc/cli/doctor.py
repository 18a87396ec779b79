"""`doctor`: all that can be found wrong with a running or stopped service, each with its remedy.

Calls no model unless `--call` is given. Exits with 2 where something keeps it from working.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from asyncsvc import __version__
from asyncsvc.cli import examination, trial_calls
from asyncsvc.cli.arguments import Commands, Option
from asyncsvc.cli.client import Api, Unreachable, find
from asyncsvc.cli.findings import Finding, Level, show, wrong
from asyncsvc.cli.options import (
    HERE,
    MISUSED,
    Failure,
    Json,
    SettingsFile,
    Url,
    environment,
    print_json,
    program,
    settings_file,
)
from asyncsvc.cli.serve import left_behind
from asyncsvc.cli.terminal import say
from asyncsvc.config import advice
from asyncsvc.config.load import load
from asyncsvc.config.settings import Settings
from asyncsvc.errors import SettingsError
from asyncsvc.net.signing import Signer
from asyncsvc.net.tls import server_context
from asyncsvc.providers import addresses
from asyncsvc.providers.registry import Catalogue
from asyncsvc.storage.lock import holder
from asyncsvc.tools import registry

app = Commands()


@app.command(group=HERE)
def doctor(
    settings: SettingsFile = None,
    call: Annotated[bool, Option("--call", help="Make one small call for each key.")] = False,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Look at everything, running or stopped, and say how to mend what is wrong."""
    file = settings_file(settings)
    found = list(examination.versions())
    environ: Mapping[str, str] = {}
    read: Settings | None = None
    try:
        environ = environment(file)
        read = load(file, environ)
    except SettingsError as error:
        found += [Finding("settings", "wrong", line) for line in error.lines]
    if read is None:
        found.append(examination.clock(None))
        return _ended(found, as_json)
    place = file or f"built-in defaults: no settings.toml here; `{program()} init` writes one"
    found += [Finding("settings", "ok", str(place)), *_of_settings(read, environ, file)]
    api, of_service = _service(read, environ, url)
    found += [*of_service, *examination.files(read), *examination.disk(read)]
    found.append(examination.clock(Path(read.storage.path)))
    if api is None:
        found += [examination.port(read), examination.sandbox(read.tools)]
    if call:
        found += trial_calls.made(read, environ, api, lambda line: None if as_json else say(line))
    return _ended(found, as_json)


def _ended(found: list[Finding], as_json: bool) -> int:
    faults = wrong(found)
    if as_json:
        print_json({"ok": not faults, "findings": [each.as_dict() for each in found]})
        return MISUSED if faults else 0
    show(found)
    number = len(faults)
    say("nothing is wrong" if not number else f"mend {'this' if number == 1 else 'these'} first:")
    for each in faults:
        say(f"  {each}")
    return MISUSED if faults else 0


def _of_settings(
    settings: Settings, environ: Mapping[str, str], file: Path | None
) -> Iterator[Finding]:
    """Yield models with and without keys, and what is odd in the settings."""
    try:
        catalogue = Catalogue(settings, environ)
    except SettingsError as error:
        yield from (Finding("settings", "wrong", line) for line in error.lines)
        return
    for name in dict.fromkeys(upstream.name for upstream in catalogue.upstreams):
        yield Finding("model", "ok", f"{name}  {', '.join(settings.models[name].model_ids)}")
    for name, why in catalogue.disabled.items():
        yield Finding("model", "note", f"{name} is disabled", why)
    if not catalogue.upstreams:
        yield Finding("model", "warning", "no model is enabled", "set a key in .env, then reload")
    for check in (_signer, _certificate):
        try:
            check(settings, environ)
        except SettingsError as error:
            yield from (Finding("settings", "wrong", line) for line in error.lines)
    lines = [*advice.warnings(settings, environ, file), *addresses.warnings(settings)]
    lines += [*registry.warnings(settings.tools), *left_behind(settings, file)]
    yield from (Finding("settings", "warning", line) for line in lines)


def _signer(settings: Settings, environ: Mapping[str, str]) -> None:
    Signer.of(settings.webhooks.secret_env, environ)


def _certificate(settings: Settings, environ: Mapping[str, str]) -> None:
    if settings.server.certfile:
        server_context(settings.server.certfile, settings.server.keyfile)


def _service(
    settings: Settings, environ: Mapping[str, str], url: str | None
) -> tuple[Api | None, list[Finding]]:
    """A client of the service where one runs, and what it says of itself."""
    address = find(url, environ)
    api = Api(address, trial_calls.LOOK_S, trial_calls.LOOK_S)
    try:
        health = api.get("/health")
    except Unreachable:
        if (process := holder(Path(settings.storage.path))) is not None:
            text = f"one runs ({process}), and none answers at {address.url}"
            remedy = "give its address by --url; if it is the right one, look into its log"
            return None, [Finding("service", "wrong", text, remedy)]
        remedy = f"`{program()} serve` starts it"
        return None, [Finding("service", "note", f"none answers at {address.url}", remedy)]
    except Failure as failure:
        return None, [Finding("service", "wrong", f"at {address.url}: {failure}")]
    return api, [*_of_health(address.url, health), *_of_models(api)]


def _of_health(url: str, health: dict[str, Any]) -> Iterator[Finding]:
    version = health.get("version")
    yield Finding("service", "ok", f"{url} answers: process {health.get('pid')}, {version}")
    if version != __version__:
        text = f"it runs {version}, and this command is {__version__}"
        yield Finding("service", "warning", text, "restart it")
    reasons = health.get("reasons", [])
    level: Level = "warning" if health.get("taking_tasks") else "wrong"
    for reason in reasons:
        yield Finding("service", level, reason["message"], reason.get("remedy", ""))
    known = {reason["message"] for reason in reasons}
    for problem in health.get("problems", []):
        if problem not in known:
            yield Finding("service", "warning", problem)
    if health.get("sandbox"):
        yield examination.of_sandbox(health["sandbox"])


def _of_models(api: Api) -> Iterator[Finding]:
    """Yield the models that rest, and why."""
    try:
        models = api.get("/models")["models"]
    except Failure as failure:
        yield Finding("service", "warning", f"its models cannot be seen: {failure}")
        return
    for model in models:
        if model["enabled"] and model["waiting_for"]:
            yield Finding("model", "note", f"{model['name']} waits", model["waiting_for"])
        if model["paused"]:
            remedy = f"`{program()} resume-model {model['name']}`"
            yield Finding("model", "warning", f"{model['name']} is paused", remedy)
