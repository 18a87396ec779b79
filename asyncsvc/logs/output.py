"""The output of the log: one handler on stderr for all loggers, set up by a command.

Our own loggers write from the level of the settings on, libraries from WARNING on. JSON is written
where stderr is no terminal, or where the settings say so. `apply` takes over settings that were
read again. No other part of the program configures logging.
"""

import logging
import sys
from collections.abc import Iterable
from typing import TextIO

from asyncsvc.config.telemetry import Log
from asyncsvc.logs.lines import JsonLines, Masking, TextLines
from asyncsvc.logs.repeats import RepeatLimit

LIBRARIES = ("uvicorn", "httpx", "httpcore", "aiohttp", "websockets", "asyncio")
QUIET = {"opentelemetry": logging.ERROR}
"""Libraries that warn of each try that failed, and then of the failure."""


class LogOutput:
    """Writes the records of all loggers to a stream, from its making on."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._handler = logging.StreamHandler(stream or sys.stderr)
        self._repeats = RepeatLimit(self._handler.handle)
        self._handler.addFilter(self._repeats)
        logging.basicConfig(level=logging.WARNING, handlers=[self._handler], force=True)
        for name in LIBRARIES:
            logging.getLogger(name).setLevel(logging.WARNING)
        for name, level in QUIET.items():
            logging.getLogger(name).setLevel(level)

    def apply(self, settings: Log, secrets: Iterable[str] = ()) -> None:
        """Take over the settings; what is logged from now on holds none of the secrets."""
        mask = Masking(secrets)
        terminal = self._handler.stream.isatty()
        as_json = settings.format == "json" or (settings.format == "auto" and not terminal)
        self._handler.setFormatter(JsonLines(mask) if as_json else TextLines(mask))
        logging.getLogger("asyncsvc").setLevel(settings.level.upper())

    def close(self) -> None:
        """Write how many records were held back as repetitions."""
        self._repeats.close()
        self._handler.flush()
