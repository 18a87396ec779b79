"""`selftest`: proof of durability on this machine, as one page with a verdict.

Everything happens in a new folder on the disk of `storage.path`, on free loopback ports, with
settings of its own: no database, provider or key of the user is touched. The exit code is 0 where
no line fails.
"""

import random
from pathlib import Path
from typing import Annotated

from asyncsvc.cli.arguments import Commands, Option
from asyncsvc.cli.options import HERE, Json, SettingsFile, environment, settings_file

app = Commands()


@app.command(group=HERE)
def selftest(
    kills: Annotated[int, Option(metavar="N", min=1, max=500, help="Kills of the service.")] = 20,
    folder: Annotated[
        Path | None,
        Option("--dir", metavar="DIR", help="Default: the folder of storage.path."),
    ] = None,
    seed: Annotated[
        int | None, Option(metavar="N", min=0, help="Of an earlier run, to repeat it.")
    ] = None,
    keep: Annotated[
        bool, Option("--keep", help="Keep the scratch folder, with database and logs.")
    ] = False,
    as_json: Json = False,
    settings: SettingsFile = None,
) -> int:
    """Prove on this machine that kills lose, repeat and double nothing: about a minute."""
    from asyncsvc.cli import selftest_page
    from asyncsvc.selftest.selftest import Plan

    plan = Plan(kills=kills, seed=random.randrange(1_000_000) if seed is None else seed)
    return selftest_page.run(folder or _folder(settings), plan, keep, as_json)


def _folder(settings: Path | None) -> Path:
    """The folder of the database; the first above it that there is."""
    from asyncsvc.config.load import load

    file = settings_file(settings)
    path = Path(load(file, environment(file)).storage.path).absolute()
    return next(each for each in path.parents if each.exists())
