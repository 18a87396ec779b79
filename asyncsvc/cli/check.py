"""`check`: whether the service could start here, with a remedy for each fault.

Changes nothing and works beside a running service. Calls no model unless `--try` is given.
"""

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from asyncsvc import __version__
from asyncsvc.cli.arguments import Commands, Option
from asyncsvc.cli.findings import wrong
from asyncsvc.cli.options import HERE, MISUSED, SettingsFile, environment, program, settings_file
from asyncsvc.cli.serve import left_behind, summary
from asyncsvc.cli.terminal import say
from asyncsvc.config import advice
from asyncsvc.config.load import load
from asyncsvc.config.settings import Settings
from asyncsvc.errors import SettingsError, UnsafeFile
from asyncsvc.net.signing import Signer
from asyncsvc.net.tls import server_context
from asyncsvc.providers import addresses
from asyncsvc.providers.registry import Catalogue
from asyncsvc.storage import lock, own_files
from asyncsvc.storage.backup import NotACopy, look
from asyncsvc.storage.database import VERSION
from asyncsvc.tools import registry

app = Commands()


@app.command(group=HERE)
def check(
    settings: SettingsFile = None,
    call: Annotated[bool, Option("--try", help="Make one small call for each key.")] = False,
) -> int:
    """Say whether the service could start here, and how to mend what is wrong."""
    file = settings_file(settings)
    say(f"asyncsvc  {__version__}, Python {platform.python_version()}, SQLite {VERSION}")
    try:
        environ = environment(file)
        found = load(file, environ)
        lines = summary(found, Catalogue(found, environ), file)
        variable = found.webhooks.secret_env
        signed = bool(Signer.of(variable, environ))
        if found.server.certfile:
            server_context(found.server.certfile, found.server.keyfile)
    except SettingsError as error:
        say(f"settings  {file}")
        return _verdict(error.lines)
    for line in lines:
        say(line)
    say(f"webhooks  {'signed with' if signed else 'refused without a secret in'} {variable}")
    path = Path(found.storage.path)
    state, faults = database(path)
    say(f"database  {path.absolute()}")
    if state:
        say(f"          {state}")
    for note in left_behind(found, file):
        say(f"note      {note}")
    for note in own_files.open_to_others(path):
        say(f"note      {note}; a start mends what is ours")
    for line in [
        *advice.warnings(found, environ, file),
        *addresses.warnings(found),
        *registry.warnings(found.tools),
    ]:
        say(f"warning   {line}", sys.stderr)
    return _verdict([*faults, *_tried(found, environ)] if call else faults)


def _tried(found: Settings, environ: Mapping[str, str]) -> list[str]:
    """Make one small call for each key, and return what is wrong."""
    from asyncsvc.cli import trial_calls

    api = trial_calls.running(environ)
    calls = trial_calls.made(found, environ, api, lambda line: say(f"calls     {line}"))
    for each in calls:
        if each.level != "wrong":
            say(f"{each.part if each.level == 'ok' else each.level:9} {each}")
    return [str(each) for each in wrong(calls)]


def _verdict(faults: list[str]) -> int:
    for fault in faults:
        say(f"wrong     {fault}", sys.stderr)
    say(
        f"not ready: mend {'these' if len(faults) > 1 else 'this'} first"
        if faults
        else f"ready: `{program()} serve` starts it"
    )
    return MISUSED if faults else 0


def database(path: Path) -> tuple[str, list[str]]:
    """Return the state of the database file, and its faults."""
    try:
        own_files.check(path)
    except UnsafeFile as unsafe:
        return "", [str(unsafe)]
    if not path.exists():
        return _place_for(path)
    try:
        count, schema = look(path)
    except NotACopy as error:
        return "", [f"{path}: cannot be used: {error}; restore a backup or set storage.path"]
    return f"can be read: {count} tasks, schema {schema}, {_holder(path)}", []


def _place_for(path: Path) -> tuple[str, list[str]]:
    folder = next(p for p in path.absolute().parents if p.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return "", [f"{path}: cannot be made in {folder}: no right to write; set storage.path"]
    return "will be made at the first start", []


def _holder(path: Path) -> str:
    process = lock.holder(path)
    if process is None:
        return "not in use"
    return f"in use by a running asyncsvc ({process}), which is fine"
