"""Runs the service as a process: `python -m tests.flows.serve SETTINGS`.

Prints the URL once it serves; a start that fails ends it with 2 and the reason on stderr.
"""

import asyncio
import logging
import os
import sys
from pathlib import Path

from asyncsvc.config.load import load
from asyncsvc.config.settings import Settings
from asyncsvc.errors import DatabaseLost, SettingsError, StartError
from asyncsvc.server import serve


def _announce(url: str) -> None:
    print(url, flush=True)


def _read() -> Settings:
    return load(Path(sys.argv[1]), os.environ)


def main() -> int:
    logging.basicConfig(level=logging.INFO)
    try:
        asyncio.run(serve(_read(), os.environ, _announce, read=_read))
    except (SettingsError, StartError) as error:
        print(error, file=sys.stderr)
        return 2
    except DatabaseLost as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
