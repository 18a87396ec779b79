"""The offer of `submit` and `chat` to start the service where none runs.

Made only to a person at a terminal, and only for the address of the settings on this machine.
The service outlives the command and its terminal; its log lies beside the database.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from asyncsvc.cli.client import Api, Unreachable, find
from asyncsvc.cli.failures import Failure, program
from asyncsvc.cli.options import environment, settings_file
from asyncsvc.cli.terminal import has_person, say

LONGEST_S = 60.0
POLL_S = 0.1
LOOK_S = 2.0
LOG = "asyncsvc.log"


def offer_start(url: str | None) -> "subprocess.Popen[bytes] | None":
    """Start the service if a person wants it and none answers; None: nothing was started.

    `url` is the address that was given, None: that of the settings. Raises Failure where it does
    not start, SettingsError where it cannot.
    """
    if url is not None or not has_person():
        return None
    file = settings_file(None)
    environ = environment(file)
    address = find(None, environ)
    # A service elsewhere is not ours to start, and one that picks its port is not found again.
    if environ.get("ASYNCSVC_URL") or not address.direct or address.url.endswith(":0"):
        return None
    api = Api(address, LOOK_S, LOOK_S)
    if _answers(api) or not _wanted(address.url):
        return None
    from asyncsvc.config.load import load

    log = Path(load(file, environ).storage.path).absolute().with_name(LOG)
    process = _begun(file, log)
    _wait(api, process, log)
    stop = f"taskkill /PID {process.pid}" if os.name == "nt" else f"kill {process.pid}"
    say(f"started process {process.pid}, log {log}; `{stop}` stops it", sys.stderr)
    return process


def _wanted(url: str) -> bool:
    say(f"No service runs at {url}. Start it here, in the background? [Y/n]", sys.stderr)
    try:
        return input().strip().lower() in ("", "y", "yes")
    except EOFError:
        return False


def _answers(api: Api) -> bool:
    """Whether anything answers there, be it no asyncsvc."""
    try:
        api.get("/health")
    except Unreachable:
        return False
    except Failure:
        return True
    return True


def _begun(file: Path | None, log: Path) -> "subprocess.Popen[bytes]":
    """The process of the service, apart from this terminal."""
    main = Path(sys.argv[0])
    called = [str(main.absolute())] if main.name == "main.py" else ["-m", "asyncsvc"]
    given = ["--settings", str(file.absolute())] if file is not None else []
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as out:
            return subprocess.Popen(
                [sys.executable, *called, "serve", *given],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                **apart,
            )
    except OSError as error:
        raise Failure(f"{log} cannot be written: {error.strerror or error}") from None


def _wait(api: Api, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the service answers. Raises Failure where it ends, or takes too long."""
    end = time.monotonic() + LONGEST_S
    while process.poll() is None:
        if _answers(api):
            return
        if time.monotonic() > end:
            raise Failure(f"the service does not answer yet; its log is {log}")
        time.sleep(POLL_S)
    last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    why = last[-1].removeprefix("asyncsvc: ") if last else "it says nothing"
    raise Failure(f"the service did not start: {why} (`{program()} doctor` says more)")
