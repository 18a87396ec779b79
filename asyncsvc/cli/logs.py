"""Logging of the process.

Owns the format and the levels. Promises one line a record, to stderr, with time and level.
Never logs anything itself.
"""

import logging

FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"
DATE = "%Y-%m-%d %H:%M:%S"
LIBRARIES = ("uvicorn", "httpx", "httpcore", "aiohttp", "websockets", "asyncio")


def set_up(ours: int = logging.INFO) -> None:
    """Log our own records from `ours` on, the libraries' from WARNING on."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT, DATE))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("asyncsvc").setLevel(ours)
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
