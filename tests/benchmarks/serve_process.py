"""The service as a process for benchmarks: settings from a file, nothing else around it.

Promises to be the product's own loading and server, on uvloop, with warnings on stderr. Never
prints anything but the URL.
"""

import argparse
import logging
import os
from pathlib import Path

import uvloop

from asyncsvc.loading import load
from asyncsvc.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    settings = load(options.settings, os.environ, {"server": {"port": options.port}})
    uvloop.run(serve(settings, os.environ, lambda url: print(url, flush=True)))


if __name__ == "__main__":
    main()
